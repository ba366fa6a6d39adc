"""How long a trial takes that settles it, and the command for it, which no file can make do anything else."""

from __future__ import annotations

import math
import shlex
from random import Random
from statistics import fmean, stdev

import pytest
from msgspec.structs import replace

from kdbench import stats
from kdbench.compare import compare_trial
from kdbench.compare.evidence import evidence
from kdbench.compare.settle import LONGEST_S, Trial, command, settling
from tests import synthetic

MARGIN = math.log1p(0.03)


def pair(base: dict | None = None, new: dict | None = None, **subject):
    """Give the evidence of two cells of one run, alike but for these parts of their keys."""
    keys = [synthetic.cell(**{"backend": "ov", "threads": 1, **(own or {})}) for own in (base, new)]
    student = replace(synthetic.SUBJECT, **subject)
    return evidence(synthetic.result([synthetic.record(key) for key in keys], subject=student))


def both(**key) -> str:
    return command(*pair(key, key), 10.0)


def test_two_plain_cells_have_a_command():
    assert both() == "kdbench ab digits-2x5 -b ov --batch 1 --threads 1 --budget 10s"
    assert "--device cuda:0" in both(device="cuda:0")
    assert "--threads cores" in both(threads="cores")
    assert "--scenario throughput" in both(scenario="throughput")


@pytest.mark.parametrize(
    "name", ["--output=/etc/passwd", "-b", "a b", "", "../x", "/tmp/x", "a;b", "x\n", "$(x)", "é"]
)
def test_a_student_that_is_no_plain_word_gets_no_command(name):
    assert command(*pair(student=name), 10.0) == ""


@pytest.mark.parametrize(
    "key",
    [
        {"variant": "--output=x"},
        {"variant": "streams=1,--python=x"},
        {"variant": "streams"},
        {"variant": "streams=\x1b[31m"},
        {"backend": "--python"},
        {"backend": "a,b"},
        {"device": "-x"},
        {"batch": -1},
        {"threads": -1},
    ],
)
def test_a_key_that_is_no_plain_word_gets_no_command(key):
    assert both(**key) == ""


def test_every_word_that_begins_with_a_dash_is_an_option_of_ours():
    words = shlex.split(both(variant="hint=--a b,low=-1", device="gpu.0", precision="bf16"))
    known = {"-b", "-o", "--device", "--precision", "--batch", "--threads", "--budget"}
    assert {word for word in words if word.startswith("-")} == known


@pytest.mark.parametrize(
    "key",
    [
        {"network": "teacher"},
        {"variant": "shapes=dynamic"},
        {"boundary": "device"},
        {"scenario": "throughput", "depth": 4},
    ],
)
def test_what_no_trial_can_be_asked_for_gets_no_command(key):
    assert both(**key) == ""


@pytest.mark.parametrize("part", [{"threads": 2}, {"boundary": "device"}, {"batch": 8}])
def test_what_the_sides_of_a_trial_have_in_common_must_not_differ(part):
    assert command(*pair(None, part), 10.0) == ""


def blocks(effect: float, sd: float) -> int:
    """Give how many blocks of two seconds are asked for."""
    seconds, _ = settling(Trial(*pair(), block_sd=sd, block_s=2.0), effect, None, MARGIN)
    return round(seconds / 2)


def test_a_trial_as_long_as_is_told_finds_the_change_in_about_four_of_five():
    effect, sd, random = math.log(1.05), 0.05, Random(1)
    count, found = blocks(effect, sd), 0
    for _ in range(400):
        logs = [random.gauss(effect, sd) for _ in range(count)]
        found += stats.t_probability(fmean(logs), stdev(logs) / math.sqrt(count), count - 1) < 0.05
    assert 0.7 < found / 400 < 0.9


def test_half_as_much_room_takes_about_four_times_as_long():
    assert blocks(math.log(1.05), 0.3) / blocks(math.log(1.1), 0.3) == pytest.approx(4, rel=0.2)
    near, far = blocks(MARGIN / 2, 0.1), blocks(0.0, 0.1)
    assert near / far == pytest.approx(4, rel=0.2)


def test_more_than_an_hour_is_an_hour():
    ratios = [1.02999 * math.exp(away) for away in (-0.01, 0.01, -0.01, 0.01)]
    slices = [
        synthetic.a_slice(side, 1e5 * ratio**side, block=block)
        for block, ratio in enumerate(ratios)
        for side in (0, 1)
    ]
    found = compare_trial(synthetic.trial(slices=tuple(slices))).rows[0].changes[0]
    assert found.verdict == "inconclusive"
    assert found.settle_s == LONGEST_S
    assert found.command.endswith("--budget 3600s")


def test_a_block_of_no_time_at_all_is_no_fault_of_arithmetic():
    seconds, _ = settling(Trial(*pair(), block_sd=100.0, block_s=1e-320), 0.0, None, MARGIN)
    assert 0 < seconds <= LONGEST_S
