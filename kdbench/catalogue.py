"""Backends that kdbench knows by name though they may not be installed, and what each would need."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from kdbench.discovery import nearest
from kdbench.errors import BackendUnavailable, KdbenchError, UnknownBackend


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A backend known by name.

    packages: the vendor's, as pip takes them; empty where nothing is needed beside kdbench.
    needs: the hardware or software that pip cannot bring.
    checkout: what pip takes, in a checkout of kdbench, to install the plugin; empty where this
        release has no plugin of that name.
    """

    title: str
    packages: str
    needs: str
    checkout: str = ""


KNOWN: Mapping[str, Known] = MappingProxyType(
    {
        "numpy": Known(
            title="NumPy",
            packages="",
            needs="any CPU",
            checkout="plugins/kdbench-numpy",
        ),
        "onnxruntime": Known(
            title="ONNX Runtime, CPU provider",
            packages="onnxruntime",
            needs="any CPU",
            checkout="plugins/kdbench-onnxruntime[runtime]",
        ),
        "openvino": Known(
            title="OpenVINO",
            packages="openvino",
            needs="any x86-64 or Arm CPU, or an Intel GPU or NPU",
            checkout="plugins/kdbench-openvino[runtime]",
        ),
        "torch-cpu": Known(
            title="PyTorch on the CPU",
            packages="torch",
            needs="any CPU",
            checkout="plugins/kdbench-torch[runtime]",
        ),
        "executorch": Known(
            title="ExecuTorch",
            packages="executorch",
            needs="any CPU",
            checkout="plugins/kdbench-executorch[compile]",
        ),
        "litert": Known(
            title="LiteRT",
            packages="ai-edge-litert",
            needs="any CPU",
            checkout="plugins/kdbench-litert[convert]",
        ),
        "mnn": Known(title="MNN", packages="mnn", needs="any CPU", checkout="plugins/kdbench-mnn[runtime]"),
        "ncnn": Known(
            title="ncnn", packages="ncnn", needs="any CPU", checkout="plugins/kdbench-ncnn[convert]"
        ),
        "onnxruntime-cuda": Known(
            title="ONNX Runtime, CUDA provider",
            packages="onnxruntime-gpu",
            needs="an NVIDIA GPU and an environment without the package onnxruntime",
            checkout="plugins/kdbench-onnxruntime[cuda]",
        ),
        "onnxruntime-tensorrt": Known(
            title="ONNX Runtime, TensorRT provider",
            packages="onnxruntime-gpu 'tensorrt<11'",
            needs="an NVIDIA GPU and an environment without the package onnxruntime",
            checkout="plugins/kdbench-onnxruntime[cuda]",
        ),
        "tensorrt": Known(
            title="TensorRT",
            packages="tensorrt cuda-bindings",
            needs="an NVIDIA GPU",
            checkout="plugins/kdbench-tensorrt[runtime]",
        ),
        "tensorrt-rtx": Known(
            title="TensorRT for RTX",
            packages="tensorrt-rtx cuda-bindings",
            needs="an NVIDIA RTX GPU, Turing or later",
            checkout="plugins/kdbench-tensorrt[rtx]",
        ),
        "torch-cuda": Known(
            title="PyTorch on NVIDIA GPUs",
            packages="torch",
            needs="an NVIDIA GPU and the CUDA build of torch",
            checkout="plugins/kdbench-torch[runtime]",
        ),
    }
)


def explain(name: str, installed: Collection[str]) -> KdbenchError:
    """Say why no installed plugin provides the backend `name`, and how to get one.

    Answers BackendUnavailable for a name that kdbench knows, otherwise UnknownBackend.
    """
    known = KNOWN.get(name)
    if known is None:
        return _unknown(name, installed)
    if known.checkout:
        return BackendUnavailable(
            f"The backend '{name}' ({known.title}) is not installed.",
            hint=f"In a checkout of kdbench: pip install -e '{known.checkout}'",
        )
    return BackendUnavailable(
        f"The backend '{name}' ({known.title}) is not installed, and this release of kdbench has no plugin"
        " for it.",
        hint=f"The vendor's runtime is had by: pip install {known.packages} (it needs {known.needs});"
        " docs/hooks.md shows how to write the plugin that drives it.",
    )


def _unknown(name: str, installed: Collection[str]) -> KdbenchError:
    meant = nearest(name, {*installed, *KNOWN})
    question = f"Did you mean '{meant}'? " if meant else ""
    here = ", ".join(sorted(installed)) or "none"
    return UnknownBackend(f"There is no backend {name!r}.", hint=f"{question}Installed: {here}.")
