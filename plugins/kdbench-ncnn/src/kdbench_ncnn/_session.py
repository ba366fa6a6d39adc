"""A session of ncnn: the networks of an artifact opened on one device, and what they really compute in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ncnn  # noqa: TID253  # this module is imported inside hooks only

from kdbench import Artifact, Placement, Target, TensorSpec, Unsupported
from kdbench.spec import Precision
from kdbench_ncnn._convert import ANY
from kdbench_ncnn._devices import gpu_index, offered
from kdbench_ncnn._runner import Batch, NcnnRunner, check, refuse
from kdbench_ncnn._text import refuse_unknown

BITS: Mapping[Precision, int] = {"fp32": 32, "fp16": 16, "bf16": 16}
FP16 = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic")
BF16 = ("use_bf16_packed", "use_bf16_storage")
SWITCHES = {
    "packing": ("use_packing_layout",),
    "winograd": (
        "use_winograd_convolution",
        "use_winograd23_convolution",
        "use_winograd43_convolution",
        "use_winograd63_convolution",
    ),
    "sgemm": ("use_sgemm_convolution",),
    "lightmode": ("lightmode",),
}
PRODUCTS = ("Convolution", "Deconvolution", "InnerProduct", "Gemm", "MatMul", "MultiHeadAttention")
"""How types of layers begin in which nearly all of a network's arithmetic is."""


@dataclass(frozen=True, slots=True)
class Opened:
    """One loaded network, and of each input whether it has a batch axis."""

    net: Any
    batched: Sequence[bool]


class NcnnSession:
    """The networks of one target, by batch size; `ANY` is the one for all."""

    def __init__(self, artifact: Artifact, target: Target) -> None:
        _refuse_lacking(target)
        notes = {name: json.loads(note) for name, note in artifact.notes.items()}
        self._specs = tuple(_specs(notes[side]) for side in ("inputs", "outputs"))
        self._blobs = notes["blobs_in"], notes["blobs_out"]
        pairs = zip(artifact.files[::2], artifact.files[1::2], strict=True)
        opened = [
            Opened(_open(*pair, target), batched)
            for pair, batched in zip(pairs, notes["batched"], strict=True)
        ]
        self._networks: dict[int, Opened] = {int(size): opened[index] for size, index in notes["batches"]}
        self._runners: list[NcnnRunner] = []
        first = target.batch_sizes[0]
        self.placement = _placement(self._find(first).net, target, self._batch(first))

    def runner(self, batch_size: int) -> NcnnRunner:
        """Give a runner with inputs and outputs of its own; any number of them share the weights."""
        runner = NcnnRunner(self._find(batch_size).net, self._batch(batch_size), self._blobs, self._specs[1])
        self._runners.append(runner)
        return runner

    def close(self) -> None:
        """Close the runners, then give back the weights."""
        for runner in self._runners:
            runner.close()
        self._runners.clear()
        for opened in self._networks.values():
            opened.net.clear()
        self._networks.clear()

    def _find(self, batch_size: int) -> Opened:
        if not self._networks:
            refuse()
        found = self._networks.get(ANY) or self._networks.get(batch_size)
        if found is None:
            raise ValueError(f"This artifact has no network for the batch size {batch_size}.")
        return found

    def _batch(self, batch_size: int) -> Batch:
        return Batch(self._specs[0], self._find(batch_size).batched, batch_size)


def _refuse_lacking(target: Target) -> None:
    """Refuse a device that is not here, and a precision that it does not compute in."""
    have = offered(target.device)
    if not have:
        raise Unsupported(f"Vulkan finds no {target.device} here.", hint="Ask for --device cpu.")
    if target.precision not in have:
        raise Unsupported(
            f"ncnn computes in {' and '.join(have)} on {target.device} here, not in {target.precision}.",
            hint="Ask for another --precision.",
        )


def settings(target: Target) -> dict[str, Any]:
    """Translate a target into ncnn's options; all of them take effect only before a network is loaded."""
    chosen: dict[str, Any] = {"use_vulkan_compute": target.device != "cpu"}
    chosen |= dict.fromkeys(FP16, target.precision == "fp16")
    chosen |= dict.fromkeys(BF16, target.precision == "bf16")
    for option, names in SWITCHES.items():
        chosen |= dict.fromkeys(names, bool(target.options[option]))
    if target.threads is not None:
        chosen["num_threads"] = target.threads
    return chosen


def _open(param: Path, weights: Path, target: Target) -> Any:
    """Load one network; ncnn prints what is wrong and answers a number."""
    refuse_unknown(param.read_text(), "the network")
    net = ncnn.Net()
    for name, value in settings(target).items():
        setattr(net.opt, name, value)
    if target.device != "cpu":
        net.set_vulkan_device(gpu_index(target.device))
    check(net.load_param(str(param)), f"read {param.name}")
    check(net.load_model(str(weights)), f"read {weights.name}")
    return net


def _placement(net: Any, target: Target, batch: Batch) -> Placement:
    """Read back the device, the threads, and what the layers compute in.

    ncnn takes back `use_vulkan_compute` where there is no GPU, and runs layers without a shader on the CPU.
    """
    if not net.opt.use_vulkan_compute:
        precision, nodes = _computed_in(net, target.precision, batch)
        return Placement(
            device="cpu", precision=precision, provider="cpu", threads=net.opt.num_threads, nodes=nodes
        )
    layers = [layer for layer in net.layers() if layer.type != "Input"]
    on_gpu = sum(layer.support_vulkan for layer in layers)
    nodes = {"vulkan": on_gpu, "cpu": len(layers) - on_gpu}
    return Placement(
        device=target.device if on_gpu else "cpu",
        precision="fp16" if net.opt.use_fp16_arithmetic else "fp32",
        provider="vulkan",
        threads=net.opt.num_threads,
        nodes={where: count for where, count in nodes.items() if count},
    )


def _computed_in(net: Any, asked: Precision, batch: Batch) -> tuple[Precision, Mapping[str, int]]:
    """Run once, and look at how wide the layers' outputs are: layers without 16 bits compute in fp32.

    The precision is that which was asked for where at least half of the products are in it.
    """
    extractor = net.create_extractor()
    extractor.set_light_mode(False)
    for index, mat in zip(net.input_indexes(), batch.mats, strict=True):
        check(extractor.input(index, mat), "take an input")
    kinds: list[tuple[str, Precision]] = []
    for layer in net.layers():
        if layer.type in ("Input", "Noop", "Split"):
            continue
        blob = ncnn.Mat()
        check(extractor.extract(layer.tops[0], blob, 1), f"run the layer {layer.name}")
        kinds.append((layer.type, asked if blob.elembits() == BITS[asked] else "fp32"))
    products = [precision for kind, precision in kinds if kind.startswith(PRODUCTS)]
    counted = products or [precision for _, precision in kinds]
    precision = asked if 2 * counted.count(asked) >= len(counted) else "fp32"
    ran = [precision for _, precision in kinds]
    return precision, {f"cpu {kind}": ran.count(kind) for kind in sorted(set(ran))}


def _specs(note: Any) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(spec["name"], tuple(spec["shape"]), spec["dtype"]) for spec in note)
