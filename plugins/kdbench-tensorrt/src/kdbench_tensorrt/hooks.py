"""The five hooks, for either edition."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from kdbench import Artifact, Availability, BackendInfo, Runner, Student, Target, hookimpl
from kdbench_tensorrt.editions import Edition
from kdbench_tensorrt.settings import options

if TYPE_CHECKING:
    from kdbench_tensorrt.session import TensorRtSession


class Hooks:
    """The plugin object of one edition."""

    def __init__(self, edition: Edition) -> None:
        self.edition = edition

    @hookimpl
    def kdbench_describe(self) -> BackendInfo:
        """Say what this backend is."""
        return BackendInfo(
            api=1,
            title=self.edition.title,
            devices=("cuda",),
            precisions=("fp32", "tf32", "fp16", "bf16"),
            options=options(self.edition),
            concurrency="pipelined",
            boundaries=("host", "device"),
            distributions=self.edition.distributions,
        )

    @hookimpl
    def kdbench_probe(self) -> Availability:
        """Look for the library, then for the driver and its GPUs."""
        from kdbench_tensorrt.probe import probe

        return probe(self.edition)

    @hookimpl
    def kdbench_compile(
        self, student: Student, target: Target, workdir: Path, shelf: Path | None
    ) -> Artifact:
        """Parse the student's ONNX file and build an engine for each batch size."""
        from kdbench_tensorrt.compiling import compile_student

        return compile_student(self.edition, student, target, workdir, shelf)

    @hookimpl
    def kdbench_load(self, artifact: Artifact, target: Target) -> TensorRtSession:
        """Deserialise the engines; build those again that are not of this GPU or version."""
        from kdbench_tensorrt.session import open_session

        return open_session(self.edition, artifact, target)

    @hookimpl
    def kdbench_run(self, session: TensorRtSession, batch_size: int, depth: int) -> Runner:
        """Bind one execution context, or `depth` of them, each on a stream of its own."""
        return cast("Runner", session.runner(batch_size, depth))
