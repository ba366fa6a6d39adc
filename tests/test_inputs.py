from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from kdbench import inputs
from kdbench.errors import ContractError
from kdbench.inputs import ENTRIES, image_rows, ring_of
from kdbench.spec import TensorSpec
from kdbench.transfer import Transfer

SPECS = (TensorSpec("image", (2, 3), "float32"), TensorSpec("mask", (5,), "uint8"))
RANDOM = np.random.default_rng(5)
SPLIT = (
    RANDOM.normal(size=(100, 2, 3)).astype(np.float32),
    RANDOM.integers(0, 255, (100, 5), dtype=np.uint8),
)


def plain(inputs):
    return inputs


class Pinned:
    """A runner with memory of its own; `answer` may spoil what it allocates."""

    def __init__(self, answer=lambda entries: entries) -> None:
        self.answer = answer
        self.given = []

    def __call__(self, inputs):
        return inputs

    def allocate_inputs(self, count):
        shapes = [((4, *spec.shape), spec.dtype) for spec in SPECS]
        self.given = [tuple(np.zeros(shape, dtype) for shape, dtype in shapes) for _ in range(count)]
        return self.answer(self.given)


@pytest.mark.parametrize("images", [64, 100, 300, 500, 899, 1797])
@pytest.mark.parametrize("batch", [1, 8, 32, 63, 64, 500, 600])
def test_each_entry_of_the_ring_is_another_choice_of_images(batch, images):
    rows = [image_rows(entry, batch, images) for entry in range(ENTRIES)]
    assert all(row.shape == (batch,) and row.min() >= 0 and row.max() < images for row in rows)
    assert len({tuple(row) for row in rows}) == ENTRIES


def test_the_images_of_an_entry_differ_as_long_as_the_split_has_enough():
    assert all(len(set(image_rows(entry, 300, 899))) == 300 for entry in range(ENTRIES))


@pytest.mark.parametrize(("batch", "used"), [(1, 64), (8, 512), (32, 899), (500, 899)])
def test_the_ring_shows_as_much_of_the_split_as_it_has_room_for(batch, used):
    assert len({int(row) for entry in range(ENTRIES) for row in image_rows(entry, batch, 899)}) == used


def test_a_small_split_gives_as_many_choices_as_it_has_images():
    assert len({tuple(image_rows(entry, 4, 10)) for entry in range(ENTRIES)}) == 10


@pytest.mark.parametrize("batch", [1, 32])
def test_the_ring_holds_64_distinct_real_inputs(batch):
    ring = ring_of(plain, SPLIT, SPECS, batch)
    assert len(ring.entries) == ENTRIES
    for index, entry in enumerate(ring.entries):
        rows = image_rows(index, batch, 100)
        assert all(np.array_equal(array, source[rows]) for array, source in zip(entry, SPLIT, strict=True))
    assert len({b"".join(array.tobytes() for array in entry) for entry in ring.entries}) == ENTRIES


def test_inputs_are_aligned_contiguous_and_of_the_declared_type():
    for entry in ring_of(plain, SPLIT, SPECS, 3).entries:
        for array, spec in zip(entry, SPECS, strict=True):
            assert array.ctypes.data % inputs.ALIGNMENT_BYTES == 0
            assert array.flags.c_contiguous
            assert (array.shape, array.dtype) == ((3, *spec.shape), np.dtype(spec.dtype))


def test_no_two_inputs_share_memory():
    arrays = [array for entry in ring_of(plain, SPLIT, SPECS, 1).entries for array in entry]
    assert not any(np.shares_memory(one, other) for one, other in combinations(arrays[:20], 2))


def test_a_ring_of_large_inputs_is_shorter_but_still_takes_turns(monkeypatch):
    entry_bytes = 4 * (6 * 4 + 5)
    monkeypatch.setattr(inputs, "RING_BYTES", 10 * entry_bytes)
    assert len(ring_of(plain, SPLIT, SPECS, 4).entries) == 10
    monkeypatch.setattr(inputs, "RING_BYTES", entry_bytes)
    assert len(ring_of(plain, SPLIT, SPECS, 4).entries) == inputs.FEWEST


def test_a_runner_with_memory_of_its_own_gets_its_own_arrays_filled():
    runner = Pinned()
    ring = ring_of(runner, SPLIT, SPECS, 4)
    assert all(mine is theirs for mine, theirs in zip(ring.entries, runner.given, strict=True))
    assert np.array_equal(ring.entries[7][0], SPLIT[0][image_rows(7, 4, 100)])


def copied(arrays):
    return tuple(array.copy() for array in arrays)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_ring_on_the_device_holds_what_upload_gave_of_the_same_images(batch):
    ring = ring_of(Pinned(), SPLIT, SPECS, batch, Transfer("device", copied, copied))
    assert len(ring.entries) == ENTRIES
    for mine, theirs in zip(ring.entries, ring_of(plain, SPLIT, SPECS, batch).entries, strict=True):
        assert all(np.array_equal(one, other) for one, other in zip(mine, theirs, strict=True))


def test_a_ring_of_large_inputs_on_the_device_is_shorter_too(monkeypatch):
    transfer = Transfer("device", copied, copied)
    monkeypatch.setattr(inputs, "RING_BYTES", 10 * 4 * (6 * 4 + 5))
    assert len(ring_of(plain, SPLIT, SPECS, 4, transfer).entries) == 10
    monkeypatch.setattr(inputs, "RING_BYTES", 1)
    assert len(ring_of(plain, SPLIT, SPECS, 4, transfer).entries) == inputs.FEWEST


def test_an_upload_that_answers_the_same_object_again_is_refused():
    buffer = object()
    with pytest.raises(ContractError, match="the same object twice"):
        ring_of(plain, SPLIT, SPECS, 4, Transfer("device", lambda arrays: buffer, copied))


def one_spoilt(spoil):
    return lambda entries: [*entries[:-1], spoil(entries[-1])]


def frozen(entry):
    entry[0].flags.writeable = False
    return entry


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda entries: None, "did not answer a list of 64"),
        (tuple, "did not answer a list of 64"),
        (lambda entries: entries[1:], "did not answer a list of 64"),
        (one_spoilt(list), "tuples of 2 arrays"),
        (one_spoilt(lambda entry: entry[:1]), "tuples of 2 arrays"),
        (one_spoilt(lambda entry: (entry[0], entry[1].tolist())), "of type list for 'mask'"),
        (one_spoilt(lambda entry: (entry[0][:3], entry[1])), r"float32 \[3, 2, 3\] for 'image'"),
        (one_spoilt(lambda entry: (entry[0].astype("f8"), entry[1])), r"float64 \[4, 2, 3\] for 'image'"),
        (one_spoilt(lambda entry: (np.asfortranarray(entry[0]), entry[1])), "not C-contiguous for 'image'"),
        (one_spoilt(frozen), "read-only"),
        (lambda entries: [entries[0]] * len(entries), "the same memory twice"),
        (lambda entries: [*entries[:-1], entries[0]], "the same memory twice"),
    ],
)
def test_memory_that_is_not_what_was_promised_is_refused(answer, sentence):
    with pytest.raises(ContractError, match=sentence) as caught:
        ring_of(Pinned(answer), SPLIT, SPECS, 4)
    assert caught.value.phase == "run"
