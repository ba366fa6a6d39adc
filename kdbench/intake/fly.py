"""An ONNX file that is benchmarked as it lies there: its bundle is made once and kept in the cache."""

from __future__ import annotations

import hashlib
import shutil
from importlib import metadata
from pathlib import Path

import kdbench
from kdbench.cache import key
from kdbench.card import MAJOR, MINOR
from kdbench.errors import KdbenchError, StudentError, UsageError
from kdbench.intake.ask import Ask
from kdbench.intake.graph import read_graph
from kdbench.intake.take import require_libraries, take
from kdbench.problems import quote
from kdbench.spec import Student
from kdbench.student import open_student

STUDENTS = "students"
SUFFIX = ".onnx"
_CHUNK_BYTES = 1 << 20


def on_the_fly(model: Path, evaluation: Path | None, folder: Path) -> Student:
    """Import an `.onnx` file into `folder/students/<key>`, or open what an earlier import left there.

    The key is 32 hexadecimal digits over the model with its external weights, the evaluation's files, and the
    versions of all that makes the bundle. Raises KdbenchError as `take` does.
    """
    if model.suffix.lower() != SUFFIX:
        raise UsageError(
            f"{quote(model.name)} is not an {SUFFIX} file, and nothing else is imported on the fly.",
            hint="`kdbench import` takes other models and more options; run the bundle that it writes.",
        )
    require_libraries(str(model))
    home = folder / STUDENTS / _key(model, evaluation)
    if home.is_dir():
        try:
            return open_student(home)
        except StudentError:
            shutil.rmtree(home, ignore_errors=True)
    try:
        return take(Ask(model=str(model), evaluation=evaluation, output=home)).student
    except KdbenchError as fault:
        # Another run may have been quicker, and its bundle is as good.
        if home.is_dir():
            return open_student(home)
        if "--" in fault.hint:
            fault.hint += " That is said to `kdbench import`, whose bundle is then run."
        raise


def _key(model: Path, evaluation: Path | None) -> str:
    import onnxruntime

    return key(
        {
            "model": read_graph(model).sha256,
            "name": model.stem,
            "evaluation": None if evaluation is None else _digest(evaluation),
            "card": f"{MAJOR}.{MINOR}",
            "kdbench": kdbench.__version__,
            "onnxruntime": onnxruntime.__version__,
            **{name: metadata.version(name) for name in ("numpy", "onnx")},
        }
    )


def _digest(where: Path) -> str:
    """Give one sha256 of a file, or of all files below a folder and their names."""
    digest = hashlib.sha256()
    if where.exists() and not (where.is_file() or where.is_dir()):
        raise UsageError(f"{quote(str(where))} is neither a file nor a folder.")
    try:
        files = sorted(path for path in where.rglob("*") if path.is_file()) if where.is_dir() else [where]
        for path in files:
            digest.update(f"{path.relative_to(where).as_posix()}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as stream:
                while block := stream.read(_CHUNK_BYTES):
                    digest.update(block)
    except OSError as fault:
        raise UsageError(f"{quote(str(where))} cannot be read: {fault.strerror or fault}.") from fault
    return digest.hexdigest()
