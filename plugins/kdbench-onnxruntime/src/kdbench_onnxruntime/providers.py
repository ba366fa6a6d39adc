"""The execution providers of ONNX Runtime but NVIDIA's: their names, devices and settings, as data.

Each has a page at onnxruntime.ai/docs/execution-providers; the options come from there. A provider is either
built into a wheel of ONNX Runtime or a library of its own (a plugin provider) that a second wheel brings:
onnxruntime.ai/docs/execution-providers/plugin-ep-libraries.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from kdbench import Target, Unsupported

CPU = "cpu"

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One execution provider.

    name: ONNX Runtime's own. kinds: of device that it computes on, with the options that choose each.
    wheel: the distribution that brings it, or in words what does. library: the import package of a plugin
    provider, whose `get_library_path` and `get_ep_name` tell ONNX Runtime where it is.
    threads: its option for the number of threads. fp32: what keeps it from computing an fp32 network in less.
    widens: kinds of device on which it computes fp16 in fp32. memory_pattern: False where it allows none.
    memory: whether inputs have to be copied to memory of its own, which binding one does.
    """

    name: str
    kinds: Mapping[str, Mapping[str, str]]
    wheel: str
    library: str = ""
    threads: str = ""
    fp32: Mapping[str, str] = field(default_factory=dict)
    widens: tuple[str, ...] = ()
    memory_pattern: bool = True
    memory: bool = False


PROVIDERS: Mapping[str, Provider] = {
    CPU: Provider(name="CPUExecutionProvider", kinds={"cpu": {}}, wheel="onnxruntime"),
    "openvino": Provider(
        name="OpenVINOExecutionProvider",
        kinds={kind: {"device_type": kind.upper()} for kind in ("cpu", "gpu", "npu")},
        wheel="onnxruntime-openvino",
        threads="num_of_threads",
        fp32={"precision": "FP32"},
        widens=("cpu",),
    ),
    "qnn": Provider(
        name="QNNExecutionProvider",
        kinds={
            "npu": {"backend_type": "htp"},
            "gpu": {"backend_type": "gpu"},
            "cpu": {"backend_type": "cpu"},
        },
        wheel="onnxruntime-qnn",
        library="onnxruntime_qnn",
    ),
    "dml": Provider(
        name="DmlExecutionProvider",
        kinds={"gpu": {}},
        wheel="onnxruntime-directml",
        memory_pattern=False,
        memory=True,
    ),
    "coreml": Provider(
        name="CoreMLExecutionProvider",
        kinds={
            "gpu": {"MLComputeUnits": "CPUAndGPU"},
            "npu": {"MLComputeUnits": "CPUAndNeuralEngine"},
            "cpu": {"MLComputeUnits": "CPUOnly"},
        },
        wheel="onnxruntime",
    ),
    "migraphx": Provider(
        name="MIGraphXExecutionProvider", kinds={"gpu": {}}, wheel="onnxruntime-migraphx", memory=True
    ),
    "xnnpack": Provider(
        name="XnnpackExecutionProvider",
        kinds={"cpu": {}},
        wheel="a build of ONNX Runtime with --use_xnnpack",
        threads="intra_op_num_threads",
    ),
    "dnnl": Provider(
        name="DnnlExecutionProvider", kinds={"cpu": {}}, wheel="a build of ONNX Runtime with --use_dnnl"
    ),
    "webgpu": Provider(
        name="WebGpuExecutionProvider",
        kinds={"gpu": {}},
        wheel="a build of ONNX Runtime with --use_webgpu",
        memory=True,
    ),
}


def kind_of(device: str) -> str:
    """Give the kind of a device's id."""
    return device.split(":")[0].split(".")[0]


def requested(target: Target) -> Provider:
    """Give the provider that a target asks for. Raises Unsupported if it does not compute on its device."""
    provider = PROVIDERS[str(target.options["provider"])]
    if kind_of(target.device) not in provider.kinds:
        usable = [name for name, other in PROVIDERS.items() if kind_of(target.device) in other.kinds]
        raise Unsupported(
            f"{provider.name} does not compute on {target.device}, but on {' or '.join(provider.kinds)}.",
            hint=f"Ask for provider={' or '.join(usable)}, or for another --device.",
        )
    return provider


def settings(provider: Provider, target: Target) -> dict[str, str]:
    """Give the options of a provider: those that the target implies, and the user's own.

    Raises Unsupported for a text that holds no options, or one that the target decides already.
    """
    implied = dict(provider.kinds[kind_of(target.device)])
    if target.precision == "fp32":
        implied |= provider.fp32
    if provider.threads and target.threads is not None:
        implied[provider.threads] = str(target.threads)
    given = parse(str(target.options["provider_options"]))
    if given and provider is PROVIDERS[CPU]:
        raise Unsupported(
            "The CPU provider has no provider_options.", hint="Name another provider, or leave them out."
        )
    decided = {**{provider.threads: ""}, **provider.fp32, **implied}
    for key in given:
        if key and key in decided:
            raise Unsupported(
                f"{key} cannot be set in provider_options: --device, --threads and the precision decide it.",
                hint="Leave it out.",
            )
    return {**implied, **given}


def parse(text: str) -> dict[str, str]:
    """Read `key=value;key=value`. Raises Unsupported for anything else, or for a key that comes twice."""
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        key, equals, value = part.partition("=")
        if not equals or not _KEY.fullmatch(key) or not value or key in found:
            raise Unsupported(
                f"provider_options cannot hold {part!r}.",
                hint="It takes key=value;key=value, each key once, as the provider's own page names them.",
            )
        found[key] = value
    return found
