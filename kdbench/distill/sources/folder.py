"""Pictures in folders, one folder a class: `cats/one.png`, `dogs/two.jpg`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from kdbench.distill.sources import Offer, Pictures
from kdbench.distill.sources.files import NOT_STATED, check_class, check_folder, check_room, locate, shown
from kdbench.distill.sources.pixels import read_picture, resized
from kdbench.errors import RecipeError

Fit = Literal["refuse", "stretch", "crop"]


def folder(
    *,
    familiar: str,
    unfamiliar: str = "",
    fit: Fit = "refuse",
    licence: str = NOT_STATED,
    citation: str = "",
    size: int | None = None,
    base: Path,
) -> Offer:
    """Offer the pictures below one folder, or below one for each domain; `fit` as in `read_folder`.

    Classes are the names of the folders in them, in alphabetical order, and must be the same in both domains.
    """
    home = locate(base, familiar, "data.arguments.familiar")
    pictures, classes = read_folder(home, fit=fit, size=size)
    if len(classes) < 2:
        raise RecipeError(
            f"The folder {shown(home)} has one class, {shown(classes[0])}; at least two are needed.",
            hint="Put the pictures of each class into a folder of its own.",
        )
    others, origin = None, f"image folder {shown(home.name)}"
    if unfamiliar:
        away = locate(base, unfamiliar, "data.arguments.unfamiliar")
        others, found = read_folder(away, fit=fit, size=size)
        check_classes(classes, found)
        origin = f"image folders {shown(home.name)} and {shown(away.name)}"
    return Offer(classes, pictures, others, "kdbench folder", origin, licence, citation)


def check_classes(familiar: tuple[str, ...], unfamiliar: tuple[str, ...]) -> None:
    """Refuse domains whose classes are not the same: the teacher of one cannot teach the other."""
    if familiar == unfamiliar:
        return
    parts = []
    for domain, own, others in (("familiar", familiar, unfamiliar), ("unfamiliar", unfamiliar, familiar)):
        only = [name for name in own if name not in others]
        if only:
            more = f" and {len(only) - 3} more" if len(only) > 3 else ""
            parts.append(f"only the {domain} one has {', '.join(map(shown, only[:3]))}{more}")
    found = "; ".join(parts) or "they name the same ones in another order"
    raise RecipeError(
        f"The two domains have not the same classes: {found}.",
        hint="A teacher with other classes cannot teach these: give both domains the same ones.",
    )


def read_folder(
    path: Path, *, fit: Fit = "refuse", size: int | tuple[int, int] | None = None
) -> tuple[Pictures, tuple[str, ...]]:
    """Read the pictures of one domain and the names of its classes, at least one, in alphabetical order.

    size: pixels that every picture is brought to, a side or (height, width); None leaves them as they are.
    fit: what is done with pictures that are not all of one size: `refuse` them; `stretch` each to `size`, or
        `crop` the middle that has the shape of `size`, for both of which `size` must be given.
    Hidden files are passed over. Raises RecipeError for whatever else is not a picture, by its name.
    """
    if size is None and fit != "refuse":
        raise RecipeError(f"fit = {fit!r} needs the size that pictures are to be brought to.")
    asked = (size, size) if isinstance(size, int) else size
    check_folder(path, "class folders of pictures in it")
    try:
        found = {entry.name: list(_pictures(entry, path)) for entry in _classes(path)}
    except OSError as fault:
        raise RecipeError(f"The folder {shown(path)} cannot be read: {fault.strerror}.") from fault
    if not found:
        raise RecipeError(
            f"The folder {shown(path)} has no folders in it; expected one for each class.",
            hint="Put the pictures of each class into a folder that bears its name.",
        )
    for name, files in found.items():
        if not files:
            raise RecipeError(
                f"The class {shown(name)} in {shown(path)} has no pictures.",
                hint="Put some into its folder, or remove it.",
            )
    return _read(path, found, fit, asked), tuple(found)


def _classes(root: Path) -> Iterator[Path]:
    for entry in _visible(root, root):
        if not entry.is_dir():
            raise RecipeError(
                f"{shown(entry.name)} in {shown(root)} is not a folder; expected one for each class.",
                hint="Put pictures into the folder of their class, and remove what is no picture.",
            )
        check_class(entry.name, root)
        yield entry


def _pictures(folder: Path, root: Path) -> Iterator[Path]:
    for entry in _visible(folder, root):
        name = shown(f"{folder.name}/{entry.name}")
        if entry.is_dir():
            raise RecipeError(
                f"{name} in {shown(root)} is a folder inside that of a class; expected pictures only.",
                hint="Put its pictures beside it, or make it a class of its own.",
            )
        if not entry.is_file():
            raise RecipeError(f"{name} in {shown(root)} is neither a file nor a folder.")
        yield entry


def _visible(folder: Path, root: Path) -> Iterator[Path]:
    """Give what is not hidden, in the order of names; refuse links that lead out of the root or nowhere."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_symlink():
            name = shown(str(entry.relative_to(root)))
            try:
                inside = entry.resolve(strict=True).is_relative_to(root.resolve())
            except (OSError, RuntimeError) as fault:
                raise RecipeError(f"{name} in {shown(root)} is a link that leads nowhere.") from fault
            if not inside:
                raise RecipeError(
                    f"{name} in {shown(root)} is a link that leads out of that folder.",
                    hint="Put the file itself there.",
                )
        yield entry


def _read(root: Path, found: dict[str, list[Path]], fit: Fit, size: tuple[int, int] | None) -> Pictures:
    import numpy as np

    files = [(label, file) for label, name in enumerate(found) for file in found[name]]
    names = tuple(f"{file.parent.name}/{file.name}" for _, file in files)
    images, shape = np.empty((0, 1, 1, 1), np.uint8), (0, 0)
    for number, (_, file) in enumerate(files):
        picture = read_picture(file, names[number])
        if number == 0:
            shape = picture.shape[1:]
        elif fit == "refuse" and picture.shape[1:] != shape:
            raise _unequal(names[0], shape, names[number], picture.shape[1:])
        if size is not None:
            picture = resized(picture, size, crop=fit == "crop")
        if number == 0:
            check_room(f"The pictures in {shown(root)}", len(files), 3, *picture.shape[1:])
            images = np.empty((len(files), *picture.shape), np.uint8)
        if len(picture) > images.shape[1]:
            # The first picture in colour: all before it were grey.
            images = np.repeat(images, 3, axis=1)
        images[number] = picture
    return Pictures(images, np.array([label for label, _ in files], np.int64), names)


def _unequal(one: str, shape: tuple[int, ...], other: str, found: tuple[int, ...]) -> RecipeError:
    sizes = [f"{width}x{height}" for height, width in (shape, found)]
    return RecipeError(
        f"The pictures are not all of one size: {shown(one)} has {sizes[0]} pixels, "
        f"{shown(other)} {sizes[1]}.",
        hint="Say how to make them alike: fit = 'crop' takes the middle, fit = 'stretch' changes the shape.",
    )
