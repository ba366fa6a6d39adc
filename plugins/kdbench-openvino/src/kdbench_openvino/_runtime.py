"""OpenVINO by its public API: what is found, compiled, exported, imported, and read back."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import openvino as ov  # noqa: TID253  # this module is imported inside hooks only

from kdbench import Artifact, Device, Placement, Student, Target, TensorSpec, Unsupported
from kdbench.spec import Precision
from kdbench_openvino._requests import OpenVinoRunner, Pipeline, refuse

CAPABILITIES: Mapping[str, Precision] = {"FP32": "fp32", "BF16": "bf16", "FP16": "fp16", "INT8": "int8"}
HINTS: Mapping[Precision, str] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
TYPES: Mapping[str, Precision] = {"u8": "int8", "i8": "int8", **{hint: kind for kind, hint in HINTS.items()}}
PRODUCTS = ("Convolution", "FullyConnected", "MatMul", "Deconvolution")
"""Types of layers in which nearly all of a network's arithmetic is."""

UNKNOWN = re.compile(r"No conversion rule found for operations: ([^\n]+)")
"""What the frontend says of operators that it cannot convert, by their domains and names."""

INERT = ("Const", "Input", "Output")
SWITCHES = {"pinning": "ENABLE_CPU_PINNING", "hyper_threading": "ENABLE_HYPER_THREADING"}


def find_devices() -> tuple[Device, ...]:
    """List the devices of this machine, the CPU first if there is one."""
    core = ov.Core()
    found = []
    for name in sorted(core.available_devices, key=lambda name: (not name.startswith("CPU"), name)):
        capabilities = core.get_property(name, "OPTIMIZATION_CAPABILITIES")
        precisions = tuple(kind for capability, kind in CAPABILITIES.items() if capability in capabilities)
        if precisions:
            found.append(
                Device(_device_id(name), core.get_property(name, "FULL_DEVICE_NAME").strip(), precisions)
            )
    return tuple(found)


def settings(target: Target, offered: Container[str]) -> dict[str, Any]:
    """Translate a target into OpenVINO's properties; `offered` is what the device computes in.

    The precision hint is about floating-point operations: quantised ones are in int8 whatever it says, and
    the rest of such a network is in fp32. So is a network stored in fp16 on a device without it, where
    OpenVINO left alone would take bf16.
    """
    hint = str(target.options["hint"])
    floating = target.precision if target.precision in offered else "fp32"
    chosen: dict[str, Any] = {"INFERENCE_PRECISION_HINT": HINTS.get(floating, HINTS["fp32"])}
    if hint != "none":
        chosen["PERFORMANCE_HINT"] = (target.scenario if hint == "scenario" else hint).upper()
    if streams := target.options["num_streams"]:
        chosen["NUM_STREAMS"] = streams
    if target.device == "cpu":
        if target.threads is not None:
            chosen["INFERENCE_NUM_THREADS"] = target.threads
        for option, name in SWITCHES.items():
            if (switch := target.options[option]) != "auto":
                chosen[name] = switch == "on"
    return chosen


def export(student: Student, target: Target, workdir: Path) -> Artifact:
    """Compile for each batch size, or once with a free batch axis, and write what the device exports."""
    core = ov.Core()
    device = _device_name(target.device)
    offered = _offered(core, device)
    _refuse_precision(student, target, offered, device)
    if "EXPORT_IMPORT" not in core.get_property(device, "OPTIMIZATION_CAPABILITIES"):
        raise Unsupported(f"OpenVINO's {device} cannot export what it compiled.")
    files = {}
    for batch_size in (-1,) if target.dynamic else target.batch_sizes:
        model = _read(core, student)
        model.reshape({spec.name: [batch_size, *spec.shape] for spec in student.inputs})
        compiled = core.compile_model(model, device, settings(target, offered))
        file = workdir / f"batch-{'any' if batch_size < 0 else batch_size}.blob"
        file.write_bytes(compiled.export_model().getvalue())
        files[batch_size] = file
    notes = {
        "batch_sizes": json.dumps(list(files)),
        "inputs": json.dumps([asdict(spec) for spec in student.inputs]),
        "outputs": json.dumps([asdict(spec) for spec in student.outputs]),
    }
    return Artifact(tuple(files.values()), notes)


def _read(core: Any, student: Student) -> Any:
    """Read the ONNX file; Unsupported where it has operators that OpenVINO does not know."""
    try:
        return core.read_model(student.files["onnx"])
    except RuntimeError as fault:
        if not (found := UNKNOWN.search(str(fault))):
            raise
        names = found[1].strip(" .")
        raise Unsupported(
            f"OpenVINO knows no {names}, of which {student.name} is made.",
            hint="Use another backend that reads ONNX, such as onnxruntime; Q/DQ models run on both.",
        ) from fault


def _refuse_precision(student: Student, target: Target, offered: Container[str], device: str) -> None:
    """Refuse what would need a conversion that OpenVINO does not make, and what the device lacks."""
    asked, stored = target.precision, student.precision
    if asked == stored != "fp32":
        return
    if asked == "int8":
        raise Unsupported(
            f"OpenVINO quantises nothing by itself, and {student.name} is stored in {stored}.",
            hint="Quantise its ONNX file, and import that: `kdbench import`.",
        )
    if stored == "int8":
        raise Unsupported(
            f"{student.name} is stored in int8, and nothing makes it {asked}.",
            hint="Ask for --precision int8.",
        )
    if asked not in offered:
        have = " and ".join(kind for kind in CAPABILITIES.values() if kind in offered)
        raise Unsupported(
            f"OpenVINO's {device} computes in {have}, not {asked}.",
            hint="Ask for another --precision.",
        )


def _offered(core: Any, device: str) -> set[Precision]:
    capabilities = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    return {kind for capability, kind in CAPABILITIES.items() if capability in capabilities}


class OpenVinoSession:
    """The compiled models of one target, by batch size; -1 is the one for all.

    optimal_depth: how many requests in flight the device asks for.
    """

    def __init__(self, artifact: Artifact, target: Target) -> None:
        core = ov.Core()
        device = _device_name(target.device)
        chosen = settings(target, _offered(core, device))
        batch_sizes = json.loads(artifact.notes["batch_sizes"])
        self._inputs = _specs(artifact.notes["inputs"])
        self._outputs = _specs(artifact.notes["outputs"])
        self._models = {
            batch_size: core.import_model(file.read_bytes(), device, chosen)
            for batch_size, file in zip(batch_sizes, artifact.files, strict=True)
        }
        self._runners: list[OpenVinoRunner | Pipeline] = []
        first = self._models[batch_sizes[0]]
        self.placement = _placement(first, target.precision)
        self.optimal_depth = int(first.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))

    def runner(self, batch_size: int, depth: int) -> OpenVinoRunner | Pipeline:
        """Give a runner with requests of its own."""
        if not self._models:
            refuse()
        model = self._models.get(-1) or self._models[batch_size]
        runner = (
            OpenVinoRunner(model, self._inputs, self._outputs, batch_size)
            if depth == 1
            else Pipeline(model, self._inputs, self._outputs, batch_size, depth)
        )
        self._runners.append(runner)
        return runner

    def close(self) -> None:
        """Wait for what is in flight, close the runners, and let the compiled models go."""
        for runner in self._runners:
            runner.close()
        self._runners.clear()
        self._models.clear()


def _placement(model: Any, asked: Precision) -> Placement:
    """Read back device and threads, and the compute type from the nodes that really run."""
    names = [str(name).strip("()") for name in model.get_property("EXECUTION_DEVICES")]
    hinted = TYPES.get(model.get_property("INFERENCE_PRECISION_HINT").to_string(), "fp32")
    # Of quantised operations only the nodes tell, and only the CPU device tells of its nodes for certain.
    precision = asked if asked == "int8" else hinted
    nodes: dict[str, int] = {}
    threads = None
    if names == ["CPU"]:
        facts = [node.get_rt_info() for node in model.get_runtime_model().get_ops()]
        ran = [(fact["layerType"].astype(str), fact["runtimePrecision"].astype(str)) for fact in facts]
        kinds = [(layer, kind) for layer, kind in ran if layer not in INERT]
        nodes = {"CPU": len(kinds)}
        precision = _computed_in(kinds, asked, hinted)
        threads = model.get_property("INFERENCE_NUM_THREADS") or None
    return Placement(
        device="+".join(map(_device_id, names)),
        precision=precision,
        provider="+".join(names),
        threads=threads,
        nodes=nodes,
    )


def _computed_in(kinds: Sequence[tuple[str, str]], asked: Precision, hinted: Precision) -> Precision:
    """Tell what the nodes compute in: int8 where at least half of the products are, else as hinted.

    The hint is obeyed where any node has its type; of a small network some nodes stay in fp32.
    """
    products = [TYPES.get(kind) for layer, kind in kinds if layer in PRODUCTS]
    if asked == "int8" and products and 2 * products.count("int8") >= len(products):
        return "int8"
    return hinted if any(TYPES.get(kind) == hinted for _, kind in kinds) else "fp32"


def _device_id(name: str) -> str:
    """Turn OpenVINO's name of a device into kdbench's: `GPU` and `GPU.0` are both `gpu.0`."""
    return "gpu.0" if name == "GPU" else name.lower()


def _device_name(device: str) -> str:
    return device.upper()


def _specs(note: str) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(spec["name"], tuple(spec["shape"]), spec["dtype"]) for spec in json.loads(note))
