"""The user's own images, out of an `.npz` or a folder of class folders, as the model takes them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kdbench.errors import KdbenchError, StudentError, UsageError
from kdbench.intake.ask import Fit
from kdbench.intake.pictures import Pictures, read_npz
from kdbench.intake.ports import Input, channels_first
from kdbench.problems import quote
from kdbench.strict import clean

if TYPE_CHECKING:
    from kdbench.spec import Array


def read_pictures(path: Path, *, port: Input, fit: Fit | None) -> Pictures:
    """Read an `.npz` or a folder `class/picture.png` and bring its images into the form of the input.

    Axes are moved and grey becomes colour or the other way, each told; the size changes with `fit` alone.
    Raises KdbenchError, one sentence, for whatever cannot be used.
    """
    if not path.exists():
        raise UsageError(
            f"{quote(str(path))} does not exist.", hint="Give an .npz file or a folder of images."
        )
    found = _folder(path, port, fit) if path.is_dir() else read_npz(path)
    if not len(found):
        raise StudentError(f"{quote(path.name)} holds no images.")
    return _formed(found, port, path.name, told=path.is_file())


def choose(pictures: Pictures, count: int | None, seed: int) -> Pictures:
    """Draw `count` of the pictures from the seed, in their own order; all of them for None."""
    import numpy as np

    if count is None or count >= len(pictures):
        return pictures
    rows = np.sort(np.random.default_rng([seed, 0x6576]).permutation(len(pictures))[:count])
    labels = None if pictures.labels is None else pictures.labels[rows]
    told = f"{count} of its {len(pictures)} images are drawn from the seed {seed}"
    return replace(
        pictures,
        images=np.ascontiguousarray(pictures.images[rows]),
        labels=labels,
        notes=(*pictures.notes, told),
    )


def name_classes(
    pictures: Pictures | None, asked: tuple[str, ...], outputs: int
) -> tuple[tuple[str, ...], Pictures | None]:
    """Name the classes in the order of the scores, and number the labels by them.

    asked: the names that the user gave, which put the folders into the network's order.
    Raises StudentError where there are as many names as the network has not, or a label of no class.
    """
    import numpy as np

    found = () if pictures is None else pictures.classes
    if asked and len(asked) != outputs:
        raise UsageError(f"--classes names {len(asked)} classes; the model has {outputs} outputs.")
    if pictures is not None and found and asked and found != asked:
        strange = [name for name in found if name not in asked]
        if strange:
            raise UsageError(
                f"The images have the class {quote(strange[0])}, which is not among --classes.",
                hint="Name the classes as the images do, in the order of the model's outputs.",
            )
        if pictures.labels is not None:
            places = np.array([asked.index(name) for name in found], np.int64)
            pictures = replace(pictures, labels=places[pictures.labels], classes=asked)
    elif found and len(found) != outputs:
        raise StudentError(
            f"The images have {len(found)} {'class' if len(found) == 1 else 'classes'} "
            f"({', '.join(quote(name) for name in found[:5])}"
            f"{', …' if len(found) > 5 else ''}); the model has {outputs} outputs.",
            hint="Name all classes of the model in the order of its outputs with --classes a,b,c.",
        )
    if pictures is not None and pictures.labels is not None:
        low, high = int(pictures.labels.min()), int(pictures.labels.max())
        if low < 0 or high >= outputs:
            raise StudentError(
                f"The labels go from {low} to {high}; the model has {outputs} outputs, 0 to {outputs - 1}.",
                hint="Number the classes from 0, in the order of the model's outputs.",
            )
    return asked or found or tuple(map(str, range(outputs))), pictures


def refuse_shared(evaluation: Pictures, calibration: Pictures) -> None:
    """Refuse calibration images that are among those of the evaluation, by content: it would flatter int8."""
    if evaluation.images.dtype != calibration.images.dtype:
        raise StudentError(
            f"The calibration images are {calibration.images.dtype} and those of the evaluation "
            f"{evaluation.images.dtype}; a bundle stores both alike.",
            hint="Give both as uint8, or both as float32.",
        )
    known = {hashlib.sha256(image.tobytes()).digest() for image in evaluation.images}
    shared = sum(hashlib.sha256(image.tobytes()).digest() in known for image in calibration.images)
    if shared:
        raise StudentError(
            f"{shared} of {len(calibration)} calibration images are evaluation images too.",
            hint="Calibrate with images that nothing is tested on.",
        )


def _folder(path: Path, port: Input, fit: Fit | None) -> Pictures:
    from kdbench.distill.sources.folder import read_folder

    if port.layout == "any":
        raise StudentError(
            f"The model takes no images of three axes, but {port.shape}; a folder has only such."
        )
    size = channels_first(port)[1:]
    try:
        found, classes = read_folder(path, fit=fit or "refuse", size=(size[0], size[1]) if fit else None)
    except KdbenchError as fault:
        # A recipe spells the setting otherwise than the command line does.
        hint = fault.hint.replace("fit = 'crop'", "--fit crop").replace("fit = 'stretch'", "--fit stretch")
        raise StudentError(fault.message, hint=hint) from fault
    height, width = found.images.shape[2:]
    if (height, width) != tuple(size):
        raise StudentError(
            f"The images in {quote(path.name)} have {width}x{height} pixels; "
            f"the model takes {size[1]}x{size[0]}.",
            hint="Say how they get there: --fit stretch, or --fit crop to cut out the middle first.",
        )
    return Pictures(found.images, found.labels, tuple(clean(name)[:200] for name in classes))


def _formed(found: Pictures, port: Input, name: str, *, told: bool) -> Pictures:
    """Bring images to the shape of the input: axes moved, grey made colour or the reverse.

    told: whether moved axes are worth a note, as they are for an array that somebody made.
    """
    import numpy as np

    images, first = found.images, channels_first(port)
    if images.shape[1:] == port.shape:
        return found
    notes, was = [], port.layout
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[2:] == first[1:]:
        was = "NCHW"
    elif images.ndim == 4 and images.shape[1:3] == first[1:]:
        images, was = images.transpose(0, 3, 1, 2), "NHWC"
    if port.layout != "any" and images.ndim == 4 and {images.shape[1], first[0]} == {1, 3}:
        images = _recoloured(images)
        notes.append("grey images are repeated in three channels" if first[0] == 3 else "colours became grey")
    if port.layout == "any" or images.shape[1:] != first:
        layout = "" if port.layout == "any" else f" ({port.layout})"
        raise StudentError(
            f"The images in {quote(name)} have the shape {found.images.shape[1:]}; the model takes "
            f"{port.shape}{layout}.",
            hint="Bring the images to that size before; kdbench moves axes, and resizes folders with --fit.",
        )
    if told and was != port.layout:
        notes.append(f"the images were {was} and are stored as {port.layout}")
    if port.layout == "NHWC":
        images = images.transpose(0, 2, 3, 1)
    return replace(found, images=np.ascontiguousarray(images), notes=(*found.notes, *notes))


def _recoloured(images: Array) -> Array:
    """Repeat grey (N, 1, H, W) three times, or weigh colours (N, 3, H, W) as ITU-R BT.601 does."""
    import numpy as np

    if images.shape[1] == 1:
        return np.repeat(images, 3, axis=1)
    grey = np.tensordot(np.array([0.299, 0.587, 0.114], np.float32), images, axes=(0, 1))[:, None]
    return np.rint(grey).astype(np.uint8) if images.dtype == np.uint8 else grey.astype(np.float32)
