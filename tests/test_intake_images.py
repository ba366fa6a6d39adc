"""The user's own images: from arrays and folders, in whatever form, and what is refused in a sentence."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
Image = pytest.importorskip("PIL.Image")

from kdbench.errors import UsageError  # noqa: E402
from kdbench.intake import Taken, on_the_fly  # noqa: E402
from kdbench.student import load_calibration, load_evaluation, read_card  # noqa: E402
from tests import graphs  # noqa: E402
from tests.graphs import Net, classifier  # noqa: E402


def imported(folder: Path, model: Any = None, **asked: Any) -> Taken:
    return graphs.imported(model or classifier(), folder, **asked)


def refusal(folder: Path, model: Any = None, **asked: Any) -> str:
    return graphs.refusal(model or classifier(), folder, **asked)


def pixels(count: int = 20, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *(shape or (3, 8, 8))), dtype=np.uint8)


def arrays(folder: Path, name: str = "test.npz", **given: Any) -> Path:
    path = folder / name
    np.savez(path, **given)
    return path


def pictures(
    folder: Path, classes: Any = ("ant", "bee", "cat"), size: Any = (8, 8), name: str = "photos"
) -> Path:
    """Make a folder of two pictures a class."""
    home = folder / name
    values = iter(pixels(2 * len(classes), *size, 3))
    for word in classes:
        (home / word).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(next(values)).save(home / word / f"{number}.png")
    return home


def labels_of(taken: Taken) -> list[int]:
    labels = load_evaluation(taken.student).labels
    assert labels is not None
    return labels.tolist()


def test_accuracy_is_that_of_the_reference_on_the_images_given(tmp_path):
    first = imported(tmp_path, evaluation=arrays(tmp_path, images=pixels()), output=tmp_path / "first")
    assert (first.correct, first.reason) == (None, "no labels")
    answers = load_evaluation(first.student).logits.argmax(axis=1)
    wrong = answers.copy()
    wrong[:5] = (answers[:5] + 1) % 3
    taken = imported(tmp_path, evaluation=arrays(tmp_path, images=pixels(), labels=wrong))
    assert (taken.correct, taken.images, taken.reason) == (15, 20, "")
    assert labels_of(taken) == wrong.tolist()
    card = read_card(taken.student)
    assert card.data.labelled
    assert (card.data.evaluation, card.data.source) == (20, "test.npz")


def test_bytes_are_divided_by_255_and_floats_are_left_alone(tmp_path):
    one = imported(tmp_path, evaluation=arrays(tmp_path, images=pixels()), output=tmp_path / "one")
    ready = (pixels() / np.float32(255)).astype(np.float32)
    other = imported(tmp_path, evaluation=arrays(tmp_path, images=ready), output=tmp_path / "other")
    np.testing.assert_array_equal(load_evaluation(one.student).logits, load_evaluation(other.student).logits)
    assert read_card(other.student).encoding.dtype == "float32"
    assert read_card(other.student).encoding.divisor == 1.0
    assert read_card(one.student).encoding.high == 1.0


def test_a_declared_normalisation_is_what_the_model_is_fed(tmp_path):
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    taken = imported(tmp_path, evaluation=arrays(tmp_path, images=pixels()), mean=mean, std=std)
    expected = (pixels() / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    np.testing.assert_allclose(load_evaluation(taken.student).inputs[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("labels", [np.zeros(20, np.uint8), np.zeros((20, 1), np.int32), np.zeros(20, bool)])
def test_labels_of_any_whole_kind_are_taken(tmp_path, labels):
    assert (
        labels_of(imported(tmp_path, evaluation=arrays(tmp_path, images=pixels(), labels=labels))) == [0] * 20
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"images": pixels(), "labels": np.full(20, 3)},
            "labels go from 3 to 3; the model has 3 outputs, 0 to 2",
        ),
        ({"images": pixels(), "labels": np.full(20, -1)}, "labels go from -1"),
        ({"images": pixels(), "labels": np.zeros(20)}, "is float64; expected whole numbers"),
        ({"images": pixels(), "labels": np.zeros(19, int)}, "expected (20,)"),
        ({"images": pixels(), "labels": np.zeros((20, 3), int)}, "labels.argmax(1)"),
        ({"images": pixels().astype(np.float32) * np.nan}, "20 of 20 images in 'test.npz' hold NaN"),
        ({"images": pixels().astype(np.int64)}, "is int64; expected uint8 or float32"),
        ({"images": pixels()[:0]}, "N at least 1"),
        ({"images": np.float32(1)}, "N at least 1"),
        ({"x": pixels(), "y": np.zeros(20)}, "holds 'x', 'y'; expected `images`"),
        ({"images": np.array([{"a": 1}] * 2, dtype=object)}, "Python objects, which are not unpickled"),
        ({"images": pixels(20, 3, 9, 9)}, "have the shape (3, 9, 9); the model takes (3, 8, 8) (NCHW)"),
        ({"images": pixels(20, 5, 8, 8)}, "the model takes (3, 8, 8)"),
        ({"images": pixels(), "classes": np.array(["a", "b"])}, "2 classes ('a', 'b'); the model has 3"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(tmp_path, given, says):
    assert says in refusal(tmp_path, evaluation=arrays(tmp_path, **given))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive"])
def test_a_file_that_is_no_npz_is_refused(tmp_path, content):
    (tmp_path / "test.npz").write_bytes(content)
    assert "cannot be read as an .npz" in refusal(tmp_path, evaluation=tmp_path / "test.npz")
    assert "does not exist" in refusal(tmp_path, evaluation=tmp_path / "none.npz")


def test_an_array_that_would_unpack_to_all_memory_is_refused_unread(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 20, 3, 512, 512)}
    )
    with zipfile.ZipFile(tmp_path / "test.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue())
    assert "more than the limit" in refusal(tmp_path, evaluation=tmp_path / "test.npz")


def test_arrays_with_channels_last_or_grey_are_brought_into_the_models_form(tmp_path):
    last = arrays(tmp_path, images=pixels().transpose(0, 2, 3, 1))
    taken = imported(tmp_path, evaluation=last, output=tmp_path / "last")
    straight = imported(tmp_path, evaluation=arrays(tmp_path, images=pixels()), output=tmp_path / "first")
    np.testing.assert_array_equal(
        load_evaluation(taken.student).logits, load_evaluation(straight.student).logits
    )
    assert "the images were NHWC and are stored as NCHW" in taken.notes
    grey = imported(tmp_path, evaluation=arrays(tmp_path, images=pixels(9, 8, 8)), output=tmp_path / "grey")
    assert "grey images are repeated in three channels" in grey.notes
    net = Net()
    scores = net.head(net.node("Flatten", net.features("images", channels=1)), 3)
    model = net.model(scores, shape=(1, 8, 8))
    colour = imported(
        tmp_path, model, evaluation=arrays(tmp_path, images=pixels()), output=tmp_path / "colour"
    )
    assert "colours became grey" in colour.notes


def test_a_model_with_channels_last_takes_either_kind(tmp_path):
    net = Net()
    turned = net.node("Transpose", "images", perm=[0, 3, 1, 2])
    model = net.model(net.head(net.node("Flatten", net.features(turned)), 3), shape=(8, 8, 3))
    logits = []
    for name, images in (("a", pixels()), ("b", pixels().transpose(0, 2, 3, 1))):
        taken = imported(tmp_path, model, evaluation=arrays(tmp_path, images=images), output=tmp_path / name)
        logits.append(load_evaluation(taken.student).logits)
    np.testing.assert_array_equal(*logits)
    folder = imported(tmp_path, model, evaluation=pictures(tmp_path))
    assert folder.notes == tuple(note for note in folder.notes if "NHWC" not in note)


def test_a_part_of_the_images_is_drawn_from_the_seed(tmp_path):
    given = arrays(tmp_path, images=pixels(), labels=np.arange(20) % 3)
    roots = [
        imported(tmp_path, evaluation=given, images=12, seed=seed, output=tmp_path / f"{number}").student
        for number, seed in enumerate((0, 0, 1))
    ]
    drawn = [load_evaluation(student).inputs[0] for student in roots]
    assert len(drawn[0]) == 12
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()


def test_a_folder_of_pictures_is_an_evaluation_with_named_classes(tmp_path):
    taken = imported(tmp_path, evaluation=pictures(tmp_path))
    assert taken.student.classes == ("ant", "bee", "cat")
    assert labels_of(taken) == [0, 0, 1, 1, 2, 2]


def test_folders_are_put_into_the_order_of_the_outputs(tmp_path):
    home = pictures(tmp_path)
    taken = imported(tmp_path, evaluation=home, classes=("cat", "ant", "bee"))
    assert labels_of(taken) == [1, 1, 2, 2, 0, 0]
    told = refusal(tmp_path, evaluation=home, classes=("cat", "ant", "bear"), output=tmp_path / "other")
    assert "the class 'bee', which is not among --classes" in told


def test_folders_may_be_fewer_than_the_classes_only_where_all_are_named(tmp_path):
    home = pictures(tmp_path, ("ant", "bee"))
    assert "2 classes ('ant', 'bee'); the model has 3 outputs" in refusal(tmp_path, evaluation=home)
    assert labels_of(imported(tmp_path, evaluation=home, classes=("bee", "cat", "ant"))) == [2, 2, 0, 0]


def test_pictures_change_their_size_only_when_told(tmp_path):
    home = pictures(tmp_path, size=(12, 20))
    assert "have 20x12 pixels; the model takes 8x8" in refusal(tmp_path, evaluation=home)
    logits = [
        load_evaluation(imported(tmp_path, evaluation=home, fit=fit, output=tmp_path / fit).student).logits
        for fit in ("stretch", "crop")
    ]
    assert (logits[0] != logits[1]).any()


def test_a_folder_that_cannot_be_used_is_refused(tmp_path):
    home = pictures(tmp_path)
    Image.fromarray(pixels(1, 9, 9, 3)[0]).save(home / "bee" / "9.png")
    assert "--fit" in refusal(tmp_path, evaluation=home)
    (home / "bee" / "9.png").write_bytes(b"no picture")
    assert "'bee/9.png'" in refusal(tmp_path, evaluation=home)
    net = Net()
    flat = net.model(net.head("images", 3), shape=(4,))
    assert "takes no images of three axes" in refusal(
        tmp_path, flat, evaluation=pictures(tmp_path, name="more")
    )


def test_calibration_images_are_kept_and_never_those_of_the_evaluation(tmp_path):
    mine = arrays(tmp_path, images=pixels(40)[20:])
    taken = imported(tmp_path, evaluation=arrays(tmp_path, "e.npz", images=pixels()), calibration=mine)
    assert load_calibration(taken.student)[0].shape == (20, 3, 8, 8)
    assert read_card(taken.student).data.calibration == 20
    elsewhere = {"output": tmp_path / "other"}
    shared = arrays(tmp_path, "c.npz", images=pixels(21)[19:])
    told = refusal(tmp_path, evaluation=tmp_path / "e.npz", calibration=shared, **elsewhere)
    assert "1 of 2 calibration images are evaluation images too" in told
    floats = arrays(tmp_path, "f.npz", images=pixels().astype(np.float32))
    assert "stores both alike" in refusal(tmp_path, calibration=floats, **elsewhere)
    same = {"evaluation": tmp_path / "e.npz", "calibration": tmp_path / "e.npz"}
    assert "are the same" in refusal(tmp_path, **same, **elsewhere)


def test_more_images_than_a_bundle_holds_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("kdbench.intake.prepare.ELEMENTS_LIMIT", 1000)
    assert "--images N" in refusal(tmp_path, evaluation=arrays(tmp_path, images=pixels()))


@pytest.mark.parametrize("classes", [["a"] * 3, [["a", "b", "c"]], ["a", "b", "\t"], [0.0, 1.0, 2.0]])
def test_names_of_classes_in_an_npz_that_name_none_are_refused(tmp_path, classes):
    path = arrays(tmp_path, images=pixels(), labels=np.zeros(20, int), classes=np.array(classes))
    assert "must be a row of names, all different, none empty" in refusal(tmp_path, evaluation=path)


@pytest.mark.parametrize("option", ["evaluation", "calibration"])
def test_a_pipe_or_a_device_is_refused_and_never_opened(tmp_path, option):
    os.mkfifo(tmp_path / "pipe.npz")
    for path in (tmp_path / "pipe.npz", Path("/dev/zero")):
        assert "is not a file" in refusal(tmp_path, **{option: path})
    with pytest.raises(UsageError, match="neither a file nor a folder"):
        on_the_fly(graphs.save(classifier(), tmp_path), tmp_path / "pipe.npz", tmp_path)


@pytest.mark.parametrize("dtype", ["|u1", "<U1000000"])
def test_an_array_that_promises_more_than_the_file_has_is_refused_before_room_is_made(tmp_path, dtype):
    path = tmp_path / "short.npz"
    header = io.BytesIO()
    shape = {"descr": dtype, "fortran_order": False, "shape": (1000, 3, 8, 8)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", header.getvalue())
    assert "ends before its 192000 elements do" in refusal(tmp_path, evaluation=path)


def test_one_image_alone_is_not_called_the_very_same_answer(tmp_path):
    taken = imported(tmp_path, evaluation=arrays(tmp_path, images=pixels(1), labels=np.array([0])))
    assert not any("very same answer" in note for note in taken.notes)
