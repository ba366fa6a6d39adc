"""What an artifact says of itself: what its engines are, and for which GPU and version they were built."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdbench import Artifact
from kdbench.nvidia import Gpu
from kdbench_tensorrt.building import Workshop
from kdbench_tensorrt.layers import Layer, networks_from_json
from kdbench_tensorrt.network import Signature

LAYERS, TIMING = "layers.json", "timing.cache"

Built = Mapping[str, str]
"""The version of TensorRT, and name and compute capability of the GPU; empty where there was none."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An artifact, taken apart.

    engines: by batch size. model: the ONNX file that they were built from. layers: of the network, by batch
        size.
    """

    engines: Mapping[int, Path]
    model: Path
    timing: bytes
    signature: Signature
    built: Built
    layers: Mapping[int, tuple[Layer, ...]]


def file_name(batch_size: int) -> str:
    """Name the file of an engine."""
    return f"batch-{batch_size or 'any'}.engine"


def built_for(version: str, gpu: Gpu | None) -> Built:
    """Tell what an engine that is built now is for."""
    capability = "{}.{}".format(*gpu.capability) if gpu else ""
    return {"version": version, "gpu": gpu.name if gpu else "", "capability": capability}


def notes_of(workshop: Workshop, sizes: Sequence[int]) -> dict[str, str]:
    """Write down for load what the files do not tell."""
    return {
        "engines": json.dumps(list(sizes)),
        "model": workshop.model.name,
        "signature": json.dumps(workshop.signature.to_plain()),
        "built": json.dumps(built_for(workshop.trt.__version__, workshop.gpu)),
    }


def read(artifact: Artifact) -> Stored:
    """Take an artifact apart, its files wherever they are now."""
    files = {file.name: file for file in artifact.files}
    notes = artifact.notes
    sizes = json.loads(notes["engines"])
    networks = networks_from_json(files[LAYERS].read_text(encoding="utf-8"))
    return Stored(
        engines={size: files[file_name(size)] for size in sizes},
        model=files[notes["model"]],
        timing=files[TIMING].read_bytes() if TIMING in files else b"",
        signature=Signature.from_plain(json.loads(notes["signature"])),
        built=json.loads(notes["built"]),
        layers={size: networks[file_name(size)] for size in sizes},
    )


def unlike(built: Built, here: Built, *, portable: bool = False, lasting: bool = False) -> str:
    """Say why an engine is not for this GPU and version; empty where it is.

    portable: an engine that is not bound to its GPU. lasting: one that another version may open.
    """
    if built["version"] != here["version"] and not lasting:
        return f"it was built by version {built['version']}, and this is {here['version']}"
    if portable or (built["gpu"], built["capability"]) == (here["gpu"], here["capability"]):
        return ""
    was, now = (f"{one['gpu'] or 'no GPU'} ({one['capability'] or 'none'})" for one in (built, here))
    return f"it was built for {was}, and this is {now}"
