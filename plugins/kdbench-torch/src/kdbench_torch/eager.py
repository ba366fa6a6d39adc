"""mode=eager: the module itself, operator by operator."""

from __future__ import annotations

from pathlib import Path

from kdbench import Artifact, Student, Target, Unsupported
from kdbench_torch.network import Blueprint, precision_of, prepare
from kdbench_torch.session import TorchSession, placement, use_threads


def compile_student(student: Student, target: Target, workdir: Path) -> Artifact:
    """Answer the student's own weights; Unsupported for an option that would change nothing."""
    if target.options["freeze"]:
        raise Unsupported(
            "PyTorch has no weights to freeze in mode=eager.", hint="Add mode=compile or mode=aot."
        )
    blueprint = Blueprint.of(student)
    return Artifact((student.files["weights"],), blueprint.to_notes())


def load_artifact(artifact: Artifact, target: Target) -> TorchSession:
    """Build the network from the weights."""
    from torch.fx import GraphModule

    use_threads(target.threads)
    blueprint = Blueprint.from_notes(artifact.notes)
    network = prepare(blueprint, artifact.files[0], target)
    # A traced network has no hooks, and looking for them at each call takes as long as a small layer.
    call = network.forward if isinstance(network, GraphModule) else network
    return TorchSession(
        lambda batch_size: call,
        inputs=blueprint.inputs,
        threads=target.threads,
        placement=placement("eager", precision_of(network)),
    )
