"""Data sources: found by name, their keywords checked, real files read, and everything else a sentence."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tracemalloc
import zipfile
import zlib
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
from PIL import Image  # noqa: TID253  # these tests draw their own

from kdbench.distill.sources import SOURCES, Offer, Pictures, offer
from kdbench.distill.sources.cifar import cifar
from kdbench.distill.sources.digits import digits
from kdbench.distill.sources.files import LIMIT_BYTES, check_room
from kdbench.distill.sources.folder import folder, read_folder
from kdbench.distill.sources.mnist import mnist
from kdbench.distill.sources.npz import npz, read_npz_pictures
from kdbench.distill.sources.pixels import read_picture, resized
from kdbench.errors import RecipeError


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def draw(path: Path, pixels=None, **options) -> Path:
    """Write an image file; its kind is told by its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = (
        pixels
        if isinstance(pixels, Image.Image)
        else Image.fromarray(noise(6, 8) if pixels is None else pixels)
    )
    image.save(path, **options)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Give a folder of two classes with two pictures each, 8x6 pixels, all different."""
    for number, name in enumerate(("dog/a", "dog/b", "cat/a", "cat/b")):
        draw(tmp_path / "home" / f"{name}.png", noise(6, 8, seed=number))
    return tmp_path / "home"


def refused(action, *told: str) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        action()
    for text in told:
        assert text in str(caught.value)
    assert "\n" not in caught.value.message
    return caught.value


# Found by name


def one_of_each(*, greeting: str, times: int = 1, size: int, base: Path) -> Offer:
    """Offer two pictures, the first as bright as the recipe's images are large."""
    images = np.full((2, 1, 4, 4), size, np.uint8)
    images[1] = times
    return Offer(("a", "b"), Pictures(images, np.arange(2)), None, greeting, str(base.name), "CC0", "")


def broken(*, base: Path) -> Offer:
    raise OSError(5, "the disk\nis gone")


def lacking(*, base: Path) -> Offer:
    import no_such_library  # noqa: F401

    raise AssertionError


ANSWERS = {
    "other": (None, "it answered a NoneType, not an Offer"),
    "lines": ({"licence": "CC0\nor so"}, "licence is 'CC0\\nor so'"),
    "one-class": ({"classes": ("a",)}, "classes is ('a',)"),
    "same-class": ({"classes": ("a", "a")}, "a class stands twice among ('a', 'a')"),
    "odd-class": ({"classes": ("a", "b\u202e")}, "classes is"),
    "shape": ({"images": noise(2, 8, 8)}, "familiar has images of shape (2, 8, 8)"),
    "channels": ({"images": noise(2, 4, 8, 8)}, "expected (N, 1 or 3, H, W)"),
    "dtype": ({"images": np.zeros((2, 1, 8, 8), np.float32)}, "familiar has images of float32"),
    "none": ({"images": noise(0, 1, 8, 8)}, "familiar has no pixels"),
    "range": ({"images": np.full((2, 1, 8, 8), 2.0)}, "not all in 0..1"),
    "nan": ({"images": np.full((2, 1, 8, 8), np.nan)}, "not all in 0..1"),
    "labels": ({"labels": np.arange(2, dtype=np.int32)}, "has labels int32 (2,), expected int64 (2,)"),
    "count": ({"labels": np.arange(3)}, "has labels int64 (3,), expected int64 (2,)"),
    "high": ({"labels": np.array([0, 2])}, "has labels from 0 to 2, expected 0 to 1"),
    "names": ({"names": ("x",)}, "has 1 names for 2 images"),
    "mixed": ({"unfamiliar": Pictures(np.zeros((2, 1, 8, 8)), np.arange(2))}, "its domains differ in dtype"),
}


def answer(*, what: str, base: Path) -> object:
    """Answer what is wrong in one point."""
    changes, _ = ANSWERS[what]
    if changes is None:
        return None
    parts = {"images": noise(2, 1, 8, 8), "labels": np.arange(2), "names": (), **changes}
    familiar = Pictures(parts["images"], parts["labels"], parts["names"])
    lines = [parts.get(key, "x") for key in ("generator", "origin", "licence", "citation")]
    return Offer(parts.get("classes", ("a", "b")), familiar, parts.get("unfamiliar"), *lines)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install data sources of this file for one test, as two distributions' metadata."""
    (tmp_path / "own_sources.py").write_text(Path(__file__).read_text())
    names = ("one_of_each", "broken", "lacking", "answer", "nobody", "folder")
    entries = "".join(f"own-{name.replace('_', '-')} = own_sources:{name}\n" for name in names)
    for owner, lines in (("mine", entries), ("yours", "own-broken = own_sources:broken\n")):
        if owner == "yours":
            lines += "own-twice = own_sources:broken\n"
        else:
            lines += "own-twice = own_sources:folder\n"
            lines = lines.replace("own-broken = own_sources:broken\n", "")
        place = tmp_path / f"{owner}-1.dist-info"
        place.mkdir()
        (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {owner}\nVersion: 1\n")
        (place / "entry_points.txt").write_text(f"[kdbench.data]\n{lines}")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("installed")
def test_a_data_source_is_found_by_name_and_told_its_folder_and_the_size(tmp_path):
    found = offer("own-one-of-each", {"greeting": "hello", "times": 7}, base=tmp_path, size=32)
    assert found.generator == "hello"
    assert found.origin == tmp_path.name
    assert found.familiar.images[:, 0, 0, 0].tolist() == [32, 7]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("own-folde", {}, "There is no data source 'own-folde'; did you mean own-folder?"),
        ("zzz", {}, "There is no data source 'zzz'; there is: "),
        ("own-twice", {}, "The data source 'own-twice' is offered by mine and yours."),
        ("own-nobody", {}, "The data source 'own-nobody' (own_sources:nobody) cannot be loaded"),
        ("own-broken", {}, "The data source 'own-broken' failed: [Errno 5] the disk is gone."),
        (
            "own-lacking",
            {},
            "The data source 'own-lacking' needs what is not installed here: no_such_library.",
        ),
    ],
)
def test_a_data_source_that_cannot_be_used_is_a_sentence(tmp_path, name, arguments, told):
    refused(lambda: offer(name, arguments, base=tmp_path), told)


@pytest.mark.usefixtures("installed")
def test_all_that_is_wrong_in_the_arguments_is_told_at_once(tmp_path):
    wrong = {"familar": "x", "fit": "squash", "licence": 3, "base": "/", "size": 9}
    with pytest.raises(RecipeError) as caught:
        offer("own-folder", wrong, base=tmp_path)
    assert caught.value.message.split("\n  ")[1:] == [
        "data.arguments.base is not known",
        "data.arguments.familar is not known; did you mean familiar?",
        "data.arguments.familiar is missing",
        "data.arguments.fit must be refuse, stretch or crop, not 'squash'",
        "data.arguments.licence must be plain text, not 3",
        "data.arguments.size is not known",
    ]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("what", ANSWERS)
def test_an_answer_that_is_not_what_was_promised_is_a_sentence(tmp_path, what):
    refused(lambda: offer("own-answer", {"what": what}, base=tmp_path), ANSWERS[what][1])


def test_the_sources_of_the_project_are_found_by_name(home):
    found = {entry.name: entry.load() for entry in entry_points(group=SOURCES)}
    own = {"cifar": cifar, "digits": digits, "folder": folder, "mnist": mnist, "npz": npz}
    assert own.items() <= found.items()
    assert len(offer("digits", {"task": "10"}, base=home).classes) == 10
    wish = {"familiar": "home", "fit": "stretch"}
    assert offer("folder", wish, base=home.parent, size=5).familiar.images.shape == (4, 1, 5, 5)
    with pytest.raises(RecipeError, match=r"task must be 2x5 or 10, not '2x6'; did you mean 2x5\?"):
        offer("digits", {"task": "2x6"}, base=home)


# Folders


def test_a_folder_is_read_in_the_order_of_names(home):
    pictures, classes = read_folder(home)
    assert classes == ("cat", "dog")
    assert pictures.names == ("cat/a.png", "cat/b.png", "dog/a.png", "dog/b.png")
    assert pictures.images.shape == (4, 1, 6, 8)
    assert pictures.labels.tolist() == [0, 0, 1, 1]
    assert np.array_equal(pictures.images[2, 0], noise(6, 8, seed=0))


def test_two_folders_are_two_domains_that_need_not_be_of_one_size(home, tmp_path):
    for name in ("cat", "dog"):
        draw(tmp_path / "away" / name / "x.bmp", noise(5, 5, 3, seed=9))
    found = folder(familiar="home", unfamiliar="away", licence="mine", base=tmp_path)
    assert found.unfamiliar.images.shape == (2, 3, 5, 5)
    assert (found.origin, found.licence) == ("image folders 'home' and 'away'", "mine")
    assert folder(familiar=str(home), base=Path("elsewhere")).licence == "not stated"


def test_one_picture_in_colour_makes_all_of_its_domain_so(home):
    draw(home / "cat" / "c.png", noise(6, 8, 3, seed=7))
    images = read_folder(home)[0].images
    assert images.shape == (5, 3, 6, 8)
    assert (images[[0, 1, 3, 4], 0] == images[[0, 1, 3, 4], 2]).all()
    assert np.array_equal(images[2].transpose(1, 2, 0), noise(6, 8, 3, seed=7))


def test_pictures_of_unequal_size_are_refused_unless_it_is_said_how_to_make_them_alike(home):
    draw(home / "dog" / "wide.png", noise(6, 24))
    refused(
        lambda: read_folder(home, size=4),
        "'cat/a.png' has 8x6 pixels, 'dog/wide.png' 24x6.",
        "fit = 'crop'",
        "fit = 'stretch'",
    )
    assert read_folder(home, fit="stretch", size=4)[0].images.shape == (5, 1, 4, 4)
    cropped = read_folder(home, fit="crop", size=(6, 8))[0].images
    assert np.array_equal(cropped[4, 0], noise(6, 24)[:, 8:16])
    refused(lambda: read_folder(home, fit="crop"), "fit = 'crop' needs the size")


def test_hidden_files_are_passed_over_and_links_inside_followed(home):
    (home / ".DS_Store").write_text("x")
    (home / "cat" / "._a.png").write_text("x")
    (home / ".git").mkdir()
    (home / "cat" / "z.png").symlink_to("../dog/a.png")
    (home / "owl").symlink_to("dog")
    pictures, classes = read_folder(home)
    assert classes == ("cat", "dog", "owl")
    assert np.array_equal(pictures.images[2], pictures.images[3])


def promising(png: bytes, side: int) -> bytes:
    """Give a PNG with a header that says that it is so large."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return png[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[33:]


def spoil(home: Path, what: str) -> None:
    """Put into a folder what should not be there."""
    cat, whole = home / "cat", (home / "cat" / "a.png").read_bytes()
    match what:
        case "text":
            (cat / "notes.txt").write_text("meow")
        case "empty file":
            (cat / "c.png").write_bytes(b"")
        case "truncated":
            (cat / "c.png").write_bytes(whole[:-30])
        case "truncated jpeg":
            draw(cat / "c.jpg", noise(64, 64, 3))
            (cat / "c.jpg").write_bytes((cat / "c.jpg").read_bytes()[:-200])
        case "damaged":
            (cat / "c.png").write_bytes(whole.replace(b"IDAT", b"IDXX"))
        case "vector":
            (cat / "c.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n")
        case "frames":
            frames = [Image.fromarray(noise(6, 8, seed=seed)) for seed in range(3)]
            frames[0].save(cat / "c.gif", save_all=True, append_images=frames[1:])
        case "bomb":
            (cat / "c.png").write_bytes(promising(whole, 9000))
        case "huge bomb":
            (cat / "c.png").write_bytes(promising(whole, 90000))
        case "float":
            draw(cat / "c.tiff", np.zeros((6, 8), np.float32))
        case "32 bit":
            draw(cat / "c.tiff", np.zeros((6, 8), np.int32))
        case "nested":
            draw(cat / "young" / "a.png")
        case "pipe":
            os.mkfifo(cat / "c.png")
        case "outside":
            draw(home.parent / "other.png")
            (cat / "c.png").symlink_to(home.parent / "other.png")
        case "outside class":
            (home / "owl").symlink_to(home.parent)
        case "dangling":
            (cat / "c.png").symlink_to("nowhere.png")
        case "loop":
            (cat / "c.png").symlink_to("c.png")
        case "stray":
            draw(home / "stray.png")
        case "empty class":
            (home / "owl").mkdir()
        case "hidden only":
            (home / "owl").mkdir()
            (home / "owl" / ".keep").write_text("")


FOLDER_FAULTS = {
    "text": "'cat/notes.txt' is no image that can be read, or a damaged one; expected PNG, JPEG,",
    "empty file": "'cat/c.png' is no image that can be read",
    "truncated": "The image 'cat/c.png' is damaged or cannot be read: ",
    "truncated jpeg": "The image 'cat/c.jpg' is damaged or cannot be read: image file is truncated",
    "damaged": "'cat/c.png' is no image that can be read, or a damaged one",
    "vector": "'cat/c.eps' is no image that can be read",
    "frames": "The image 'cat/c.gif' has 3 frames, expected one.",
    "bomb": "The image 'cat/c.png' has 9000x9000 pixels, more than the limit of 67108864.",
    "huge bomb": "cannot be read: Image size (8100000000 pixels) exceeds limit",
    "float": "The image 'cat/c.tiff' has values of 32 bits (mode F), expected 8 or 16.",
    "32 bit": "The image 'cat/c.tiff' has values of 32 bits (mode I), expected 8 or 16.",
    "nested": "'cat/young' in '",
    "pipe": "is neither a file nor a folder.",
    "outside": "is a link that leads out of that folder.",
    "outside class": "'owl' in '",
    "dangling": "is a link that leads nowhere.",
    "loop": "is a link that leads nowhere.",
    "stray": "is not a folder; expected one for each class.",
    "empty class": "The class 'owl' in '",
    "hidden only": "has no pictures.",
}


@pytest.mark.parametrize("what", FOLDER_FAULTS)
def test_what_is_no_picture_of_a_class_is_refused_by_name(home, what):
    spoil(home, what)
    refused(lambda: folder(familiar="home", base=home.parent), FOLDER_FAULTS[what])


def test_a_folder_without_classes_is_refused(tmp_path):
    (tmp_path / "none").mkdir()
    draw(tmp_path / "one" / "cat" / "a.png")
    refused(
        lambda: folder(familiar="none", base=tmp_path), "has no folders in it; expected one for each class"
    )
    refused(lambda: folder(familiar="one", base=tmp_path), "has one class, 'cat'; at least two are needed")
    refused(lambda: folder(familiar="gone", base=tmp_path), "gone' does not exist; expected a folder")
    refused(lambda: folder(familiar="one/cat/a.png", base=tmp_path), "is a file, not a folder")
    refused(lambda: folder(familiar="", base=tmp_path), "data.arguments.familiar is ''")
    refused(lambda: folder(familiar="a\0b", base=tmp_path), r"data.arguments.familiar is 'a\x00b'")
    refused(lambda: folder(familiar="x" * 300, base=tmp_path), "cannot be read: File name too long.")
    assert read_folder(tmp_path / "one")[1] == ("cat",)


def test_domains_of_other_classes_are_refused_with_the_difference(home, tmp_path):
    for name in ("cat", "wolf"):
        draw(tmp_path / "away" / name / "x.png")
    refused(
        lambda: folder(familiar="home", unfamiliar="away", base=tmp_path),
        "not the same classes: only the familiar one has 'dog'; only the unfamiliar one has 'wolf'.",
        "A teacher with other classes",
    )


def test_names_that_would_upset_a_terminal_are_shown_harmless(home):
    (home / "owl\n").mkdir()
    refused(lambda: read_folder(home), r"has a class named 'owl\n', expected plain text in one line")
    (home / "owl\n").rmdir()
    (home / "cat" / "\x1b[2J\udcff.png").write_bytes(b"x")
    refused(lambda: read_folder(home), r"'cat/\x1b[2J\udcff.png' is no image")


# Kinds of image


GREY = noise(6, 8)
COLOUR = noise(6, 8, 3)


@pytest.mark.parametrize("ending", ["png", "bmp", "gif", "tiff", "pgm"])
def test_grey_images_of_every_lossless_kind_are_read_as_they_are(tmp_path, ending):
    found = read_picture(draw(tmp_path / f"a.{ending}", GREY), "a")
    assert np.array_equal(found[0], GREY)


@pytest.mark.parametrize("ending", ["png", "bmp", "webp", "tiff", "ppm"])
def test_colour_images_of_every_lossless_kind_are_read_as_they_are(tmp_path, ending):
    options = {"lossless": True} if ending == "webp" else {}
    found = read_picture(draw(tmp_path / f"a.{ending}", COLOUR, **options), "a")
    assert np.array_equal(found.transpose(1, 2, 0), COLOUR)


def test_a_jpeg_is_read_and_turned_as_its_exif_says(tmp_path):
    pixels = np.zeros((16, 24), np.uint8)
    pixels[:, :8] = 255
    exif = Image.Exif()
    exif[274] = 6  # to be turned a quarter clockwise
    found = read_picture(draw(tmp_path / "a.jpg", pixels, exif=exif, quality=95), "a")
    assert found.shape == (1, 24, 16)
    assert found[0, :7].min() > 200
    assert found[0, 9:].max() < 50


def test_sixteen_bits_keep_the_upper_eight(tmp_path):
    deep = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1365
    for ending in ("png", "tiff"):
        assert np.array_equal(read_picture(draw(tmp_path / f"a.{ending}", deep), "a")[0], deep >> 8)
    (tmp_path / "a.pgm").write_bytes(b"P5 8 6 65535\n" + deep.astype(">u2").tobytes())
    assert np.array_equal(read_picture(tmp_path / "a.pgm", "a")[0], deep >> 8)


@pytest.mark.parametrize("mode", ["1", "LA", "P", "RGBA", "CMYK", "YCbCr", "LAB"])
def test_other_modes_become_grey_or_colour(tmp_path, mode):
    image = Image.fromarray(COLOUR)
    if mode == "LAB":
        image = Image.merge("LAB", image.split())
    image = image.convert("L").convert(mode) if mode in ("1", "LA") else image.convert(mode)
    found = read_picture(
        draw(tmp_path / ("a.png" if mode in ("1", "LA", "P", "RGBA") else "a.tiff"), image), "a"
    )
    assert found.shape == (1 if mode in ("1", "LA") else 3, 6, 8)
    if mode == "RGBA":
        assert np.array_equal(found.transpose(1, 2, 0), COLOUR)


def test_what_is_transparent_lies_over_black(tmp_path):
    alpha = np.full((6, 8), 255, np.uint8)
    alpha[:, :4] = 0
    found = read_picture(draw(tmp_path / "a.png", np.dstack([COLOUR, alpha])), "a")
    assert not found[:, :, :4].any()
    assert np.array_equal(found[:, :, 4:], COLOUR.transpose(2, 0, 1)[:, :, 4:])
    found = read_picture(draw(tmp_path / "b.png", Image.fromarray(np.dstack([GREY, alpha]), "LA")), "b")
    assert np.array_equal(found[0], GREY * (alpha > 0))
    palette = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8), "P")
    palette.putpalette([200] * 768)
    found = read_picture(draw(tmp_path / "c.png", palette, transparency=3), "c")
    assert np.array_equal(found[0] == 0, np.arange(48).reshape(6, 8) == 3)


def test_resizing_stretches_or_takes_the_middle():
    picture = np.zeros((1, 4, 8), np.uint8)
    picture[:, :, 1:7] = 255
    assert (resized(picture, (2, 2), crop=True) == 255).all()
    assert (resized(picture, (2, 2)) < 255).all()
    assert resized(picture, (4, 8)) is picture
    assert resized(noise(3, 4, 8), (7, 3)).shape == (3, 7, 3)
    tall = np.zeros((1, 9, 3), np.uint8)
    tall[:, 2:7] = 255
    assert (resized(tall, (3, 3), crop=True) == 255).all()


# Arrays


def saved(path: Path, **arrays) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("shape", [(4, 8, 6), (4, 1, 8, 6), (4, 8, 6, 1), (4, 3, 8, 6), (4, 8, 6, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint64])
def test_an_npz_of_every_plain_layout_is_read(tmp_path, shape, dtype):
    images = noise(*shape)
    path = saved(tmp_path / "a.npz", images=images, labels=np.array([0, 1, 1, 0], dtype))
    pictures, classes = read_npz_pictures(path)
    last = shape[-1] in (1, 3)
    expected = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2) if last else images
    assert np.array_equal(pictures.images, expected)
    assert (pictures.labels.dtype, pictures.labels.tolist(), classes) == (np.int64, [0, 1, 1, 0], None)


def test_an_npz_may_be_compressed_and_in_fortran_order_and_name_its_classes(tmp_path):
    images = np.asfortranarray(noise(4, 8, 6))
    np.savez_compressed(tmp_path / "a.npz", images=images, labels=[0, 1, 1, 0], classes=["cat", "dog"])
    pictures, classes = read_npz_pictures(tmp_path / "a.npz")
    assert classes == ("cat", "dog")
    assert np.array_equal(pictures.images[:, 0], images)


def test_two_arrays_are_two_domains_of_the_same_classes(tmp_path):
    base = tmp_path
    named = saved(base / "named.npz", images=noise(2, 8, 8), labels=[0, 1], classes=["cat", "dog"])
    bare = saved(base / "bare.npz", images=noise(3, 9, 9), labels=[0, 1, 1])
    other = saved(base / "other.npz", images=noise(2, 8, 8), labels=[0, 1], classes=["cat", "wolf"])
    turned = saved(base / "turned.npz", images=noise(2, 8, 8), labels=[0, 1], classes=["dog", "cat"])
    three = saved(base / "three.npz", images=noise(3, 8, 8), labels=[0, 1, 2])
    gap = saved(base / "gap.npz", images=noise(2, 8, 8), labels=[0, 2])
    one = saved(base / "one.npz", images=noise(2, 8, 8), labels=[0, 0])

    def read(familiar, unfamiliar=""):
        return npz(familiar=familiar.name, unfamiliar=unfamiliar and unfamiliar.name, base=base)

    assert read(bare).classes == ("0", "1")
    assert read(bare, named).classes == read(named, bare).classes == ("cat", "dog")
    assert read(named, bare).unfamiliar.images.shape == (3, 1, 9, 9)
    assert read(bare, bare).origin == "arrays in 'bare.npz' and 'bare.npz'"
    refused(lambda: read(named, other), "only the familiar one has 'dog'; only the unfamiliar one has 'wolf'")
    refused(lambda: read(named, turned), "they name the same ones in another order")
    refused(lambda: read(named, three), "run from 0 to 2, but there are 2 classes: expected 0 to 1")
    refused(lambda: read(three, named), "run from 0 to 2, but there are 2 classes: expected 0 to 1")
    refused(
        lambda: read(bare, three), "two domains have not the same classes: only the unfamiliar one has '2'"
    )
    refused(lambda: read(gap), "No label in '", "is 1, though the highest is 2")
    refused(lambda: read(one), "has one class, '0'; at least two are needed")


def header(shape: tuple[int, ...], descr: str = "|u1") -> bytes:
    """Give an npy file of this header and no data."""
    packed = io.BytesIO()
    np.lib.format.write_array_header_1_0(packed, {"descr": descr, "fortran_order": False, "shape": shape})
    return packed.getvalue()


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy(array) -> bytes:
    packed = io.BytesIO()
    np.lib.format.write_array(packed, np.asarray(array))
    return packed.getvalue()


IMAGES, LABELS = noise(4, 8, 8), np.array([0, 1, 0, 1])
NPZ_FAULTS = {
    "missing labels": ({"images": IMAGES}, "holds 'images'; expected images, labels and perhaps classes."),
    "other names": ({"x": IMAGES, "y": LABELS}, "holds 'x', 'y'; expected images, labels"),
    "more names": ({"images": IMAGES, "labels": LABELS, "ids": LABELS}, "holds 'ids', 'images', 'labels'"),
    "float images": (
        {"images": IMAGES / 255, "labels": LABELS},
        "are float64, expected uint8 from 0 to 255.",
    ),
    "nan images": ({"images": IMAGES * np.nan, "labels": LABELS}, "are float64, expected uint8"),
    "int images": ({"images": IMAGES.astype(int), "labels": LABELS}, "are int64, expected uint8"),
    "float labels": (
        {"images": IMAGES, "labels": LABELS / 1},
        "are float64 (4,), expected whole numbers (N,).",
    ),
    "nan labels": ({"images": IMAGES, "labels": LABELS * np.nan}, "are float64 (4,), expected whole numbers"),
    "one-hot labels": (
        {"images": IMAGES, "labels": np.eye(4, dtype=int)},
        "are int64 (4, 4), expected whole",
    ),
    "text labels": (
        {"images": IMAGES, "labels": ["a", "b", "a", "b"]},
        "are <U1 (4,), expected whole numbers",
    ),
    "negative labels": (
        {"images": IMAGES, "labels": LABELS - 1},
        "run from -1 to 0; expected numbers from 0",
    ),
    "wild labels": ({"images": IMAGES, "labels": LABELS * 2**40}, "run from 0 to 1099511627776; expected"),
    "labels out of range": (
        {"images": IMAGES, "labels": LABELS * 2, "classes": ["a", "b"]},
        "run from 0 to 2, but there are 2 classes: expected 0 to 1.",
    ),
    "other count": ({"images": IMAGES, "labels": LABELS[:3]}, "has 4 images and 3 labels; expected as many"),
    "object labels": (
        {"images": IMAGES, "labels": np.array([0, None, 1, 2], object)},
        "holds Python objects, which are pickled; kdbench opens no pickles.",
    ),
    "object classes": (
        {"images": IMAGES, "labels": LABELS, "classes": np.array(["a", "b"], object)},
        "holds Python objects, which are pickled",
    ),
    "byte classes": (
        {"images": IMAGES, "labels": LABELS, "classes": [b"a", b"b"]},
        "are |S1 (2,), expected text",
    ),
    "same classes": (
        {"images": IMAGES, "labels": LABELS, "classes": ["a", "a"]},
        "have 'a' more than once.",
    ),
    "odd classes": (
        {"images": IMAGES, "labels": LABELS, "classes": ["a", "b\x1b[2J"]},
        r"has a class named 'b\x1b[2J', expected plain text in one line of at most 255 characters.",
    ),
    "long classes": (
        {"images": IMAGES, "labels": LABELS, "classes": ["a", "b" * 256]},
        "at most 255 characters",
    ),
    "nameless classes": ({"images": IMAGES, "labels": LABELS, "classes": ["a", ""]}, "has a class named ''"),
    "both axes": (
        {"images": noise(4, 3, 8, 3), "labels": LABELS},
        "both the second and the last axis could be",
    ),
    "no axis": (
        {"images": noise(4, 8, 8, 4), "labels": LABELS},
        "neither the second nor the last axis is 1 or 3",
    ),
    "flat": ({"images": noise(4, 64), "labels": LABELS}, "have the shape (4, 64); expected (N, H, W),"),
    "none": ({"images": noise(0, 8, 8), "labels": LABELS[:0]}, "have the shape (0, 8, 8); expected"),
}


@pytest.mark.parametrize("what", NPZ_FAULTS)
def test_arrays_that_are_not_what_they_should_be_are_a_sentence(tmp_path, what):
    arrays, told = NPZ_FAULTS[what]
    saved(tmp_path / "a.npz", **arrays)
    refused(lambda: npz(familiar="a.npz", base=tmp_path), told)


RAW_FAULTS = {
    "bomb": (
        {"images": header((1 << 20, 224, 224, 3))},
        "would take 157840048128 bytes of memory, more than",
    ),
    "promise": ({"images": header((1 << 30, 1, 2))}, "has not the 2147483776 bytes that it promises."),
    "negative": ({"images": header((-4, 8, 8))}, "has the shape (-4, 8, 8), which cannot be."),
    "overflow": ({"images": header((1 << 62, 1 << 62, 1))}, "bytes of memory, more than the limit"),
    "label bomb": ({"labels": header((1 << 40,), "<i8")}, "labels in '"),
    "name bomb": (
        {"classes": header((2,), "<U99999999")},
        "would take more than the limit of 67108864 bytes.",
    ),
    "no npy": ({"images": b"hello"}, "images in '"),
    "open header": ({"images": b"\x93NUMPY\x01\x00\x10\x00" + b"{'descr': (((((" + b" "}, "cannot be read: "),
    "wild header": ({"images": b"\x93NUMPY\x01\x00\x10\x00" + b"{'descr': f()}  "}, "cannot be read: "),
}


@pytest.mark.parametrize("what", RAW_FAULTS)
def test_arrays_that_promise_too_much_are_refused_unpacked(tmp_path, what):
    members, told = RAW_FAULTS[what]
    zipped(tmp_path / "a.npz", **{"images": npy(IMAGES), "labels": npy(LABELS), **members})
    tracemalloc.start()
    try:
        refused(lambda: read_npz_pictures(tmp_path / "a.npz"), told)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


def test_what_is_no_npz_is_a_sentence(tmp_path):
    np.save(tmp_path / "a.npy", IMAGES)
    with (tmp_path / "b.npz").open("wb") as stream:
        pickle.dump({"images": 1}, stream)
    whole = saved(tmp_path / "c.npz", images=IMAGES, labels=LABELS).read_bytes()
    (tmp_path / "d.npz").write_bytes(whole[:-40])
    (tmp_path / "e.npz").write_bytes(whole.replace(IMAGES.tobytes(), IMAGES[::-1].tobytes()))
    os.mkfifo(tmp_path / "f.npz")
    zipped(tmp_path / "g.npz")
    for name, told in (
        ("a.npy", "cannot be read as npz: File is not a zip file."),
        ("b.npz", "cannot be read as npz: File is not a zip file."),
        ("d.npz", "cannot be read as npz: File is not a zip file."),
        ("e.npz", "images in '"),
        ("f.npz", "is not a file; expected an npz file."),
        ("g.npz", "holds nothing; expected images, labels"),
        ("h.npz", "does not exist; expected an npz file."),
        (".", "is not a file; expected an npz file."),
    ):
        refused(lambda name=name: npz(familiar=name, base=tmp_path), told)


def test_room_is_limited():
    check_room("It", LIMIT_BYTES)
    refused(lambda: check_room("It", LIMIT_BYTES, 2), "It would take 8589934592 bytes of memory")


# MNIST


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes((0, 0, kind, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def idx_home(tmp_path: Path) -> Path:
    place = tmp_path / "mnist"
    place.mkdir()
    (place / "train-images-idx3-ubyte").write_bytes(idx(noise(20, 28, 28)))
    (place / "train-labels.idx1-ubyte").write_bytes(idx(np.arange(20, dtype=np.uint8) % 10))
    (place / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(noise(5, 28, 28, seed=1))))
    (place / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(5, dtype=np.uint8))))
    return place


def test_mnist_is_read_packed_or_not_both_parts_together(idx_home):
    found = mnist(folder="mnist", base=idx_home.parent)
    assert found.classes == tuple("0123456789")
    assert np.array_equal(
        found.familiar.images[:, 0], np.concatenate([noise(20, 28, 28), noise(5, 28, 28, seed=1)])
    )
    assert found.familiar.labels.tolist() == [*range(10), *range(10), *range(5)]
    for path in idx_home.glob("t10k*"):
        path.unlink()
    names = tuple("abcdefghij")
    found = mnist(folder="mnist", classes=names, licence="MIT", base=idx_home.parent)
    assert (len(found.familiar), found.classes, found.licence) == (20, names, "MIT")


IDX_FAULTS = {
    "short": (lambda raw: raw[:-1], "promises 15680 bytes after its header and has 15679."),
    "long": (lambda raw: raw + b"x", "promises 15680 bytes after its header and has more."),
    "magic": (
        lambda raw: b"\x00\x00\x0d\x03" + raw[4:],
        "does not begin as an IDX file of bytes with 3 axes.",
    ),
    "axes": (lambda raw: raw[:3] + b"\x01" + raw[4:], "does not begin as an IDX file of bytes with 3 axes."),
    "packed": (gzip.compress, "Is it packed although its name does not end in .gz?"),
    "empty": (lambda raw: b"", "does not begin as an IDX file"),
    "no pictures": (
        lambda raw: raw[:4] + bytes(4) + raw[8:],
        "has the shape (0, 28, 28); expected none of it",
    ),
    "bomb": (lambda raw: raw[:4] + b"\xff" * 12, "bytes of memory, more than the limit"),
    "count": (lambda raw: idx(noise(19, 28, 28)), "has 19 pictures, 'train-labels.idx1-ubyte' 20 labels."),
    "size": (lambda raw: idx(noise(20, 20, 28)), "have pictures of unequal size: [(20, 28), (28, 28)]."),
}


@pytest.mark.parametrize("what", IDX_FAULTS)
def test_idx_files_that_are_not_what_they_promise_are_a_sentence(idx_home, what):
    change, told = IDX_FAULTS[what]
    path = idx_home / "train-images-idx3-ubyte"
    path.write_bytes(change(path.read_bytes()))
    refused(lambda: mnist(folder="mnist", base=idx_home.parent), told)


def test_mnist_that_is_not_whole_is_a_sentence(idx_home):
    base = idx_home.parent
    packed = idx_home / "t10k-images-idx3-ubyte.gz"
    whole = packed.read_bytes()
    for content, told in (
        (whole[:-20], "cannot be read: Compressed file ended"),
        (b"x" * 100, "cannot be read: Not a gzipped file"),
        (whole[:50] + bytes(20) + whole[70:], "cannot be read: "),
    ):
        packed.write_bytes(content)
        refused(lambda: mnist(folder="mnist", base=base), told)
    packed.unlink()
    refused(lambda: mnist(folder="mnist", classes=("a", "b"), base=base), "is 9, but 2 classes are named.")
    refused(lambda: mnist(folder=".", base=base), "has neither train-images", "The folder 'mnist' in it has.")
    refused(
        lambda: mnist(folder="gone", base=base), "gone' does not exist; expected a folder with the IDX files"
    )
    (idx_home / "train-labels.idx1-ubyte").unlink()
    refused(lambda: mnist(folder="mnist", base=base), "has train-images-idx3-ubyte, but not its labels.")


def test_pictures_with_two_labels_are_left_out_on_request(idx_home):
    images = noise(20, 28, 28)
    images[7] = images[3]
    (idx_home / "train-images-idx3-ubyte").write_bytes(idx(images))
    assert len(mnist(folder="mnist", base=idx_home.parent).familiar) == 25
    assert len(mnist(folder="mnist", contradictory="drop", base=idx_home.parent).familiar) == 23


# CIFAR


def records(labels: list[list[int]], seed: int = 0) -> bytes:
    pixels = noise(len(labels), 3072, seed=seed)
    return np.concatenate([np.array(labels, np.uint8), pixels], axis=1).tobytes()


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    place = tmp_path / "cifar-10-batches-bin"
    place.mkdir()
    (place / "batches.meta.txt").write_text("\n".join(("airplane", "automobile", "bird")) + "\n\n")
    (place / "data_batch_1.bin").write_bytes(records([[0], [1], [2], [0]]))
    (place / "data_batch_2.bin").write_bytes(records([[1], [1]], seed=1))
    (place / "test_batch.bin").write_bytes(records([[2]], seed=2))
    return place


@pytest.fixture
def hundred(tmp_path: Path) -> Path:
    place = tmp_path / "cifar-100-binary"
    place.mkdir()
    (place / "coarse_label_names.txt").write_text("fish\nflowers\n")
    (place / "fine_label_names.txt").write_text("carp\npike\nrose\n")
    (place / "train.bin").write_bytes(records([[0, 0], [0, 1], [1, 2]]))
    (place / "test.bin").write_bytes(records([[1, 2]], seed=1))
    return place


def test_cifar_10_is_read_training_and_test_together(ten):
    found = cifar(folder=ten.name, base=ten.parent)
    assert found.classes == ("airplane", "automobile", "bird")
    assert found.familiar.labels.tolist() == [0, 1, 2, 0, 1, 1, 2]
    assert np.array_equal(found.familiar.images[4], noise(2, 3072, seed=1)[0].reshape(3, 32, 32))


def test_cifar_100_is_read_with_either_of_its_labels(hundred):
    fine = cifar(folder=hundred.name, base=hundred.parent)
    coarse = cifar(folder=hundred.name, labels="coarse", base=hundred.parent)
    assert (fine.classes, fine.familiar.labels.tolist()) == (("carp", "pike", "rose"), [0, 1, 2, 2])
    assert (coarse.classes, coarse.familiar.labels.tolist()) == (("fish", "flowers"), [0, 0, 1, 1])
    assert np.array_equal(fine.familiar.images, coarse.familiar.images)


def test_cifar_that_is_something_else_is_a_sentence(ten, hundred, tmp_path):
    def read(place=ten):
        return cifar(folder=place.name, base=tmp_path)

    refused(lambda: cifar(folder=".", base=tmp_path), "The folder 'cifar-10-batches-bin' in it has.")
    python = tmp_path / "cifar-10-batches-py"
    python.mkdir()
    refused(
        lambda: read(python),
        "has neither data_batch_1.bin and its like nor train.bin.",
        "cifar-10-binary.tar.gz",
    )
    with (python / "data_batch_1").open("wb") as stream:
        pickle.dump({b"data": noise(2, 3072)}, stream)
    refused(
        lambda: read(python), "holds the Python version of CIFAR, which is pickled; kdbench opens no pickles."
    )
    (ten / "data_batch_2.bin").write_bytes(records([[0]])[:-1])
    refused(lambda: read(), "has 3072 bytes, expected a multiple of 3073, the bytes of a record of CIFAR-10.")
    (ten / "data_batch_2.bin").write_bytes(b"")
    refused(lambda: read(), "has 0 bytes, expected a multiple of 3073")
    (ten / "data_batch_2.bin").write_bytes(records([[3]]))
    refused(lambda: read(), "data_batch_2.bin' is 3, but batches.meta.txt names 3 classes.")
    (ten / "batches.meta.txt").write_bytes(b"\xff\xfe")
    refused(lambda: read(), "batches.meta.txt', which names the classes, cannot be read: ")
    (ten / "batches.meta.txt").unlink()
    refused(lambda: read(), "batches.meta.txt', which names the classes, cannot be read: ")
    (hundred / "test_batch.bin").write_bytes(records([[0]]))
    refused(lambda: read(hundred), "has records of both CIFAR-10 and CIFAR-100.")
