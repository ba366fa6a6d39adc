"""Whether an edition can run here: its library, CUDA's bindings, the driver and its GPUs."""

from __future__ import annotations

import re
from importlib import metadata

from kdbench import Availability, Available, Unavailable
from kdbench.nvidia import devices, look
from kdbench.spec import Precision
from kdbench_tensorrt.editions import Edition

PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "fp16", "bf16")

_MISSING = re.compile(r"(lib[\w+-]+\.so[\d.]*): cannot open shared object file")
_INDEX = "--extra-index-url https://pypi.nvidia.com"


def probe(edition: Edition) -> Availability:
    """Look for what is missing in the order in which it would be met; never raises.

    Libraries come first: without them nobody can say which driver is needed.
    """
    lacking = _lacking_library(edition) or _lacking_bindings(edition)
    if lacking is not None:
        return lacking
    gpus = look(cuda=needed_cuda(edition))
    if isinstance(gpus, Unavailable):
        return gpus
    return Available(str(edition.vendor().__version__), devices(gpus, PRECISIONS))


def needed_cuda(edition: Edition) -> tuple[int, int]:
    """Give the CUDA version that the driver must serve: that of the newest major among the installed wheels.

    Within a major, any driver of it will do
    (docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html).
    """
    majors = [12]
    majors += [major for major in (12, 13) if _installed(f"{edition.libraries}-cu{major}-bindings")]
    if version := _installed("cuda-bindings"):
        majors.append(int(version.split(".")[0]))
    return max(majors), 0


def _lacking_library(edition: Edition) -> Unavailable | None:
    try:
        version = str(edition.vendor().__version__)
    except ModuleNotFoundError:
        fix = f"pip install {edition.libraries} cuda-bindings onnx"
        return Unavailable(f"{edition.module} is not installed.", fix)
    except ImportError as error:
        return _without_library(edition, str(error))
    # What a broken installation raises is not foreseen, and a probe answers.
    except Exception as error:
        reason = f"{edition.module} does not import: {type(error).__name__}: {error}"
        return Unavailable(reason, f"pip install --force-reinstall {edition.libraries}")
    if tuple(int(part) for part in version.split(".")[:2]) >= edition.oldest:
        return None
    oldest = "{}.{}".format(*edition.oldest)
    return Unavailable(
        f"{edition.title} {version} is too old: {oldest} is the oldest that will do.",
        f"pip install '{edition.libraries}>={oldest}'",
    )


def _without_library(edition: Edition, told: str) -> Unavailable:
    """Name the shared library that an import did not find, and the distribution that carries it.

    `tensorrt` alone is not enough where an index has its parts as placeholders only: NVIDIA's own index has
    them.
    """
    found = _MISSING.search(told)
    if found is None:
        return Unavailable(
            f"{edition.module} does not import: {told}", f"pip install --force-reinstall {edition.libraries}"
        )
    for major in (13, 12):
        if version := _installed(f"{edition.libraries}-cu{major}-bindings"):
            carrier = f"{edition.libraries}-cu{major}-libs=={version}"
            break
    else:
        carrier = edition.libraries
    fix = f"pip install {carrier} {_INDEX}"
    return Unavailable(f"{edition.module} is installed without its library {found[1]}.", fix)


def _lacking_bindings(edition: Edition) -> Unavailable | None:
    try:
        from cuda.bindings import runtime  # noqa: F401
    except ModuleNotFoundError:
        return Unavailable("cuda-bindings is not installed.", _bindings_for(edition))
    except Exception as error:
        return Unavailable(
            f"cuda-bindings cannot be used: {error}", "pip install --force-reinstall cuda-bindings"
        )
    return None


def _bindings_for(edition: Edition) -> str:
    """Give the command that installs CUDA's bindings for the major that the library was built for."""
    newer, older = (_installed(f"{edition.libraries}-cu{major}-bindings") for major in (13, 12))
    return "pip install 'cuda-bindings<13'" if older and not newer else "pip install cuda-bindings"


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
