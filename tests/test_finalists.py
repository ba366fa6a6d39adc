"""Six backends in two cohorts: leader and runner-up of a group that never met get blocks of their own."""

from __future__ import annotations

import os
import shutil
from types import SimpleNamespace

import pytest
from msgspec import structs

from kdbench import bench, journal, profile
from kdbench.finalists import finalists
from kdbench.journal import Entry
from kdbench.request import Request
from kdbench.student import open_student
from tests import synthetic
from tests.faulty import STUDENT, tiny

SLOWED = """
import time
import kdbench_numpy as plain
from kdbench import hookimpl
from kdbench_numpy import kdbench_compile, kdbench_describe, kdbench_load, kdbench_probe

EXTRA_NS = {extra_ns}

@hookimpl
def kdbench_run(session, batch_size):
    runner, extra_ns = plain.kdbench_run(session, batch_size), EXTRA_NS[batch_size]
    def call(inputs):
        end = time.perf_counter_ns() + extra_ns
        outputs = runner(inputs)
        while time.perf_counter_ns() < end:
            pass
        return outputs
    return call
"""
"""NumPy's own backend, each call of which takes as long as is said, or its own time where that is longer."""

FAST, NEXT, SLOW = 0, 1_200_000, 3_500_000
BLOCKS = 3
SHORT = {"rounds": 1, "calls_min": 3, "calls_aim": 5, "settle_calls": 1, "warm_up_max_s": 0.02}
NAMES = tuple(f"field-{letter}" for letter in "abcdef")
RANKS = {
    1: {"field-b": FAST, "field-e": NEXT},
    4: {"field-c": FAST, "field-f": NEXT},
}
"""By batch size who comes first and second, in different cohorts: those are a, b, c, d and a, e, f."""


@pytest.fixture
def request_of(make_plugin, monkeypatch, tmp_path):
    """Install the field, and give the maker of a request to measure it."""
    for name in NAMES:
        extra_ns = {batch: ranks.get(name, SLOW) for batch, ranks in RANKS.items()}
        home = make_plugin(name, SLOWED.format(extra_ns=extra_ns))
    monkeypatch.syspath_prepend(str(home))
    monkeypatch.setenv("PYTHONPATH", str(home), prepend=os.pathsep)

    def make(scenario: str, batches: tuple[int, ...]) -> Request:
        plan = profile.resolve(tiny(blocks=BLOCKS), scenarios=(scenario,), batches=batches)
        plan = structs.replace(
            plan,
            latency=structs.replace(plan.latency, **SHORT),
            throughput=structs.replace(plan.throughput, blocks=BLOCKS, depth=1),
            accuracy=structs.replace(plan.accuracy, images=8, later_images=8),
        )
        student = open_student(STUDENT)
        return Request(student=student, profile=plan, output=tmp_path / "r.json", backends=NAMES)

    return make


def cohorts(result, parts) -> dict[int, set[str]]:
    """Give who lived together in each cohort, the same in every block of it."""
    found: dict[tuple[int, int], set[str]] = {}
    for one in parts:
        found.setdefault((one.cohort, one.block), set()).add(result.cells[one.cell].cell.backend)
    assert found.keys() == {(cohort, block) for cohort, _ in found for block in range(BLOCKS)}
    for (cohort, _), names in found.items():
        assert names == found[cohort, 0]
    return {cohort: found[cohort, 0] for cohort, _ in sorted(found)}


def field(*letters: str) -> list[set[str]]:
    return [{f"field-{letter}" for letter in group} for group in letters]


def podium(result) -> dict[int, tuple[str, str, str, int]]:
    backends = [one.cell.backend for one in result.cells]
    return {
        one.batch: (backends[one.leader], backends[one.runner_up], one.verdict, one.blocks)
        for one in result.leads
    }


def test_the_finalists_of_each_batch_size_meet_in_blocks_of_their_own(request_of):
    result = bench.run(request_of("latency", (1, 4)))
    assert {(one.status, one.reason) for one in result.cells} == {("measured", "")}
    met = cohorts(result, result.slices)
    assert list(met) == [0, 1, 2, 3]
    assert list(met.values()) == field("abcd", "aef", "be", "cf")
    assert podium(result) == {
        1: ("field-b", "field-e", "ahead", BLOCKS),
        4: ("field-c", "field-f", "ahead", BLOCKS),
    }


def test_a_run_resumed_behind_the_cohorts_comes_to_the_same_pair_and_completes(request_of, tmp_path):
    request = request_of("throughput", (1,))
    whole, again = tmp_path / "whole", tmp_path / "again.json"

    def keep(progress):
        if progress.stage == "done":
            shutil.copy(journal.journal_path(request.output), whole)

    result = bench.run(request, keep)
    met = cohorts(result, result.windows)
    assert list(met.values()) == field("abcd", "aef", "be")
    assert podium(result) == {1: ("field-b", "field-e", "ahead", BLOCKS)}

    header, *entries = whole.read_bytes().splitlines(keepends=True)
    behind = next(number for number, line in enumerate(entries) if b'"cohort":2' in line)
    journal.journal_path(again).write_bytes(b"".join([header, *entries[:behind]]))
    assert {cohort for _, _, cohort in journal.finished(journal.journal_path(again))} == {0, 1}
    resumed = bench.resume(again)
    assert (resumed.run.status, resumed.run.resumed) == ("complete", 1)
    early = [one for one in result.windows if one.cohort < 2]
    assert [one for one in resumed.windows if one.cohort < 2] == early
    assert cohorts(resumed, resumed.windows) == met
    assert podium(resumed) == podium(result)


COHORTS = ((0, 1, 2, 3), (0, 4, 5))
JOBS = SimpleNamespace(
    jobs=[SimpleNamespace(cells={1: job, 4: 6 + job}) for job in range(6)], together=lambda a, b: True
)
"""All of a plan that matters: six jobs with a cell for each of two batch sizes."""


@pytest.fixture
def raced(tmp_path):
    """Give what writes the journal of measured cohorts, of which some cells had these medians."""
    books = []

    def race(medians_ns: dict[int, float], *, dead: tuple[int, ...] = ()) -> journal.Journal:
        cells = [
            synthetic.record(
                synthetic.cell(name, batch=batch),
                status="failed" if NAMES.index(name) in dead else "measured",
            )
            for batch in (1, 4)
            for name in NAMES
        ]
        truth_ns = {cell: medians_ns.get(cell, 9e6) for cell in range(len(cells))}
        members = [tuple(cell for job in cohort for cell in (job, 6 + job)) for cohort in COHORTS]
        slices = synthetic.slices(truth_ns, cohorts=members)
        book = journal.create(tmp_path / f"{len(books)}.journal", synthetic.result(cells))
        books.append(book)
        for block in range(BLOCKS):
            for cohort in range(len(COHORTS)):
                place = {"scenario": "latency", "block": block, "cohort": cohort}
                own = [one for one in slices if (one.block, one.cohort) == (block, cohort)]
                alive = tuple(one for one in own if one.cell % 6 not in dead)
                book.append(Entry(kind="block", **place, slices=alive))
        return book

    yield race
    for book in books:
        book.close()


def pairs(book: journal.Journal, cohorts=COHORTS) -> list[tuple[int, int]]:
    return finalists(JOBS, book.path, "latency", cohorts)


def test_each_group_whose_finalists_never_met_gives_a_pair(raced):
    assert pairs(raced({1: 1e6, 4: 2e6, 6 + 2: 1e6, 6 + 5: 2e6})) == [(1, 4), (2, 5)]


def test_two_that_met_in_a_cohort_or_through_being_the_anchor_need_no_blocks_of_their_own(raced):
    assert pairs(raced({1: 1e6, 2: 2e6, 6 + 4: 1e6, 6 + 0: 2e6})) == []


def test_a_field_that_lives_together_has_no_finalists(raced):
    assert pairs(raced({1: 1e6, 4: 2e6}), cohorts=(range(6),)) == []


def test_two_that_lead_each_other_at_different_batch_sizes_are_paired_once(raced):
    assert pairs(raced({1: 1e6, 4: 2e6, 6 + 4: 1e6, 6 + 1: 2e6})) == [(1, 4)]


def test_where_the_anchor_died_the_figures_alone_say_who_meets(raced):
    assert pairs(raced({1: 1e6, 4: 2e6, 6 + 2: 1e6, 6 + 5: 2e6}, dead=(0,))) == [(1, 4), (2, 5)]


def test_nothing_that_happens_after_the_cohorts_changes_the_pairs(raced):
    book = raced({1: 1e6, 4: 2e6, 6 + 2: 1e6, 6 + 5: 2e6})
    before = pairs(book)
    failed = synthetic.record(synthetic.cell(NAMES[1], batch=1), status="failed", phase="run")
    slices = tuple(synthetic.a_slice(cell, 1.0, cohort=2) for cell in (1, 4))
    place = {"scenario": "latency", "block": 0, "cohort": 2}
    book.append(Entry(kind="block", **place, cells={1: failed}, slices=slices))
    book.append(Entry(kind="resumed"))
    book.append(
        Entry(kind="cells", cells={6 + 5: structs.replace(failed, cell=synthetic.cell(NAMES[5], batch=4))})
    )
    assert pairs(book) == before == [(1, 4), (2, 5)]
