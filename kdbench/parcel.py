"""Write a folder of compiled artifacts that travels, and open one that came from elsewhere.

A parcel holds `manifest.json`, the student's bundle in `student/`, and the files of each artifact in a folder
of its own below `artifacts/`. `open_parcel` takes a parcel only whole: no file is altered, missing or added,
and none is a link. No path that a manifest names is opened: the files that are there are looked up in it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from msgspec import structs

from kdbench import cache, manifest
from kdbench.errors import ContractError, ParcelError, UsageError
from kdbench.manifest import AGAIN, Manifest, Origin, Packed, Parcel, Sealed
from kdbench.problems import quote
from kdbench.spec import Student
from kdbench.strict import clean
from kdbench.student import CARD, open_student, read_card, teacher_of
from kdbench.wire import artifact_from_json

MANIFEST = "manifest.json"
STUDENT = "student"
ARTIFACTS = "artifacts"


def write(output: Path, student: Student, origin: Origin, artifacts: Sequence[tuple[Packed, Path]]) -> Parcel:
    """Write a parcel all at once or not at all, and open it.

    artifacts: each with the folder that its files are in now. Raises ParcelError where `output` exists or
    cannot be written.
    """
    refuse_taken(output)
    output = output.absolute()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as draft:
            fresh = Path(draft) / "fresh"
            _copy_student(student, fresh / STUDENT)
            for packed, home in artifacts:
                _copy_artifact(home, fresh / ARTIFACTS / packed.folder)
            files = {path: _sealed(file) for path, file in _present(fresh)}
            whole = Manifest(
                origin=origin,
                student=student.name,
                student_sha256=student.sha256,
                artifacts=tuple(_weighed(packed, files) for packed, _ in artifacts),
                files=files,
            )
            (fresh / MANIFEST).write_bytes(manifest.encode(whole))
            verified = open_parcel(fresh)
            fresh.rename(output)
    except OSError as fault:
        raise _unwritable(output, fault) from fault
    return replace(verified, root=output, student=open_student(output / STUDENT))


def refuse_taken(output: Path) -> None:
    """Raise ParcelError where something is at `output` already: a parcel is never written over."""
    if os.path.lexists(output):
        raise ParcelError(f"{output} exists already.", hint="Choose another --output, or move it away.")


def open_parcel(folder: Path) -> Parcel:
    """Open a parcel, and verify every file of it.

    Raises ParcelError for anything missing, altered, added, outside the folder or not understood, and
    StudentError for a bundle that is not one.
    """
    what = clean(str(folder))
    try:
        text = _read_manifest(folder, what)
        whole = manifest.decode(text, f"{what}/{MANIFEST}")
        _verify(folder, what, whole.files)
    except OSError as fault:
        raise ParcelError(f"{what} cannot be read: {fault.strerror or fault}.", hint=AGAIN) from fault
    student = open_student(folder.absolute() / STUDENT)
    if student.sha256 != whole.student_sha256:
        raise ParcelError(f"The student in {what} is not the one that its manifest names.", hint=AGAIN)
    parcel = Parcel(
        root=folder.absolute(), sha256=hashlib.sha256(text).hexdigest(), manifest=whole, student=student
    )
    for packed in whole.artifacts:
        _refuse_strays(parcel, packed, what)
    return parcel


def home(parcel: Parcel, packed: Packed) -> Path:
    """Give the folder of an artifact's files; it is not there where the artifact has none of its own."""
    return parcel.root / ARTIFACTS / packed.folder


def network(parcel: Parcel, packed: Packed) -> Student:
    """Give the network that an artifact was compiled from: the student, or its teacher."""
    return parcel.student if packed.network == "student" else teacher_of(parcel.student)


def refuse_untrusted(folders: Sequence[str], *, trusted: bool) -> None:
    """Raise UsageError unless the user said to trust who compiled what is in the folders."""
    if not trusted:
        raise UsageError(
            f"{' and '.join(map(clean, folders))} holds compiled artifacts, which are native code: once "
            "loaded they can do all that you can.",
            hint="Add --trust-code if you trust whoever compiled them: sha256 sums prove that nothing was "
            "altered since, not who made it.",
        )


def _copy_student(student: Student, folder: Path) -> None:
    """Copy what the card names, and nothing else that may lie beside it."""
    for path in (CARD, *(file.path for file in read_card(student).files.values())):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(student.root / path, folder / path)


def _copy_artifact(source: Path, folder: Path) -> None:
    """Copy an artifact's files without what the cache noted beside them; links become what they lead to."""
    folder.mkdir(parents=True)
    for entry in source.iterdir():
        if entry.is_dir():
            shutil.copytree(entry, folder / entry.name)
        elif entry.name != cache.ENTRY:
            shutil.copyfile(entry, folder / entry.name)


def _weighed(packed: Packed, files: Mapping[str, Sealed]) -> Packed:
    own = f"{ARTIFACTS}/{packed.folder}/"
    return structs.replace(
        packed, bytes=sum(one.bytes for path, one in files.items() if path.startswith(own))
    )


def _read_manifest(folder: Path, what: str) -> bytes:
    if not folder.is_dir():
        found = "is not a folder" if os.path.lexists(folder) else "is not there"
        raise ParcelError(f"{what} {found}.", hint="Give a folder that `kdbench compile` wrote.")
    path = folder / MANIFEST
    if path.is_symlink() or not path.is_file():
        raise ParcelError(
            f"{what} has no {MANIFEST}, so it is no folder of artifacts.",
            hint="Give a folder that `kdbench compile` wrote.",
        )
    with path.open("rb") as file:
        return file.read(manifest.LIMIT_BYTES + 1)


def _verify(folder: Path, what: str, files: Mapping[str, Sealed]) -> None:
    """Hold the files that are there against the manifest: names, sizes, then contents."""
    present = dict(_present(folder, what))
    for path in files:
        if path not in present:
            outside = path.startswith("/") or "\\" in path or ".." in path.split("/")
            lacks = "names the file" if outside else "lacks its file"
            ends = ", which is not a path inside it" if outside else ""
            raise ParcelError(f"{what} {lacks} {quote(path)}{ends}.", hint=AGAIN)
    for path, file in present.items():
        if path not in files:
            raise ParcelError(
                f"{what} holds the file {quote(path)}, which its manifest does not name.",
                hint="Take it away, if you know it; else get the folder again.",
            )
        size = file.stat().st_size
        if size != files[path].bytes:
            raise ParcelError(
                f"{quote(path)} in {what} has {size} bytes, not {files[path].bytes} as its manifest says.",
                hint=AGAIN,
            )
    for path, file in present.items():
        if _sealed(file) != files[path]:
            raise ParcelError(
                f"{quote(path)} in {what} was altered: its sha256 is not the manifest's.", hint=AGAIN
            )


def _present(folder: Path, what: str = "") -> Iterator[tuple[str, Path]]:
    """Give every file below a folder but its manifest, by path; ParcelError for a link or a special file."""
    for above, folders, names in os.walk(folder, onerror=_raise):
        for name in sorted((*folders, *names)):
            path = Path(above, name)
            mode, relative = path.lstat().st_mode, path.relative_to(folder).as_posix()
            if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
                raise ParcelError(
                    f"{quote(relative)} in {what or folder} is a link, or something else that is no file.",
                    hint="Put the file itself there.",
                )
            if stat.S_ISREG(mode) and relative != MANIFEST:
                yield relative, path


def _raise(fault: OSError) -> None:
    raise fault


def _sealed(path: Path) -> Sealed:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Sealed(bytes=path.stat().st_size, sha256=digest)


def _refuse_strays(parcel: Parcel, packed: Packed, what: str) -> None:
    """Refuse an artifact whose files are not all in its own folder or in the bundle."""
    try:
        artifact_from_json(bytes(packed.artifact), home(parcel, packed), parcel.student)
    except ContractError as fault:
        raise ParcelError(
            f"The artifact of {packed} in {what} is no good: {clean(fault.message)}", hint=AGAIN
        ) from fault


def _unwritable(output: Path, fault: OSError) -> ParcelError:
    return ParcelError(
        f"{output} cannot be written: {fault.strerror or fault}.",
        hint="Choose a folder that is yours to write, on a disk with room, by --output.",
    )
