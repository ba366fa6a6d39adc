"""mode=compile: torch.compile with Inductor, whose compiled code travels in the artifact.

Loading traces the network again, which takes seconds, and finds the machine code in the unpacked cache.
A C++ compiler must be there all the same: Inductor asks for its version.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdbench import Artifact, Student, Target, TensorSpec, Unsupported
from kdbench_torch.network import Blueprint, empty_inputs, precision_of, prepare
from kdbench_torch.session import TorchSession, placement, use_threads

if TYPE_CHECKING:
    from torch import nn

CACHE = "inductor.zip"

SETTINGS = {
    # More than one would leave a pool of processes behind.
    "compile_threads": 1,
    # Precompiled headers are written outside the cache's folder, and cost more than they spare.
    "cpp_cache_precompile_headers": False,
    "aot_inductor.precompile_headers": False,
}
"""What Inductor is told whatever the options say."""


def compile_student(student: Student, target: Target, workdir: Path) -> Artifact:
    """Compile for every batch size, and pack what Inductor left in its cache."""
    use_threads(target.threads)
    blueprint = Blueprint.of(student)
    weights = student.files["weights"]
    network = prepare(blueprint, weights, target)
    with tempfile.TemporaryDirectory(dir=workdir) as cache:
        with building(Path(cache), target):
            compile_now(network, blueprint.inputs, target)
        packed = shutil.make_archive(str(workdir / Path(CACHE).stem), "zip", cache)
    return Artifact((weights, Path(packed)), blueprint.to_notes())


def load_artifact(artifact: Artifact, target: Target) -> TorchSession:
    """Compile again, from the packed cache; it is not needed any more once every batch size has run."""
    use_threads(target.threads)
    blueprint = Blueprint.from_notes(artifact.notes)
    weights, packed = artifact.files
    network = prepare(blueprint, weights, target)
    with tempfile.TemporaryDirectory(prefix="kdbench-torch-") as cache:
        shutil.unpack_archive(packed, cache)
        with building(Path(cache), target):
            compiled = compile_now(network, blueprint.inputs, target)
    return TorchSession(
        lambda batch_size: compiled,
        inputs=blueprint.inputs,
        threads=target.threads,
        placement=placement("inductor", precision_of(network)),
    )


@contextmanager
def building(cache: Path, target: Target) -> Iterator[None]:
    """Let Inductor work in `cache`, in this process alone, without the warnings that are its own affair.

    Raises Unsupported if there is no C++ compiler.
    """
    with (
        warnings.catch_warnings(),
        variable("TORCHINDUCTOR_CACHE_DIR", str(cache)),
        # Inductor would set it for good, and Triton alone would write to the home folder.
        variable("TRITON_CACHE_DIR", str(cache / "triton")),
    ):
        warnings.simplefilter("ignore")
        from torch._inductor import config
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler

        try:
            get_cpp_compiler()
        except InvalidCxxCompiler as fault:
            raise Unsupported(
                f"There is no C++ compiler, which mode={target.options['mode']} needs.",
                hint="Install g++, or name a compiler in the variable CXX, or use mode=eager.",
            ) from fault
        known = config.get_config_copy()
        settings = {**SETTINGS, "freezing": bool(target.options.get("freeze"))}
        # An older torch knows fewer of them, and patches none that it does not know.
        with config.patch({name: value for name, value in settings.items() if name in known}):
            yield


def first_line(fault: Exception) -> str:
    """Give what torch says in one line, without the pages of advice that follow."""
    return f"{type(fault).__name__}: {fault}".splitlines()[0]


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable for a while: torch asks for folders in no other way."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def compile_now(
    network: nn.Module,
    inputs: Sequence[TensorSpec],
    target: Target,
    *,
    device: str = "cpu",
    mode: str = "default",
) -> Callable[..., Any]:
    """Compile for each batch size of the target, and not on a call that somebody times.

    mode: as `torch.compile` takes it. Raises Unsupported for a network that is no single graph.
    """
    import torch
    from torch._dynamo import config, exc

    compiled: Callable[..., Any] = torch.compile(network, fullgraph=True, dynamic=target.dynamic, mode=mode)
    try:
        # Beyond the limit torch.compile would run eagerly in silence.
        with config.patch(recompile_limit=1 << 20):
            for batch_size in target.batch_sizes:
                # Made outside inference mode, as a runner's are: for the other kind it would compile anew.
                example = empty_inputs(inputs, batch_size, device)
                with torch.inference_mode():
                    compiled(*example)
    except (exc.Unsupported, exc.UserError) as fault:
        raise Unsupported(
            f"torch.compile cannot make one graph of the network: {first_line(fault)}",
            hint="Use mode=eager.",
        ) from fault
    return compiled
