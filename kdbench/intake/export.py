"""A torch network or program as ONNX, with what torch says of it kept in one sentence."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from kdbench.errors import StudentError
from kdbench.intake.weights import first_line
from kdbench.problems import quote

if TYPE_CHECKING:
    from torch import nn
    from torch.onnx import ONNXProgram


def export(network: nn.Module, shape: tuple[int, ...]) -> bytes:
    """Export with any batch size; if torch cannot, for one image at a time."""
    from kdbench.distill.export import to_onnx

    told = "x".join(map(str, shape))
    if fault := _refused(network, shape):
        raise StudentError(
            f"The network does not take images of {told}: {first_line(fault)}.",
            hint="It must take one tensor (batch, …); see whether --shape is right: channels, height, width.",
        )
    try:
        with quiet():
            return to_onnx(network, shape)
    except Exception as first:  # the exporter raises what tracing anybody's code makes it trip over
        try:
            return _alone(network, shape)
        except Exception:
            raise StudentError(
                f"torch cannot export the network for images of {told}: {first_line(_root(first))}.",
                hint="What torch.export cannot trace, such as a branch on values, must leave its forward().",
            ) from first


def _refused(network: nn.Module, shape: tuple[int, ...]) -> Exception | None:
    """Give why the network itself does not take inputs of this shape, neither two nor one."""
    import torch

    fault = None
    for count in (2, 1):
        try:
            with torch.inference_mode(), quiet():
                network(torch.zeros(count, *shape))
        except Exception as found:  # anybody's code
            fault = fault or found
        else:
            return None
    return fault


def _alone(network: nn.Module, shape: tuple[int, ...]) -> bytes:
    """Export for a batch of one."""
    import torch

    from kdbench.distill.export import OPSET

    with quiet():
        program = torch.onnx.export(
            network,
            (torch.zeros(1, *shape),),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["logits"],
            external_data=False,
            verbose=False,
        )
    return bytes(cast("ONNXProgram", program).model_proto.SerializeToString(deterministic=True))


def export_program(program: Any, name: str) -> bytes:
    """Export what `torch.export.load` gave; `name` is that of its file."""
    import torch

    from kdbench.distill.export import OPSET

    try:
        with quiet():
            converted = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                output_names=["logits"],
                external_data=False,
                verbose=False,
            )
        return bytes(cast("ONNXProgram", converted).model_proto.SerializeToString(deterministic=True))
    except Exception as fault:  # as above
        raise StudentError(
            f"{quote(name)} cannot be exported to ONNX: {first_line(_root(fault))}.",
            hint="Export the network with one tensor as its input, and in evaluation mode.",
        ) from fault


@contextmanager
def quiet() -> Iterator[None]:
    """Keep torch's notes about its own deprecations and what it trips over off the user's terminal."""
    before = logging.root.manager.disable
    # Not the level of one logger: torch sets those of its own many times.
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _root(fault: Exception) -> Exception:
    """Give what an exception came from: the exporter wraps faults in its own."""
    while isinstance(fault.__cause__, Exception):
        fault = fault.__cause__
    return fault
