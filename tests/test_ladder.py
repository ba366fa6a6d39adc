"""What a ladder shows: paired differences, sentences that claim no more, a table, a picture."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from kdbench import render
from kdbench.account import account, best_control, difference, resolution
from kdbench.card import Card, LadderRow, Teacher
from kdbench.distill.ladder import together
from kdbench.errors import StudentError
from kdbench.student import open_student, read_card


def row(name: str, *correct: int, labels: int = 0) -> LadderRow:
    return LadderRow(
        row=name,
        title=name.replace("-", ", ", 1),
        network="student" if name.startswith("student") else "teacher",
        domain="target",
        labels=labels,
        images=100,
        seeds=tuple(range(len(correct))),
        correct=correct,
    )


def card(*rows: LadderRow) -> Card:
    shipped = read_card(open_student("digits-2x5"))
    network = msgspec.structs.replace(shipped.network, parameters=100)
    teacher = Teacher(name="teacher", sha256="0" * 64, parameters=5_100)
    return msgspec.structs.replace(shipped, ladder=rows, network=network, teacher=teacher)


def told(*rows: LadderRow) -> str:
    return " ".join(account(card(*rows)))


SHORT = (
    row("teacher-zero-shot", 60),
    row("teacher-fine-tuned", 90, labels=7),
    row("student-distilled", 88, labels=7),
)
LONG = (
    row("teacher-zero-shot", 60, 62, 58),
    row("teacher-fine-tuned", 90, 91, 89, labels=7),
    row("student-distilled", 88, 91, 89, labels=7),
)


def test_the_account_claims_only_what_the_rows_show() -> None:
    words = told(*SHORT)
    assert "+28.0 points from the unadapted teacher" in words
    assert "7 labels move the teacher itself by +30.0 points" in words
    assert "at -2.0 points, with 51 times fewer parameters" in words
    assert "nothing is claimed about distillation's own part" in words
    assert account(card(*SHORT[:2])) == ()
    assert 100 * resolution(row("student-distilled", 50)) == pytest.approx(9.8)


def test_differences_are_paired_by_seed() -> None:
    found = difference(LONG[2], LONG[0])
    assert found.mean == pytest.approx((28 + 29 + 31) / 3)
    assert found.least == pytest.approx(28)
    # Student's t of two degrees of freedom at 97.5 %: 4.3027; deviation of 28, 29, 31: sqrt(7 / 3).
    half = 4.3027 * (7 / 3) ** 0.5 / 3**0.5
    assert found.low == pytest.approx(found.mean - half, abs=1e-3)
    one = difference(SHORT[2], SHORT[0])
    assert (one.low, one.seeds) == (None, 1)


def test_the_best_control_is_the_one_to_beat() -> None:
    controls = (row("student-scratch", 70, 71, 72), row("student-self-trained", 80, 82, 81))
    assert best_control({one.row: one for one in controls}) is controls[1]
    words = told(*LONG, *controls)
    assert "best control without the big teacher is 'self-trained'" in words
    assert "distillation's own part is +8.3" in words
    assert "more than the chance of seeds" in words


def test_a_gain_that_may_be_chance_is_called_that_and_harm_harm() -> None:
    assert "may be the chance of seeds" in told(*LONG, row("student-scratch", 88, 90, 90))
    assert "it does harm here" in told(*LONG, row("student-scratch", 98, 100, 98))
    assert "cannot tell that from chance" in told(*SHORT, row("student-scratch", 70))


def test_rows_of_several_seeds_become_one_with_an_entry_for_each() -> None:
    second = tuple(msgspec.structs.replace(one, seeds=(5,), correct=(50,)) for one in SHORT)
    merged = together([SHORT, second])
    assert [(one.seeds, one.correct) for one in merged] == [
        ((0, 5), (60, 50)),
        ((0, 5), (90, 50)),
        ((0, 5), (88, 50)),
    ]


def test_the_table_has_spreads_and_paired_differences(capsys: pytest.CaptureFixture[str]) -> None:
    render.ladder(render.console(width=100), card(*LONG))
    shown = capsys.readouterr().out
    assert "60.0 ± 2.0" in shown
    assert "+29.3 [+25.5, +33.1]" in shown
    assert "teacher over student: 51.0 in parameters" in shown
    render.ladder(render.console(width=100), card(*SHORT))
    assert "±" not in capsys.readouterr().out


def test_the_picture_is_a_png_and_one_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    from kdbench.distill.picture import draw
    from kdbench.distill.splits import Split, Splits

    images = np.zeros((4, 3, 8, 8), np.uint8)
    split = Split(images, np.zeros(4, np.int64), (b"",) * 4)
    splits = Splits(split, split, split, split, split, sha256="", classes=("a", "b"), calibration=1)
    drawn = draw(card(*LONG), splits, tmp_path / "ladder.png").read_bytes()
    assert drawn.startswith(b"\x89PNG")
    assert draw(card(*LONG), splits, tmp_path / "again.png").read_bytes() == drawn
    with pytest.raises(StudentError, match="cannot be written"):
        draw(card(*LONG), splits, tmp_path / "no-such-folder" / "ladder.png")
