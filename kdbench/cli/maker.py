"""`python -m kdbench.cli.maker REQUEST`: make one student for `kdbench.nursery`, in a process of its own.

REQUEST is the JSON of `nursery.FromRecipe` or `nursery.FromModel`. The answer, a `nursery.Made`, is one
line of JSON. Nothing else gets to standard output: it would name folders that are about to move.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

import click
import msgspec

from kdbench.errors import KdbenchError
from kdbench.interruption import heard_once
from kdbench.nursery import FromModel, FromRecipe, Made

PR_SET_PDEATHSIG = 1
ROOM = "Set KDBENCH_CACHE to a folder that can be written, on a disk with room."


def make(request: FromRecipe | FromModel) -> Path:
    """Make the student that is asked for, and give the folder of its bundle; raises KdbenchError."""
    if isinstance(request, FromModel):
        from kdbench.cli.room import bounded
        from kdbench.intake import on_the_fly

        evaluation = None if request.evaluation is None else Path(request.evaluation)
        with bounded():
            return on_the_fly(Path(request.model), evaluation, Path(request.cache)).root
    from kdbench.cli.distill import command

    words = [request.recipe, "--output", request.output, "--weights", request.weights, "--no-controls"]
    command.main(words, prog_name="kdbench distill", standalone_mode=False)
    return Path(request.output)


def answer(request: FromRecipe | FromModel) -> Made:
    """Make a student and say where it is, or in the words of the error why there is none."""
    try:
        return Made(path=str(make(request)))
    except KdbenchError as fault:
        # No --output was asked for: the place is the cache's.
        hint = ROOM if "--output" in fault.hint else fault.hint
        return Made(error=fault.message, hint=hint, kind=type(fault).__name__)
    except click.ClickException as fault:
        return Made(error=fault.format_message(), kind="UsageError")
    except click.Abort:
        raise
    except OSError as fault:
        place = f": {fault.filename}" if fault.filename else ""
        return Made(error=f"The system refused: {fault.strerror or fault}{place}.", kind="StudentError")
    except Exception as fault:  # a bug of the maker's is told as one of kdbench's, and not by a traceback
        return Made(error=f"in making the student, {type(fault).__name__}: {fault}")


def main() -> None:
    """Answer the request on the command line, and end with the parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    said = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with heard_once():  # on which unfinished work is taken away, undisturbed by the next signal
        made = answer(msgspec.json.decode(sys.argv[1], type=FromRecipe | FromModel))
    with said:
        said.write(msgspec.json.encode(made).decode() + "\n")


if __name__ == "__main__":
    try:
        main()
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
