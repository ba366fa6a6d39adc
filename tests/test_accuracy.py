from __future__ import annotations

import math
import weakref

import numpy as np
import pytest

from kdbench import accuracy
from kdbench.errors import ContractError
from kdbench.spec import TensorSpec
from kdbench.transfer import Transfer

LOGITS = (TensorSpec("logits", (3,), "float32"),)
RANDOM = np.random.default_rng(3)


def float32(*rows) -> np.ndarray:
    return np.array(rows, np.float32)


REFERENCE = float32([4, 0, 0], [0, 4, 0], [0, 0, 4], [2, 1, 0], [1, 1.0005, 0])
LABELS = np.array([0, 1, 2, 0, 1])
SPREAD = float(REFERENCE.std())


def changed(**rows) -> np.ndarray:
    """The reference with some rows replaced: `changed(r3=(1, 2, 0))`."""
    logits = REFERENCE.copy()
    for name, row in rows.items():
        logits[int(name[1:])] = row
    return logits


def test_the_reference_agrees_with_itself():
    found = accuracy.compare(REFERENCE.copy(), REFERENCE, LABELS, "fp32")
    assert (found.images, found.correct, found.reference_correct) == (5, 5, 5)
    assert (found.lost, found.gained, found.disagreements, found.flips) == (0, 0, 0, 0)
    assert (found.deviation, found.tolerance, found.non_finite, found.constant) == (0.0, 1e-3, 0, False)
    assert found.predictions == (0, 1, 2, 0, 1)
    assert accuracy.fault(found, "fp32") == ""


def test_lost_and_gained_are_the_images_that_only_one_side_labels_rightly():
    labels = np.array([0, 1, 2, 1, 0])  # the reference is wrong about the last two
    logits = changed(r0=(0, 4, 0), r1=(0, 0, 4), r3=(1, 2, 0))
    found = accuracy.compare(logits, REFERENCE, labels, "fp32")
    assert (found.correct, found.reference_correct) == (2, 3)
    assert (found.lost, found.gained) == (2, 1)
    assert found.disagreements == 3


def test_the_deviation_is_the_largest_one_in_units_of_the_spread_of_the_reference():
    found = accuracy.compare(changed(r1=(0.5, 4, 0), r2=(0, 0, 3.25)), REFERENCE, LABELS, "fp32")
    assert found.deviation == pytest.approx(0.75 / SPREAD)
    assert found.disagreements == 0


def test_fp32_beyond_its_tolerance_is_a_fault_and_fewer_bits_are_not():
    logits = changed(r0=(4 + 2e-3 * SPREAD, 0, 0))
    assert "beyond the tolerance of 0.001" in accuracy.fault(
        accuracy.compare(logits, REFERENCE, LABELS, "fp32"), "fp32"
    )
    assert accuracy.fault(accuracy.compare(logits, REFERENCE, LABELS, "bf16"), "bf16") == ""
    within = changed(r0=(4 + 0.5e-3 * SPREAD, 0, 0))
    assert accuracy.fault(accuracy.compare(within, REFERENCE, LABELS, "fp32"), "fp32") == ""


@pytest.mark.parametrize(
    ("precision", "flips"), [("fp32", 1), ("fp16", 1), ("bf16", 1), ("int8", 0)], ids=str
)
def test_a_flip_counts_where_the_margin_exceeds_twice_the_tolerance(precision, flips):
    # The margins of the two rows are 1 and 0.0005; twice the tolerances are 0.0031, 0.031, 0.31 and 1.54.
    assert math.isclose(SPREAD, 1.5434, abs_tol=1e-4)
    found = accuracy.compare(changed(r3=(1, 2, 0), r4=(1.0005, 1, 0)), REFERENCE, LABELS, precision)
    assert (found.disagreements, found.flips) == (2, flips)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf], ids=str)
def test_an_answer_that_is_no_number_is_counted_and_never_right(poison):
    found = accuracy.compare(changed(r0=(4, poison, 0), r2=(poison,) * 3), REFERENCE, LABELS, "fp32")
    assert found.non_finite == 2
    assert (found.correct, found.lost) == (3, 2)
    assert np.isfinite(found.deviation)
    assert accuracy.fault(found, "bf16") == "2 of 5 answers hold NaN or infinity."


def test_the_same_answer_for_all_images_is_a_fault_in_any_precision():
    found = accuracy.compare(np.tile(REFERENCE[0], (5, 1)), REFERENCE, LABELS, "int8")
    assert found.constant
    assert "the very same answer" in accuracy.fault(found, "int8")


def test_the_same_answer_is_no_fault_where_the_reference_gives_it_too_or_of_one_image():
    same = np.tile(REFERENCE[0], (5, 1))
    assert not accuracy.compare(same, same, LABELS, "fp32").constant
    assert not accuracy.compare(REFERENCE[:1], REFERENCE[:1], LABELS[:1], "fp32").constant


def test_an_untrained_student_is_compared_with_the_reference_alone():
    found = accuracy.compare(changed(r0=(0, 4, 0)), REFERENCE, None, "fp32")
    assert (found.correct, found.reference_correct, found.lost, found.gained) == (None, None, 0, 0)
    assert (found.disagreements, found.flips) == (1, 1)


def test_a_split_is_cut_into_full_batches_and_the_last_is_filled_up_from_the_start():
    images = np.arange(10, dtype=np.float32).reshape(5, 2)
    found = list(accuracy.batches((images, images + 100), 2))
    assert [first for first, _ in found] == [0, 2, 4]
    assert all(array.shape == (2, 2) and array.flags.c_contiguous for _, pair in found for array in pair)
    assert found[2][1][0].tolist() == [[8, 9], [0, 1]]
    assert found[2][1][1].tolist() == [[108, 109], [100, 101]]


def test_a_batch_larger_than_the_split_goes_round_it():
    images = np.arange(3, dtype=np.float32).reshape(3, 1)
    ((first, (batch,)),) = accuracy.batches((images,), 8)
    assert first == 0
    assert batch.ravel().tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


@pytest.mark.parametrize(
    ("outputs", "sentence"),
    [
        ([np.zeros((2, 3), np.float32)], "answered list, not a tuple"),
        (np.zeros((2, 3), np.float32), "answered ndarray, not a tuple"),
        (None, "answered NoneType, not a tuple"),
        ((), "answered 0 outputs, not 1"),
        ((np.zeros((2, 3), np.float32),) * 2, "answered 2 outputs, not 1"),
        (([[0.0] * 3] * 2,), "'logits' is list, not a NumPy array"),
        ((np.zeros((2, 4), np.float32),), r"float32 \[2, 4\]; the student declares float32 \[2, 3\]"),
        ((np.zeros((3,), np.float32),), r"float32 \[3\]; the student declares"),
        ((np.zeros((2, 3), np.float64),), r"float64 \[2, 3\]; the student declares"),
    ],
)
def test_outputs_that_are_not_what_the_student_declares_are_refused(outputs, sentence):
    with pytest.raises(ContractError, match=sentence) as caught:
        accuracy.check_outputs(outputs, LOGITS, 2)
    assert caught.value.phase == "run"


IMAGES = RANDOM.normal(size=(7, 3)).astype(np.float32)


class Reusing:
    """A runner that answers twice its input, always in the same buffer."""

    def __init__(self, batch: int) -> None:
        self.buffer = np.empty((batch, 3), np.float32)

    def __call__(self, inputs):
        np.multiply(inputs[0], 2, out=self.buffer)
        return (self.buffer,)


@pytest.mark.parametrize("batch", [1, 2, 7, 16])
@pytest.mark.parametrize("images", [1, 5, 7])
def test_every_image_gets_its_own_answer_in_spite_of_padding_and_reused_buffers(batch, images):
    found = accuracy.infer(Reusing(batch), (IMAGES,), LOGITS, batch, images)
    assert np.array_equal(found, 2 * IMAGES[:images])


def test_a_runner_that_writes_to_its_input_is_found_out():
    def runner(inputs):
        inputs[0][-1] += 1
        return (np.zeros((2, 3), np.float32),)

    with pytest.raises(ContractError, match="wrote to its input"):
        accuracy.infer(runner, (IMAGES,), LOGITS, 2, 7)


def test_an_input_that_holds_nan_is_not_taken_for_written_to():
    images = IMAGES.copy()
    images[0, 0] = np.nan
    assert np.isnan(accuracy.infer(Reusing(2), (images,), LOGITS, 2, 7)[0, 0])


class Queue:
    """A pipelined runner that answers twice its input, the newest first, some at a time."""

    def __init__(self, depth: int, at_once: int) -> None:
        self.depth, self.at_once = depth, at_once
        self.flying: list[tuple[int, tuple[np.ndarray, ...]]] = []

    def submit(self, inputs, tag):
        assert len(self.flying) < self.depth
        self.flying.append((tag, inputs))

    def wait(self):
        done = [self.flying.pop() for _ in range(min(self.at_once, len(self.flying)))]
        return [(tag, self.answer(*inputs)) for tag, inputs in done]

    def answer(self, images):
        return (2 * images,)


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("at_once", [1, 3])
def test_answers_that_overtake_one_another_find_their_images(depth, at_once):
    found = accuracy.infer_pipelined(Queue(depth, at_once), (IMAGES,), LOGITS, 2, 7, depth)
    assert np.array_equal(found, 2 * IMAGES)


def test_a_pipelined_runner_that_writes_to_its_input_is_found_out():
    class Writing(Queue):
        def answer(self, images):
            images[0] += 1
            return (2 * images,)

    with pytest.raises(ContractError, match="wrote to its input"):
        accuracy.infer_pipelined(Writing(2, 1), (IMAGES,), LOGITS, 2, 7, 2)


class Away:
    """Arrays somewhere else; as many as live at once are counted."""

    living = most = 0

    def __init__(self, arrays) -> None:
        self.arrays = tuple(array.copy() for array in arrays)
        Away.living += 1
        Away.most = max(Away.most, Away.living)

    def __del__(self) -> None:
        Away.living -= 1


AWAY = Transfer("device", Away, lambda outputs: outputs.arrays)


def test_what_is_uploaded_reaches_the_runner_and_its_answer_is_downloaded():
    found = accuracy.infer(
        lambda inputs: Away(Reusing(2)(inputs.arrays)), (IMAGES,), LOGITS, 2, 7, transfer=AWAY
    )
    assert np.array_equal(found, 2 * IMAGES)


@pytest.mark.parametrize("at_once", [1, 3])
def test_what_is_uploaded_lives_until_its_request_is_complete_and_no_longer(at_once):
    class Careless(Queue):
        def submit(self, inputs, tag):
            super().submit(weakref.ref(inputs), tag)

        def answer(self, reference):
            return Away((2 * reference().arrays[0],))

        def wait(self):
            done = [self.flying.pop() for _ in range(min(self.at_once, len(self.flying)))]
            return [(tag, self.answer(reference)) for tag, reference in done]

    Away.most = Away.living = 0
    found = accuracy.infer_pipelined(Careless(3, at_once), (IMAGES,), LOGITS, 1, 7, 3, transfer=AWAY)
    assert np.array_equal(found, 2 * IMAGES)
    assert Away.most <= 3 + at_once + 1


def test_a_tag_that_was_not_in_flight_and_an_empty_wait_are_refused():
    class Confused(Queue):
        def wait(self):
            return [(77, outputs) for _, outputs in super().wait()]

    class Idle(Queue):
        def wait(self):
            return []

    with pytest.raises(ContractError, match="tag 77, which was not in flight"):
        accuracy.infer_pipelined(Confused(2, 1), (IMAGES,), LOGITS, 2, 7, 2)
    with pytest.raises(ContractError, match="came back empty"):
        accuracy.infer_pipelined(Idle(2, 1), (IMAGES,), LOGITS, 2, 7, 2)
