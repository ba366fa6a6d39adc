"""Open, verify, read and write student bundles.

A bundle is a directory with a `card.json` that names every other file with its size and sha256.
`open_student` checks them all before anything else reads a byte. A sha256 proves integrity, not origin.
"""

from __future__ import annotations

import hashlib
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib import metadata, resources
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from kdbench.arrays import Layout, read_npy, read_npz
from kdbench.card import CARD_LIMIT_BYTES, NETWORKS, Card, File, decode, encode, unjudged
from kdbench.errors import StudentError
from kdbench.problems import quote
from kdbench.spec import Student

if TYPE_CHECKING:
    from kdbench.spec import Array

CARD = "card.json"
PATHS = {
    "weights": "student.safetensors",
    "onnx": "student.onnx",
    "evaluation": "evaluation.npz",
    "reference": "reference.npy",
    "calibration": "calibration.npz",
    "teacher-weights": "teacher.safetensors",
    "teacher-onnx": "teacher.onnx",
    "teacher-reference": "teacher-reference.npy",
}
"""Where `write_bundle` puts each role; a reader goes by the card."""

TEACHER = ("weights", "onnx", "reference")
"""What a bundle may keep of the teacher, each under `teacher-` and this role."""

_AGAIN = "Get the bundle again from where it came, or make it anew with `kdbench distill`."


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The held-out split, ready for a Runner.

    inputs: one C-contiguous array (N, *shape) per declared input, of its declared dtype.
    labels: (N,) int64, or None where nobody knows them, or the student was never trained.
    logits: (N, classes) float32, what the network answers in fp32.
    """

    inputs: tuple[Array, ...]
    labels: Array | None
    logits: Array

    def __len__(self) -> int:
        return len(self.logits)


def embedded() -> tuple[str, ...]:
    """Name the students that ship with kdbench."""
    home = Path(str(resources.files("kdbench.students")))
    return tuple(sorted(path.name for path in home.iterdir() if (path / CARD).is_file()))


def open_student(where: str | Path) -> Student:
    """Open the embedded student of this name, or else the bundle directory, and verify it whole.

    Raises StudentError for anything missing, altered, too large, outside the folder or not understood.
    """
    root = _locate(where)
    try:
        text = _read_card_bytes(root)
        card = decode(text, f"{root.name}/{CARD}")
        files = {role: _verified(root, role, file) for role, file in card.files.items()}
    except OSError as fault:
        raise StudentError(f"The bundle {root} cannot be read: {fault.strerror or fault}.") from fault
    _check_roles(card, root)
    return Student(
        name=card.name,
        task=card.task,
        sha256=hashlib.sha256(text).hexdigest(),
        root=root,
        files=files,
        inputs=card.inputs,
        outputs=card.outputs,
        classes=card.classes,
        factory=card.network.factory,
        arguments=card.network.arguments,
        parameters=card.network.parameters,
        macs=card.network.macs,
        precision=card.precision,
        batch=card.batch,
    )


def teacher_of(student: Student) -> Student:
    """Give the teacher that a bundle keeps, as something to benchmark on the same evaluation split.

    Raises StudentError for a bundle without one.
    """
    teacher = read_card(student).teacher
    own = {role: student.files[f"teacher-{role}"] for role in TEACHER if f"teacher-{role}" in student.files}
    if teacher is None or "reference" not in own or len(own) < 2:
        raise StudentError(
            f"The bundle of {student.name} does not keep its teacher.",
            hint="Distil it anew with `teacher = true` in the recipe's [bundle].",
        )
    shared = {role: path for role, path in student.files.items() if role in ("evaluation", "calibration")}
    return replace(
        student,
        files={**own, **shared},
        factory=teacher.factory,
        arguments=teacher.arguments,
        parameters=teacher.parameters,
        macs=teacher.macs,
        precision="fp32",
        batch=None,
        role="teacher",
    )


def verify(student: Student) -> None:
    """Check every file of an opened student against its card anew; StudentError if one was altered."""
    card = read_card(student)
    for role, file in card.files.items():
        _verified(student.root, role, file)


def read_card(student: Student) -> Card:
    """Read the whole card of an opened student: ladder, teacher, recipe, data, versions."""
    text = _read_card_bytes(student.root)
    if hashlib.sha256(text).hexdigest() != student.sha256:
        raise StudentError(
            f"The card of {student.name} has changed since it was opened.", hint="Start again."
        )
    return decode(text, f"{student.root.name}/{CARD}")


def load_evaluation(student: Student) -> Evaluation:
    """Load the evaluation split and the reference logits, shapes and dtypes checked against the card.

    They judge every backend, so they are verified again: whoever was at work since may have altered them.
    """
    import numpy as np

    card = read_card(student)
    for role, file in card.files.items():
        if student.root.joinpath(file.path) in (student.files["evaluation"], student.files["reference"]):
            _verified(student.root, role, file)
    count, classes = card.data.evaluation, len(card.classes)
    arrays = read_npz(student.files["evaluation"], _evaluation_layouts(card))
    labels = arrays.get("labels")
    if labels is not None and (labels.min() < 0 or labels.max() >= classes):
        raise StudentError(f"The labels of {student.name} are not all in 0..{classes - 1}.", hint=_AGAIN)
    with student.files["reference"].open("rb") as stream:
        logits = read_npy(stream, ("float32", (count, classes)), f"The reference of {student.name}")
    if not np.isfinite(logits).all():
        raise StudentError(f"The reference logits of {student.name} are not all finite.", hint=_AGAIN)
    if unjudged(card):
        labels = None
    return Evaluation(inputs=(decoded(card, arrays["images"]),), labels=labels, logits=logits)


def load_labels(student: Student) -> tuple[int, ...]:
    """Give the right class of each image of the evaluation split; none where nobody knows or it has no sense.

    No image is unpacked.
    """
    card = read_card(student)
    if unjudged(card):
        return ()
    layouts = _evaluation_layouts(card)
    return tuple(read_npz(student.files["evaluation"], layouts, only=("labels",))["labels"].tolist())


def _evaluation_layouts(card: Card) -> dict[str, Layout]:
    count = card.data.evaluation
    layouts: dict[str, Layout] = {"images": (card.encoding.dtype, (count, *card.inputs[0].shape))}
    if card.data.labelled:
        layouts["labels"] = ("int64", (count,))
    return layouts


def load_calibration(student: Student) -> tuple[Array, ...]:
    """Load the calibration images as inputs, (M, *shape) each; StudentError if the bundle has none."""
    if "calibration" not in student.files:
        raise StudentError(f"The bundle of {student.name} holds no calibration images.", hint=_AGAIN)
    card = read_card(student)
    layouts = {"images": (card.encoding.dtype, (card.data.calibration, *card.inputs[0].shape))}
    return (decoded(card, read_npz(student.files["calibration"], layouts)["images"]),)


def decoded(card: Card, images: Array) -> Array:
    """Turn stored images into the student's input, C-contiguous and of the declared dtype: see `Encoding`.

    A quantised input, uint8 or int8, is rounded to the nearest value.
    """
    import numpy as np

    encoding, dtype = card.encoding, np.dtype(card.inputs[0].dtype)
    precise = dtype if dtype.kind == "f" else np.dtype(np.float32)
    with np.errstate(all="ignore"):
        inputs: Array = np.ascontiguousarray(images, precise) / precise.type(encoding.divisor)
        across = (-1, 1, 1) if encoding.layout == "NCHW" else (-1,)
        if encoding.mean:
            inputs = inputs - np.array(encoding.mean, precise).reshape(across)
        if encoding.std:
            inputs = inputs / np.array(encoding.std, precise).reshape(across)
    if not np.isfinite(inputs).all():
        raise StudentError(
            f"The images of {card.name}, divided by {encoding.divisor:g}, are not finite.", hint=_AGAIN
        )
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        inputs = np.rint(inputs).clip(limits.min, limits.max)
    return np.ascontiguousarray(inputs, dtype)


def write_bundle(
    directory: Path, card: Card, files: Mapping[str, bytes], *, overwrite: bool = False
) -> Student:
    """Write a bundle all at once or not at all, and open it; `files` are contents by role (see `PATHS`).

    What is there already is replaced only with `overwrite`, and only if it is a bundle.
    """
    check_writable(directory, overwrite=overwrite)
    listed = {
        role: File(path=PATHS[role], bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        for role, content in files.items()
    }
    card = msgspec.structs.replace(card, files=listed)
    directory = directory.absolute()
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as nursery:
            fresh = Path(nursery) / "fresh"
            fresh.mkdir()
            for role, content in files.items():
                (fresh / PATHS[role]).write_bytes(content)
            (fresh / CARD).write_bytes(encode(card))
            open_student(fresh)
            if directory.exists():
                directory.rename(Path(nursery) / "old")
            fresh.rename(directory)
    except OSError as fault:
        raise _unwritable(directory, fault) from fault
    return open_student(directory)


def check_writable(directory: Path, *, overwrite: bool = False) -> None:
    """Refuse to write over what is there, unless told so and it is a bundle."""
    if not directory.exists() and not directory.is_symlink():
        _check_room(directory)
        return
    if not overwrite:
        raise StudentError(
            f"{directory} exists already.", hint="Choose another --output, or add --overwrite."
        )
    if directory.is_symlink() or not _is_bundle(directory):
        raise StudentError(f"{directory} is not a student bundle, so it is not overwritten.")


def _is_bundle(directory: Path) -> bool:
    """Tell whether a folder holds the card of a student; a file of that name alone may be anybody's."""
    try:
        decode(_read_card_bytes(directory), CARD)
    except (StudentError, OSError):
        return False
    return True


def _check_room(directory: Path) -> None:
    """Refuse a folder that could not be made, by a file without a name in the nearest one that exists."""
    above = next(parent for parent in directory.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=above):
            return
    except OSError as fault:
        raise _unwritable(directory, fault) from fault


def _unwritable(directory: Path, fault: OSError) -> StudentError:
    return StudentError(
        f"The bundle cannot be written to {directory}: {fault.strerror or fault}.",
        hint="Choose a folder that is yours to write, with --output.",
    )


def _locate(where: str | Path) -> Path:
    known = embedded()
    if where in known:
        return Path(str(resources.files("kdbench.students"))) / str(where)
    root = Path(where)
    if root.is_file():
        raise StudentError(
            f"{str(where)!r} is a file; a student is a bundle: a directory with a card, the network and what "
            "verifies it.",
            hint="`kdbench import` makes a bundle of a model file.",
        )
    if not root.is_dir():
        near = get_close_matches(str(where), known, n=1)
        offer = f"Did you mean {near[0]}?" if near else f"Embedded students: {', '.join(known) or 'none'}."
        raise StudentError(
            f"{str(where)!r} is neither an embedded student nor a bundle directory.",
            hint=f"{offer} A folder that bears the name of an embedded student is opened as ./NAME.",
        )
    return root.absolute()


def _read_card_bytes(root: Path) -> bytes:
    path = _inside(root, CARD)
    with path.open("rb") as stream:
        text = stream.read(CARD_LIMIT_BYTES + 1)
    if len(text) > CARD_LIMIT_BYTES:
        raise StudentError(f"{root.name}/{CARD} is larger than {CARD_LIMIT_BYTES} bytes.", hint=_AGAIN)
    return text


def _inside(root: Path, relative: str) -> Path:
    """Resolve a path of the card to a regular file below `root`, following no link."""
    parts = relative.split("/")
    if "\\" in relative or ":" in relative or any(part in ("", ".", "..") for part in parts):
        raise StudentError(
            f"The bundle {root.name} names the file {quote(relative)}, which is not a path inside it.",
            hint="Do not use this bundle: an honest one never does that.",
        )
    path = root
    for depth, part in enumerate(PurePosixPath(relative).parts, start=1):
        path = path / part
        try:
            mode = path.lstat().st_mode
        except (OSError, ValueError) as fault:
            raise StudentError(
                f"The bundle {root.name} lacks its file {quote(relative)}.", hint=_AGAIN
            ) from fault
        if not (stat.S_ISREG(mode) if depth == len(parts) else stat.S_ISDIR(mode)):
            raise StudentError(
                f"{relative!r} in the bundle {root.name} is a link or something else that is no plain file.",
                hint="Put the file itself there.",
            )
    return path


def _verified(root: Path, role: str, file: File) -> Path:
    path = _inside(root, file.path)
    name = f"{role} file {file.path!r} of the bundle {root.name}"
    size = path.stat().st_size
    if size != file.bytes:
        raise StudentError(f"The {name} has {size} bytes, not {file.bytes} as the card says.", hint=_AGAIN)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != file.sha256:
        raise StudentError(f"The {name} was altered: its sha256 is not the card's.", hint=_AGAIN)
    return path


def _check_roles(card: Card, root: Path) -> None:
    """Refuse a bundle that could not be benchmarked, or whose network nobody installed."""
    lacking = [role for role in ("evaluation", "reference") if role not in card.files]
    if not {"weights", "onnx"} & card.files.keys():
        lacking.append("weights or onnx")
    if lacking:
        raise StudentError(
            f"The card of the bundle {root.name} lists no {', no '.join(lacking)}.", hint=_AGAIN
        )
    factory = card.network.factory
    # By name, from the metadata alone: nothing that a card names is imported here.
    known = metadata.entry_points(group=NETWORKS).names
    if factory is not None and factory not in known:
        raise StudentError(
            f"The bundle {root.name} needs the network {factory!r}; "
            f"installed are: {', '.join(sorted(known)) or 'none'}.",
            hint=f"Install the package that provides it in the entry-point group {NETWORKS}.",
        )
