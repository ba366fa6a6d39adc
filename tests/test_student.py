"""The embedded student is whole, and a bundle that is not, or that means harm, is refused in a sentence."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings, strategies as st

from kdbench.card import CARD_LIMIT_BYTES, LadderRow, decode, encode
from kdbench.errors import StudentError
from kdbench.student import (
    check_writable,
    embedded,
    load_calibration,
    load_evaluation,
    open_student,
    read_card,
    teacher_of,
    write_bundle,
)

Edit = Callable[[dict[str, Any]], None]


class Bundle:
    """A copy of the embedded bundle that a test alters."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.card = root / "card.json"

    def edit(self, change: Edit) -> None:
        card = json.loads(self.card.read_bytes())
        change(card)
        self.card.write_text(json.dumps(card))

    def swap(self, role: str, content: bytes) -> None:
        """Replace a file and make the card agree, as one who means harm would."""

        def agree(card: dict[str, Any]) -> None:
            file = card["files"][role]
            (self.root / file["path"]).write_bytes(content)
            file |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

        self.edit(agree)

    def swap_arrays(self, role: str, **arrays: Any) -> None:
        packed = io.BytesIO()
        np.savez_compressed(packed, **arrays)
        self.swap(role, packed.getvalue())


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle(Path(shutil.copytree(open_student("digits-2x5").root, tmp_path / "copy")))


def refusal(where: Path) -> str:
    with pytest.raises(StudentError) as caught:
        open_student(where)
    assert "\n" not in caught.value.message
    return str(caught.value)


def test_the_embedded_student_opens_by_name_and_by_folder(bundle: Bundle) -> None:
    student, copy = open_student("digits-2x5"), open_student(bundle.root)
    assert "digits-2x5" in embedded()
    assert student.sha256 == copy.sha256 == hashlib.sha256(bundle.card.read_bytes()).hexdigest()
    assert student.factory == "tiny-student"
    assert student.inputs[0].shape == (3, 16, 16)
    assert student.outputs[0].shape == (len(student.classes),)
    own = {"weights", "onnx", "evaluation", "reference", "calibration"}
    assert set(student.files) == own | {f"teacher-{role}" for role in ("weights", "onnx", "reference")}


def test_the_embedded_bundle_is_small_and_tells_no_path_of_the_machine_that_made_it() -> None:
    files = list(open_student("digits-2x5").root.iterdir())
    assert sum(file.stat().st_size for file in files) < 4_000_000
    for file in files:
        assert b".py" not in file.read_bytes()


def test_the_embedded_student_is_as_right_as_its_ladder_says() -> None:
    student = open_student("digits-2x5")
    card, evaluation = read_card(student), load_evaluation(student)
    right = int((evaluation.logits.argmax(1) == evaluation.labels).sum())
    rows = {row.row: row for row in card.ladder}
    assert rows["student-distilled"].correct[0] == right
    distilled, baseline = (rows[name].accuracies for name in ("student-distilled", "teacher-zero-shot"))
    assert len(distilled) == 10
    assert all(mine - theirs >= 0.2 for mine, theirs in zip(distilled, baseline, strict=True))
    assert card.trained
    assert card.data.licence == "CC-BY-4.0"
    assert "10.24432/C50P49" in card.data.citation


def test_the_embedded_teacher_is_as_right_as_its_row_and_forty_times_the_students_size() -> None:
    student = open_student("digits-2x5")
    teacher, card = teacher_of(student), read_card(student)
    evaluation = load_evaluation(teacher)
    right = int((evaluation.logits.argmax(1) == evaluation.labels).sum())
    assert {row.row: row for row in card.ladder}["teacher-fine-tuned"].correct[0] == right
    assert teacher.parameters is not None
    assert student.parameters is not None
    assert teacher.parameters > 40 * student.parameters
    with pytest.raises(StudentError, match="does not keep its teacher"):
        teacher_of(teacher)


def test_evaluation_and_calibration_come_as_the_declared_input() -> None:
    student = open_student("digits-2x5")
    evaluation, (calibration,) = load_evaluation(student), load_calibration(student)
    (images,) = evaluation.inputs
    assert images.dtype == calibration.dtype == np.float32
    assert images.flags.c_contiguous
    assert images.shape == (len(evaluation.labels), 3, 16, 16)
    assert 0.0 <= images.min() < images.max() <= 1.0
    seen = {image.tobytes() for image in images}
    assert not any(image.tobytes() in seen for image in calibration)


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(StudentError, match="Did you mean digits-2x5"):
        open_student("digit-2x5")


@pytest.mark.parametrize("role", ["weights", "onnx", "evaluation", "reference", "calibration"])
def test_an_altered_file_is_refused_by_name(bundle: Bundle, role: str) -> None:
    path = open_student(bundle.root).files[role]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert path.name in refusal(bundle.root)


def test_truncated_longer_and_missing_files_are_refused_by_name(bundle: Bundle) -> None:
    path = open_student(bundle.root).files["onnx"]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert f"has {len(whole) - 1} bytes, not {len(whole)}" in refusal(bundle.root)
    path.write_bytes(whole + b"\0")
    assert "student.onnx" in refusal(bundle.root)
    path.unlink()
    assert "lacks its file 'student.onnx'" in refusal(bundle.root)


def test_a_folder_without_a_card_is_refused(tmp_path: Path) -> None:
    assert "lacks its file 'card.json'" in refusal(tmp_path)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../outside", "a/../../outside", "..", ".", "", "a//b", "..\\outside", "C:/x"]
)
def test_a_path_that_leaves_the_bundle_is_refused(bundle: Bundle, path: str) -> None:
    (bundle.root.parent / "outside").write_bytes((bundle.root / "student.onnx").read_bytes())
    bundle.edit(lambda card: card["files"]["onnx"].update(path=path))
    assert "not a path inside it" in refusal(bundle.root)


@pytest.mark.parametrize("name", ["student.onnx", "card.json"])
def test_a_link_in_place_of_a_file_is_refused(bundle: Bundle, name: str) -> None:
    outside = bundle.root.parent / "outside"
    (bundle.root / name).rename(outside)
    (bundle.root / name).symlink_to(outside)
    assert "link" in refusal(bundle.root)


def test_a_linked_folder_inside_the_bundle_is_refused(bundle: Bundle) -> None:
    outside = bundle.root.parent / "elsewhere"
    outside.mkdir()
    (bundle.root / "student.onnx").rename(outside / "student.onnx")
    (bundle.root / "sub").symlink_to(outside)
    bundle.edit(lambda card: card["files"]["onnx"].update(path="sub/student.onnx"))
    assert "link" in refusal(bundle.root)


def set_in(*keys: str, to: Any) -> Edit:
    def change(card: dict[str, Any]) -> None:
        for key in keys[:-1]:
            card = card[key]
        card[keys[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (set_in("schema", to={"name": "kdbench.student", "major": 2, "minor": 0}), "schema 2.0"),
        (set_in("schema", to={"name": "kdbench.student", "major": 0, "minor": 9}), "schema 0.9"),
        (set_in("name", to="digits\x1b[31m"), "$.name"),
        (set_in("name", to="../digits"), "$.name"),
        (set_in("title", to="two\nlines"), "$.title"),
        (set_in("classes", to=["0-4", "\u202e9-5"]), "$.classes"),
        (set_in("recipe", "data", "generator", to="\x07"), "no plain line"),
        (set_in("network", "arguments", "mode", to="\x1b]0;"), "no plain line"),
        (set_in("network", "factory", to="os:system"), "$.network.factory"),
        (set_in("network", "factory", to="no-such-network"), "needs the network 'no-such-network'"),
        (set_in("files", "onnx", "bytes", to=1 << 40), "$.files"),
        (set_in("files", "onnx", "bytes", to=-1), "$.files"),
        (set_in("files", to={}), "lists no evaluation"),
        (set_in("inputs", to=[{"name": "images", "shape": [3, 0], "dtype": "float32"}]), "cannot be"),
        (set_in("inputs", to=[{"name": "images", "shape": [3], "dtype": "object"}]), "cannot be"),
        (set_in("inputs", to=[{"name": "images", "shape": [1 << 30], "dtype": "float32"}]), "limit"),
        (set_in("data", "evaluation", to=10**9), "$.data.evaluation"),
        (set_in("classes", to=["a", "b", "c"]), "3 classes"),
    ],
)
def test_a_card_that_says_what_it_must_not_is_refused(bundle: Bundle, change: Edit, says: str) -> None:
    bundle.edit(change)
    assert says in refusal(bundle.root)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"null",
        b"\xff\xfe",
        b'{"schema": NaN}',
        b'{"unknown": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[" * 500_000,
        b" " * (CARD_LIMIT_BYTES + 1),
    ],
    ids=["empty", "cut", "null", "not text", "NaN", "deep", "open", "large"],
)
def test_a_card_that_is_not_a_card_is_refused(bundle: Bundle, text: bytes) -> None:
    bundle.card.write_bytes(text)
    assert "copy/card.json" in refusal(bundle.root)


def test_a_newer_minor_version_may_say_more(bundle: Bundle) -> None:
    bundle.edit(
        lambda card: card.update(mood="good", schema={"name": "kdbench.student", "major": 1, "minor": 7})
    )
    assert open_student(bundle.root).name == "digits-2x5"


@given(data=st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_to_a_card_ends_in_anything_but_a_sentence(data: st.DataObject) -> None:
    text = bytearray((open_student("digits-2x5").root / "card.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    with suppress(StudentError):
        decode(bytes(text), "card.json")


def pickled() -> bytes:
    packed = io.BytesIO()
    np.save(packed, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return packed.getvalue()


def test_arrays_that_are_not_what_the_card_promises_are_refused(bundle: Bundle) -> None:
    with np.load(bundle.root / "evaluation.npz") as arrays:
        images, labels = arrays["images"], arrays["labels"]
    for changed, says in (
        ({"images": images[1:], "labels": labels[1:]}, r"expected uint8 \(500, 3, 16, 16\)"),
        ({"images": images.astype("float32"), "labels": labels}, "float32"),
        ({"images": np.asfortranarray(images), "labels": labels}, "Fortran"),
        ({"images": images, "labels": labels + 1}, "labels"),
        ({"images": images}, "holds"),
        ({"images": images, "labels": labels, "more": labels}, "holds"),
    ):
        bundle.swap_arrays("evaluation", **changed)
        with pytest.raises(StudentError, match=says):
            load_evaluation(open_student(bundle.root))


def test_a_pickle_is_refused_and_not_opened(bundle: Bundle) -> None:
    bundle.swap("reference", pickled())
    with pytest.raises(StudentError, match="reference"):
        load_evaluation(open_student(bundle.root))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("images.npy", pickled())
        archive.writestr("labels.npy", pickled())
    bundle.swap("evaluation", packed.getvalue())
    with pytest.raises(StudentError, match="object"):
        load_evaluation(open_student(bundle.root))


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"\x93NUMPY\x09\x00" + b"\0" * 32, b"\x93NUMPY\x01\x00"]
)
def test_an_array_file_that_is_none_is_refused(bundle: Bundle, content: bytes) -> None:
    for role in ("reference", "evaluation"):
        bundle.swap(role, content)
        with pytest.raises(StudentError):
            load_evaluation(open_student(bundle.root))


def test_reference_logits_that_are_not_finite_are_refused(bundle: Bundle) -> None:
    reference = np.load(bundle.root / "reference.npy")
    reference[7, 1] = np.nan
    packed = io.BytesIO()
    np.save(packed, reference)
    bundle.swap("reference", packed.getvalue())
    with pytest.raises(StudentError, match="finite"):
        load_evaluation(open_student(bundle.root))


def test_images_that_no_divisor_leaves_finite_are_refused(bundle: Bundle) -> None:
    bundle.edit(set_in("encoding", "divisor", to=1e-320))
    with pytest.raises(StudentError, match="are not finite"):
        load_evaluation(open_student(bundle.root))


def test_a_refusal_shows_no_pattern_and_no_endless_path(bundle: Bundle) -> None:
    bundle.edit(set_in("title", to="a\x1b[31m"))
    assert "Expected plain text in one line - at `$.title`" in refusal(bundle.root)
    bundle.edit(set_in("title", to="a"))
    bundle.edit(set_in("network", "factory", to="os:system"))
    assert "a name of lower-case letters" in refusal(bundle.root)
    bundle.edit(set_in("network", "factory", to="tiny-student"))
    bundle.edit(set_in("files", "onnx", "path", to="a" * 900))
    assert len(refusal(bundle.root)) < 300


def test_a_card_that_changed_after_opening_is_noticed(bundle: Bundle) -> None:
    student = open_student(bundle.root)
    bundle.edit(set_in("trained", to=False))
    with pytest.raises(StudentError, match="changed"):
        read_card(student)


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir()}


def test_a_written_bundle_is_the_one_that_was_read(bundle: Bundle, tmp_path: Path) -> None:
    student = open_student(bundle.root)
    files = {role: path.read_bytes() for role, path in student.files.items()}
    written = write_bundle(tmp_path / "new" / "bundle", read_card(student), files)
    assert written.sha256 == student.sha256
    assert contents(written.root) == contents(student.root)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["bundle"]


def test_writing_never_replaces_what_nobody_gave_up(bundle: Bundle, tmp_path: Path) -> None:
    student = open_student(bundle.root)
    card, files = read_card(student), {role: path.read_bytes() for role, path in student.files.items()}
    with pytest.raises(StudentError, match="exists already"):
        write_bundle(bundle.root, card, files)
    holiday = tmp_path / "holiday"
    holiday.mkdir()
    (holiday / "photo.jpg").write_bytes(b"dear")
    with pytest.raises(StudentError, match="not a student bundle"):
        write_bundle(holiday, card, files, overwrite=True)
    assert contents(holiday) == {"photo.jpg": b"dear"}
    assert write_bundle(bundle.root, card, files, overwrite=True).sha256 == student.sha256
    with pytest.raises(StudentError, match="lists no reference"):
        write_bundle(bundle.root, card, {"onnx": b"", "evaluation": b""}, overwrite=True)
    assert open_student(bundle.root).sha256 == student.sha256


def test_a_folder_that_cannot_be_written_is_a_sentence(bundle: Bundle, tmp_path: Path) -> None:
    student = open_student(bundle.root)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StudentError, match="cannot be written"):
        write_bundle(tmp_path / "file" / "below", read_card(student), {})


def test_a_card_is_written_as_it_was_read() -> None:
    text = (open_student("digits-2x5").root / "card.json").read_bytes()
    assert encode(decode(text, "card.json")) == text


def test_a_ladder_row_has_a_spread_only_with_several_seeds() -> None:
    def row(*correct: int) -> LadderRow:
        return LadderRow(
            row="r",
            title="",
            network="student",
            domain="target",
            labels=0,
            images=10,
            seeds=tuple(range(len(correct))),
            correct=correct,
        )

    assert (row(5).mean, row(5).std) == (0.5, None)
    assert row(4, 6).mean == 0.5
    assert row(4, 6).std == pytest.approx(0.02**0.5)
    for wrong in ((), (11,)):
        with pytest.raises(ValueError, match="ladder row"):
            row(*wrong)


def test_opening_imports_no_numpy_and_frees_its_memory_once() -> None:
    # The debugging allocator ends the process on a double free, which msgspec has for some unions of types.
    program = "import sys, kdbench.student as s; s.open_student('digits-2x5'); print('numpy' in sys.modules)"
    environment = {**os.environ, "PYTHONMALLOC": "debug"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert done.stdout == b"False\n"


def test_the_command_lists_shows_and_verifies(bundle: Bundle) -> None:
    from kdbench.cli.students import command

    for arguments, says in (
        ([], "digits-2x5"),
        (["list"], "6,186 parameters"),
        (["show", "digits-2x5"], "10.24432/C50P49"),
        (["verify", str(bundle.root)], "500 evaluation images are whole"),
    ):
        result = CliRunner().invoke(command, arguments)
        assert result.exit_code == 0
        assert says in result.output
    bundle.edit(set_in("data", "calibration", to=3))
    assert isinstance(CliRunner().invoke(command, ["verify", str(bundle.root)]).exception, StudentError)


def test_a_folder_with_anybodys_card_is_not_taken_for_a_bundle_to_overwrite(tmp_path: Path) -> None:
    for content in ("{}", "not JSON", '{"schema": {"name": "business"}}'):
        (tmp_path / "card.json").write_text(content)
        with pytest.raises(StudentError, match="is not a student bundle"):
            check_writable(tmp_path, overwrite=True)
    check_writable(open_student("digits-2x5").root, overwrite=True)
