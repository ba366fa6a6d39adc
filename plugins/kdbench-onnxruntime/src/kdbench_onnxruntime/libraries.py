"""NVIDIA's libraries that a provider of ONNX Runtime needs: which, whether they load, and who brings them.

Nothing is assumed of their versions: the provider's library names them, major number included. They are
looked for as `onnxruntime.preload_dlls` does it, in NVIDIA's wheels and then wherever the linker looks
(onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html, "Preload DLLs"); that function knows
nothing of TensorRT's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from kdbench_onnxruntime.elf import needed
from kdbench_onnxruntime.wheels import provider_library

_PACKAGES: Mapping[str, str] = {
    "libcublas": "nvidia-cublas",
    "libcublasLt": "nvidia-cublas",
    "libcudart": "nvidia-cuda-runtime",
    "libcudnn": "nvidia-cudnn",
    "libcufft": "nvidia-cufft",
    "libcurand": "nvidia-curand",
    "libnvrtc": "nvidia-cuda-nvrtc",
    "libnvinfer": "tensorrt",
    "libnvonnxparser": "tensorrt",
}
"""Which wheel brings a library; its version begins with the library's major number."""

_ALWAYS_SUFFIXED = ("nvidia-cudnn", "tensorrt")
"""From CUDA 13 on the wheels of the toolkit have no `-cu…` in their names; these still do."""

_LEAST: Mapping[int, tuple[int, int]] = {12: (5, 0), 13: (7, 5)}
"""The oldest compute capability that the libraries of a CUDA toolkit have kernels for.

docs.nvidia.com/cuda/cuda-toolkit-release-notes: 12 dropped Kepler; 13 Maxwell, Pascal and Volta.
"""


def wanted(provider: str) -> tuple[str, ...]:
    """List NVIDIA's libraries that a provider (`cuda`, `tensorrt`) needs, the driver's own left out.

    Both TensorRT and the convolutions need the CUDA provider too. From 1.31 on that one opens cuDNN at its
    first convolution only, and so does not name it; the TensorRT provider of the same build does.
    """
    files = {name: provider_library(name) for name in ("cuda", "tensorrt")}
    linked = {name: needed(path) if path else () for name, path in files.items()}
    names = [
        *linked["cuda"],
        *(name for name in linked["tensorrt"] if provider == "tensorrt" or _is(name, "libcudnn")),
    ]
    return tuple(dict.fromkeys(name for name in names if _stem(name) in _PACKAGES))


def toolkit(names: Sequence[str]) -> int | None:
    """Tell the major version of CUDA that these libraries belong to."""
    return next((_major(name) for name in names if _is(name, "libcudart")), None)


def least_capability(cuda: int | None) -> tuple[int, int]:
    """Tell the oldest compute capability that a toolkit's libraries run on; (0, 0) if it is not known."""
    return _LEAST.get(cuda or 0, (0, 0))


def load(names: Sequence[str]) -> tuple[str, ...]:
    """Load libraries into this process, and answer those that are not to be had."""
    folders = _folders()
    lacking = [name for name in names if not _loaded(name, folders)]
    # One that needed another of them finds it now, wherever it is.
    return tuple(name for name in lacking if not _loaded(name, folders))


def packages(names: Sequence[str], cuda: int | None) -> tuple[str, ...]:
    """Name the wheels that bring these libraries, as pip takes them, in the libraries' own major versions."""
    return tuple(dict.fromkeys(_package(name, cuda) for name in names))


def _package(name: str, cuda: int | None) -> str:
    base, major = _PACKAGES[_stem(name)], _major(name)
    suffixed = cuda is not None and (cuda < 13 or base in _ALWAYS_SUFFIXED)
    return f"'{base}{f'-cu{cuda}' if suffixed else ''}=={major}.*'"


def _folders() -> list[Path]:
    """Find where NVIDIA's wheels put their libraries; imports none of them."""
    found = find_spec("nvidia")
    roots = [Path(root) for root in (found.submodule_search_locations or ())] if found else []
    folders = [folder for root in roots for folder in sorted(root.glob("*/lib"))]
    tensorrt = find_spec("tensorrt_libs")
    if tensorrt is not None and tensorrt.origin:
        folders.append(Path(tensorrt.origin).parent)
    return folders


def _loaded(name: str, folders: Sequence[Path]) -> bool:
    paths = [str(folder / name) for folder in folders if (folder / name).is_file()]
    for candidate in (*paths, name):
        try:
            ctypes.CDLL(candidate)
        except OSError:
            continue
        return True
    return False


def _stem(name: str) -> str:
    return name.partition(".so")[0]


def _is(name: str, stem: str) -> bool:
    return _stem(name) == stem


def _major(name: str) -> int | None:
    digits = name.partition(".so.")[2].partition(".")[0]
    return int(digits) if digits.isdigit() else None
