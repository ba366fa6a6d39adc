"""The library that runs programs without torch: where it lies, and `python -m kdbench_executorch.build`.

It is compiled on the machine that runs it, from `native.cpp` and the headers of the installed executorch.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from kdbench import Unsupported

COMMAND = "python -m kdbench_executorch.build"
DEFINITIONS = ("C10_USING_CUSTOM_GENERATED_MACROS", "ET_EVENT_TRACER_ENABLED", "ET_USE_THREADPOOL")
"""As executorch/share/cmake/executorch-config.cmake says that users of the headers must define."""

LIBRARIES = (
    "executorch",
    "executorch_kernels_optimized",
    "executorch_backend_xnnpack",
    "executorch_threadpool",
)


def home() -> Path:
    """Find the folder of the installed executorch; Unsupported if it is not installed."""
    # A namespace package, of which several folders may be a part; the runtime lies in one of them.
    spec = find_spec("executorch")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(place) / "lib").is_dir():
            return Path(place)
    raise Unsupported("executorch is not installed.", hint="pip install 'executorch>=1.5,<1.6'")


def library() -> Path:
    """Say where the library of the installed executorch belongs, whether it has been built or not."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "kdbench-executorch" / f"native-{version('executorch')}-{platform.machine()}.so"


def command(compiler: str, output: Path) -> Sequence[str]:
    """Give the compiler's command line; the library finds executorch's own by its absolute path."""
    root = home()
    c10 = root / "include/executorch/runtime/core/portable_type/c10"
    return [
        *(compiler, "-std=c++17", "-O2", "-fPIC", "-shared", "-w"),
        *(f"-D{name}" for name in DEFINITIONS),
        *(f"-I{root / 'include'}", f"-I{c10}", str(Path(__file__).with_name("native.cpp"))),
        # Delegates and kernels register themselves when they are loaded, and no symbol of them is named here.
        *(f"-L{root / 'lib'}", "-Wl,--no-as-needed", *(f"-l{name}" for name in LIBRARIES)),
        *(f"-Wl,-rpath,{root / 'lib'}", "-o", str(output)),
    ]


def build() -> Path:
    """Compile the library into the user's cache; Unsupported, in the compiler's words, if that fails."""
    output = library()
    output.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = output.with_suffix(f".{os.getpid()}")
    compiler = os.environ.get("CXX", "g++")
    try:
        done = subprocess.run(command(compiler, fresh), capture_output=True, text=True, check=False)
    except OSError as fault:
        raise Unsupported(
            f"The C++ compiler {compiler} cannot be started: {fault.strerror}.",
            hint="Install g++ (Debian: apt install g++), or name another in the variable CXX.",
        ) from fault
    if done.returncode:
        fresh.unlink(missing_ok=True)
        line = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200])
        raise Unsupported(f"{compiler} cannot compile it: {line}", hint="g++ 9 or newer is needed.")
    fresh.rename(output)
    return output


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{build()}\n")
    except Unsupported as refusal:
        sys.exit(str(refusal))
