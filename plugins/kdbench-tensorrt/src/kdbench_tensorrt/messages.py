"""What TensorRT says: into the worker's log, and back as the reason when something fails."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

from kdbench.errors import BackendError

SHOWN = 2
"""So many of the last errors make a reason."""

LONGEST = 300

_PLACE = re.compile(r"\s*\(?In \S+ at \S+?:\d+\)?|^\[[^]]*\] |^\w+::\w+: ")
"""Where in TensorRT's own source a message was made, which tells a user nothing."""

_CODE = re.compile(r"Error Code \d+: [\w ]+\((.*?)\)*$")
"""The class of an error, and in brackets the error."""

_NO_DRIVER = "cudaError 35"
"""What a builder that needs no GPU says on a machine without one, whatever else is wrong."""

_NO_MEMORY = re.compile(r"out of memory|OutOfMemory|cudaErrorMemoryAllocation|cudaError 2\b", re.IGNORECASE)


def make_logger(trt: Any) -> Any:
    """Make a logger that prints to stderr and keeps the errors.

    TensorRT wants an instance of its own class, kept alive as long as anything that was made with it
    (docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api/infer/Core/Logger.html). Its severities
    are numbered from the gravest, INTERNAL_ERROR, 0.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]  # the class is only known once the library is imported
        """Prints what TensorRT says and keeps what went wrong."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            """Take one message; called from threads of TensorRT too, and may not raise."""
            grave = int(severity) <= int(trt.ILogger.ERROR)
            if int(severity) <= int(trt.ILogger.INFO):
                print(f"{'error: ' if grave else ''}{msg}", file=sys.stderr)  # noqa: T201  # it is the log
            if grave:
                self.errors.append(msg)

    return Logger()


def told(errors: Sequence[str]) -> str:
    """Put what TensorRT told last into one line; empty where it told nothing."""
    lines = list(dict.fromkeys(line for error in errors if (line := tidy(error))))
    telling = [line for line in lines if _NO_DRIVER not in line] or lines
    return "; ".join(telling[-SHOWN:])[:LONGEST]


def tidy(message: str) -> str:
    """Leave out of a message what only its author needs, and its line breaks."""
    line = next((line for line in message.splitlines() if line.strip()), "")
    line = " ".join(_PLACE.sub("", line).split())
    inner = _CODE.match(line)
    return (inner[1] if inner else line).rstrip(". ")


def no_memory(errors: Sequence[str]) -> bool:
    """Tell whether there was not enough memory, on the host or on the GPU."""
    return any(_NO_MEMORY.search(error) for error in errors)


def failure(what: str, errors: Sequence[str], *, hint: str = "") -> BackendError:
    """Make the error of what TensorRT did not do, with its own words; lack of memory is named as such."""
    reason = told(errors) or "it does not say why"
    if no_memory(errors):
        return BackendError(f"{what}: out of memory ({reason}).", hint="Ask for a smaller batch size.")
    return BackendError(f"{what}: {reason}.", hint=hint)
