"""Students that are made when they are first asked for: by an embedded recipe, or from a model file.

Each is made once, in a process of its own, and kept in the user's cache: making one takes torch or the
libraries of ONNX, which a process that measures must not load. A student of a recipe is kept under the
recipe's name and a key of all that decides it; a model file is kept by `kdbench.intake`.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from kdbench import __version__, cache, errors
from kdbench.errors import Interrupted, KdbenchError, StudentError, UsageError
from kdbench.problems import nearest, read_toml
from kdbench.spec import Student
from kdbench.student import embedded, open_student

Weights = Literal["trained", "random"]
WEIGHTS: tuple[Weights, ...] = ("trained", "random")

MODEL = ".onnx"
"""What the name of a model file ends in; every other file goes through `kdbench import`."""

HOME = "students"
MAKER = (sys.executable, "-P", "-m", "kdbench.cli.maker")
PATIENCE_S = 5.0

Tell = Callable[[str], None]


class FromRecipe(Struct, frozen=True, kw_only=True, tag="recipe"):
    """Ask for the student of an embedded recipe, to be written to the folder `output`."""

    recipe: str
    weights: Weights
    output: str


class FromModel(Struct, frozen=True, kw_only=True, tag="model"):
    """Ask for a bundle of a model file, to be kept below the folder `cache`; evaluation data where given."""

    model: str
    evaluation: str | None
    cache: str


class Made(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a maker answers, on one line: the bundle's path, or an error with its kind and hint."""

    path: str = ""
    error: str = ""
    kind: str = ""
    hint: str = ""


def find(
    where: str,
    *,
    weights: Weights = "trained",
    evaluation: Path | None = None,
    tell: Tell | None = None,
) -> Student:
    """Open the student that a name or path means, and make it first where it has to be made.

    An embedded student's name comes first, then an embedded recipe's, then a path: a bundle or an ONNX file.
    tell: called before one is made, which may take minutes; without it the maker is silent too.
    Raises UsageError for `weights` or `evaluation` where they cannot matter, StudentError for what is no
    student, and whatever goes wrong in making one.
    """
    path, made = Path(where), where in makeable()
    is_model = not made and path.suffix.lower() == MODEL and not path.is_dir()
    if not made and not is_model and where not in embedded() and not path.exists():
        raise unknown(where)
    _refuse_idle(where, weights, evaluation, made=made, is_model=is_model)
    if made:
        if tell is not None and path.is_dir():
            tell(f"{where} is the student of that name; the folder is opened as ./{where}.")
        return kept(where, weights) or _make(where, weights, tell)
    return _take_in(path, evaluation, tell) if is_model else open_student(where)


def recipes() -> dict[str, Path]:
    """Give the embedded recipes by name, each with its file."""
    folder = Path(str(resources.files("kdbench.recipes")))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def makeable() -> tuple[str, ...]:
    """Name the students that are made on first use: of every recipe whose student is not embedded."""
    return tuple(name for name in recipes() if name not in embedded())


def title(name: str) -> str:
    """Give the title of a recipe's student."""
    return str(next((table["title"] for table in _lineage(name) if "title" in table), ""))


def about_s(name: str) -> float | None:
    """Tell about how many seconds making a recipe's student takes; None where the recipe does not say."""
    for table in _lineage(name):
        said = table.get("bundle")
        if isinstance(said, dict) and isinstance(found := said.get("about_s"), int | float):
            return float(found)
    return None


def kept(name: str, weights: Weights) -> Student | None:
    """Open a recipe's student if it was made before; one that was altered since is thrown away."""
    home = _place(name, weights)
    if not home.is_dir():
        return None
    try:
        return open_student(home)
    except StudentError:
        shutil.rmtree(home, ignore_errors=True)
        return None


def unknown(where: str) -> StudentError:
    """Say that no student has this name or place, and which name may be meant."""
    known = {**dict.fromkeys(embedded()), **dict.fromkeys(makeable())}
    meant = nearest(where, known)
    offer = f"Did you mean {meant}?" if meant else f"Students with a name: {', '.join(known) or 'none'}."
    return StudentError(
        f"{where!r} is neither an embedded student nor a bundle directory.",
        hint=f"{offer} A folder that bears such a name is opened as ./NAME.",
    )


def _refuse_idle(
    where: str, weights: Weights, evaluation: Path | None, *, made: bool, is_model: bool
) -> None:
    if weights != "trained" and not made:
        names = ", ".join(makeable())
        raise UsageError(
            f"--weights {weights} goes with a student that is made on first use; {where} comes with its own.",
            hint=f"Made on first use: {names}." if names else "This release has none that is.",
        )
    if evaluation is not None and not is_model:
        raise UsageError(
            f"--eval goes with a model file, such as model{MODEL}; {where} brings its own evaluation split.",
            hint="Leave --eval out.",
        )


def _make(name: str, weights: Weights, tell: Tell | None) -> Student:
    home = _place(name, weights)
    if tell is not None:
        seconds = about_s(name) if weights == "trained" else None
        how_long = f", in about {seconds:.0f} s" if seconds else ""
        tell(f"{name} ({weights} weights) is made on first use{how_long}, and kept in {home}.")
    with cache.draft(cache.user_folder(), HOME) as workdir:
        fresh = workdir / name
        _ask(FromRecipe(recipe=name, weights=weights, output=str(fresh)), quiet=tell is None)
        try:
            fresh.rename(home)
        except OSError:
            if not home.is_dir():  # else another process was quicker, and made the same
                raise
    return open_student(home)


def _take_in(model: Path, evaluation: Path | None, tell: Tell | None) -> Student:
    if not model.is_file():
        raise StudentError(f"There is no model file {str(model)!r}.", hint="Give the path of an ONNX file.")
    if evaluation is not None and not evaluation.exists():
        raise StudentError(
            f"There is no {str(evaluation)!r} to evaluate with.",
            hint="--eval takes an .npz file or a folder.",
        )
    if tell is not None:
        tell(f"Importing {model}; its bundle is kept in {cache.user_folder() / HOME}.")
    asked = FromModel(
        model=str(model.absolute()),
        evaluation=None if evaluation is None else str(evaluation.absolute()),
        cache=str(cache.user_folder()),
    )
    return open_student(Path(_ask(asked, quiet=tell is None).path))


def _ask(request: FromRecipe | FromModel, *, quiet: bool) -> Made:
    """Have a child make a student, its progress on this process's standard error unless `quiet`.

    Raises the KdbenchError that the child answered, in the same words.
    """
    command = [*MAKER, msgspec.json.encode(request).decode()]
    silent = subprocess.DEVNULL if quiet else None
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=silent) as child:
        try:
            answer, _ = child.communicate()
        except BaseException:
            _end(child)
            raise
    try:
        made = msgspec.json.decode(answer, type=Made)
    except msgspec.DecodeError:
        raise _gone(child.returncode) from None
    if not made.error:
        return made
    if made.kind == "Interrupted":
        raise Interrupted("Interrupted before the student was made; nothing of it is kept.")
    kind = getattr(errors, made.kind, None)
    if isinstance(kind, type) and issubclass(kind, KdbenchError):
        raise kind(made.error, hint=made.hint)
    raise RuntimeError(made.error)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a child that nobody waits for any more: gently, since it may have files to take away."""
    child.terminate()
    try:
        child.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _gone(code: int) -> StudentError:
    how = f"exit code {code}" if code >= 0 else f"signal {-code}"
    hint = "It may have run out of memory." if code == -9 else "What it printed says more."
    return StudentError(f"The process that makes the student ended with {how} and no answer.", hint=hint)


def _place(name: str, weights: Weights) -> Path:
    """Give the folder of a recipe's student in the cache, whether it is there or not."""
    texts = [hashlib.sha256(text).hexdigest() for text in _texts(name)]
    key = cache.key({"recipes": texts, "kdbench": __version__, "weights": weights})
    return cache.user_folder() / HOME / f"{name}-{key[:12]}"


def _lineage(name: str) -> Iterator[dict[str, Any]]:
    """Give the tables of a recipe, then those of the one that it is based on, and so on."""
    known, seen = recipes(), set[str]()
    while name in known and name not in seen:
        seen.add(name)
        table = read_toml(known[name])
        yield table
        name = str(table.get("base", ""))


def _texts(name: str) -> Sequence[bytes]:
    """Give the files of a recipe and of those that it is based on."""
    known, names = recipes(), [name]
    for table in _lineage(name):
        if (base := table.get("base")) in known and base not in names:
            names.append(str(base))
    return [known[one].read_bytes() for one in names]
