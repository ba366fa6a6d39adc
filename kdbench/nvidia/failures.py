"""What an error of a CUDA library means, where its own words leave the user alone.

docs.nvidia.com/cuda/cuda-runtime-api ("Data types used by CUDA Runtime", cudaError_t) has the
texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from kdbench.nvidia.gpu import Gpu
from kdbench.spec import Unavailable

_MISSING = re.compile(r"(lib[\w+-]+(?:\.[\w+-]+)*?\.so(?:\.\d+)*): cannot open shared object file")

_PACKAGES = {
    "libcudart.so.12": "nvidia-cuda-runtime-cu12",
    "libcudart.so.13": "nvidia-cuda-runtime",
    "libcublas.so.12": "nvidia-cublas-cu12",
    "libcublas.so.13": "nvidia-cublas",
    "libcublasLt.so.12": "nvidia-cublas-cu12",
    "libcublasLt.so.13": "nvidia-cublas",
    "libcufft.so.11": "nvidia-cufft-cu12",
    "libcufft.so.12": "nvidia-cufft",
    "libnvrtc.so.12": "nvidia-cuda-nvrtc-cu12",
    "libnvrtc.so.13": "nvidia-cuda-nvrtc",
    "libnvJitLink.so.12": "nvidia-nvjitlink-cu12",
    "libnvJitLink.so.13": "nvidia-nvjitlink",
    "libnvinfer.so.10": "'tensorrt>=10,<11'",
    "libnvinfer_plugin.so.10": "'tensorrt>=10,<11'",
    "libnvonnxparser.so.10": "'tensorrt>=10,<11'",
    "libnvinfer.so.11": "'tensorrt-cu13>=11,<12'",
    "libnvinfer_plugin.so.11": "'tensorrt-cu13>=11,<12'",
    "libnvonnxparser.so.11": "'tensorrt-cu13>=11,<12'",
    "libtensorrt_rtx.so.1": "tensorrt-rtx",
    "libtensorrt_onnxparser_rtx.so.1": "tensorrt-rtx",
}
_EITHER = {
    "libcudnn.so.9": ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13"),
    "libcurand.so.10": ("nvidia-curand-cu12", "nvidia-curand"),
}
"""Files of one name for CUDA 12 and 13."""

_OUT_OF_MEMORY = (
    "out of memory",
    "out_of_memory",
    "outofmemory",
    "cudaerrormemoryallocation",
    "cudnn_status_alloc_failed",
    "cublas_status_alloc_failed",
)
_NO_KERNEL = (
    "no kernel image",
    "no_binary_for_gpu",
    "cudaerrornokernelimagefordevice",
    "nokernelimage",
    "target gpu sm",
)
_OLD_DRIVER = (
    "driver version is insufficient",
    "cudaerrorinsufficientdriver",
    "unsupported_ptx_version",
    "ptx was compiled with an unsupported toolchain",
    "call_requires_newer_driver",
)
_BUSY = ("busy or unavailable", "cudaerrordevicesunavailable", "cuda_error_device_unavailable")


def lack(error: BaseException, gpus: Sequence[Gpu] = ()) -> Unavailable | None:
    """Say what an error of a CUDA library means and what mends it; None for one that is not known.

    Reads the error's text and those it was raised from: vendors raise RuntimeError for everything. `gpus` are
    those that it may have been about; the first is named. Known are: out of memory, no kernel for this
    architecture, a library that is missing, a driver too old, a GPU that another process holds alone.
    """
    said = "\n".join(f"{type(one).__name__}: {one}" for one in _chain(error))
    missing = _MISSING.search(said)
    if missing:
        return _library(missing.group(1))
    lowered = said.lower()
    name = gpus[0].name if gpus else "the GPU"
    if any(words in lowered for words in _OUT_OF_MEMORY):
        return Unavailable(
            f"out of memory on {name}", "use a smaller batch, or stop what nvidia-smi shows beside it"
        )
    if any(words in lowered for words in _NO_KERNEL):
        return Unavailable(
            f"the library has no kernels for {name}{_capability(gpus)}",
            "install a release of it that was built for this architecture",
        )
    if any(words in lowered for words in _OLD_DRIVER):
        return Unavailable(
            "NVIDIA's driver is older than the CUDA version that the library was built with",
            "install a newer driver: https://www.nvidia.com/drivers, or the library for an older CUDA",
        )
    if any(words in lowered for words in _BUSY):
        return Unavailable(f"{name} is busy: another process holds it alone", "sudo nvidia-smi -c DEFAULT")
    return None


def _library(name: str) -> Unavailable:
    if name.startswith("libcuda.so"):
        return Unavailable(
            f"{name} is missing: NVIDIA's driver is not installed here", "nvidia-smi  (does it work?)"
        )
    reason = f"the library {name} is missing"
    if name in _PACKAGES:
        return Unavailable(reason, f"pip install {_PACKAGES[name]}")
    if name in _EITHER:
        older, newer = _EITHER[name]
        return Unavailable(reason, f"pip install {older}  (for CUDA 13: {newer})")
    return Unavailable(reason, f"ldconfig -p | grep {name.partition('.')[0]}")


def _capability(gpus: Sequence[Gpu]) -> str:
    return f" (compute capability {gpus[0].capability[0]}.{gpus[0].capability[1]})" if gpus else ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
