"""Trials of one thing against itself, with results that never happened in the place of measuring."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
from msgspec.structs import replace as changed

from kdbench import selftest
from kdbench.errors import BackendUnavailable, PhaseTimeout
from kdbench.records import BackendRecord, SideRecord, Trial
from kdbench.summary import summarise
from tests import synthetic


def trial(backend: str = "a", seed: int = 1, *, level_ns: float = 1e6, block_s: float | None = 2.5, **key):
    """Give the result of a trial of a backend against itself."""
    one = synthetic.cell(backend, threads=1, **key)
    cells = [synthetic.record(replace(one, side=side)) for side in ("a", "b")]
    sides = (SideRecord(side="a", label="A"), SideRecord(side="b", label="B"))
    return summarise(
        synthetic.result(
            cells,
            slices=synthetic.slices({0: level_ns, 1: level_ns}, blocks=3, seed=seed),
            backends=(BackendRecord(name=backend, status="available", runtime_version="1.31"),),
            trial=Trial(sides=sides),
            stages=(("latency blocks", 3 * block_s),) if block_s else (),
        )
    )


def request(*backends: str, threads: int | str = 1):
    """Give as much of a request as a self-test looks at."""
    return SimpleNamespace(backends=backends, profile=SimpleNamespace(plan=SimpleNamespace(threads=threads)))


@dataclass
class Bench:
    """Measures at once and notes what, while its own clock goes on."""

    results: dict[str, object]
    now_s: float = 0.0
    took_s: float = 10.0

    def __post_init__(self):
        self.asked, self.kept, self.told = [], [], []

    def measure(self, asked):
        (name,) = asked.backends
        self.asked.append(name)
        self.now_s += self.took_s
        result = self.results[name]
        if isinstance(result, Exception):
            raise result
        return result

    def run(self, *backends: str, budget_s: float = 60.0) -> selftest.SelfTest:
        return selftest.run(
            [request(name) for name in backends],
            self.measure,
            budget_s=budget_s,
            cores=2,
            keep=self.kept.append,
            tell=self.told.append,
            clock=lambda: self.now_s,
        )


def test_backends_take_turns_and_the_number_of_turns_follows_from_the_first():
    bench = Bench({"a": trial("a"), "b": trial("b")})
    done = bench.run("a", "b", budget_s=65.0)
    assert bench.asked == ["a", "b"] * 3
    assert (done.rounds, len(done.sittings), done.seconds) == (3, 6, 60.0)
    assert [len(one) for one in bench.kept] == [1] * 6
    assert "3 rounds in 65 s" in bench.told[-1]


def test_a_budget_that_is_too_short_gives_one_round_and_says_what_is_missing():
    bench = Bench({"a": trial("a")})
    assert bench.run("a", budget_s=1.0).rounds == 1
    assert "shows from 3 on" in bench.told[-1]


def test_what_fails_is_told_and_left_out_and_the_rest_goes_on():
    timeout = PhaseTimeout("It did not answer.", phase="run")
    gone = BackendUnavailable("No driver.")
    cells = [synthetic.record(synthetic.cell("d"), status="failed", reason="It crashed.")]
    bench = Bench({"a": timeout, "b": trial("b"), "c": gone, "d": synthetic.result(cells)})
    done = bench.run("a", "b", "c", "d", budget_s=400.0)
    assert bench.asked[:6] == ["a", "b", "c", "d", "b", "b"]
    assert {one.reason for one in done.failures} == {"It did not answer.", "No driver.", "It crashed."}
    assert {one.backend for one in done.sittings} == {"b"}


def test_where_everything_fails_there_is_one_round_and_no_sitting():
    bench = Bench({"a": PhaseTimeout("It did not answer.", phase="run")})
    done = bench.run("a", budget_s=400.0)
    assert (done.rounds, done.sittings, bench.kept) == (1, (), [])


def test_a_sitting_has_a_ratio_a_block_and_the_level_of_each_side():
    (one,) = selftest.sittings(trial("a", level_ns=2e6), cores=2)
    assert (one.backend, one.runtime_version, one.threads, one.block_s) == ("a", "1.31", 1, 2.5)
    assert len(one.ratios) == 3
    assert all(abs(ratio) < 0.1 for ratio in one.ratios)
    assert one.levels == pytest.approx((14.5, 14.5), abs=0.2)
    assert one.student == "5" * 16


def test_the_threads_are_those_that_were_placed_then_those_asked_for_then_the_cores():
    for asked, told in (("cores", 4), (3, 3)):
        measured = trial("a")
        cells = tuple(
            changed(one, cell=replace(one.cell, threads=asked), placement=None) for one in measured.cells
        )
        (one,) = selftest.sittings(changed(measured, cells=cells), cores=4)
        assert one.threads == told


def test_a_trial_that_does_not_tell_its_stages_is_asked_for_the_time_of_its_slices():
    (one,) = selftest.sittings(trial("a", block_s=None), cores=1)
    assert one.block_s == pytest.approx(1.6)


def test_a_side_that_was_not_measured_gives_no_sitting():
    measured = trial("a")
    for lost in (
        changed(measured, slices=()),
        changed(measured, cells=(measured.cells[0], changed(measured.cells[1], status="invalid"))),
        changed(measured, cells=measured.cells[:1]),
        changed(measured, cells=tuple(changed(one, summary=None) for one in measured.cells)),
    ):
        assert selftest.sittings(lost, cores=1) == ()


def test_a_throughput_trial_is_levelled_by_the_time_an_image_takes():
    key = synthetic.cell("a", scenario="throughput", threads=1)
    cells = [synthetic.record(replace(key, side=side)) for side in ("a", "b")]
    windows = synthetic.windows({0: 1e5, 1: 1e5}, blocks=3)
    (one,) = selftest.sittings(summarise(synthetic.result(cells, windows=windows)), cores=1)
    assert one.levels == pytest.approx((9.21, 9.21), abs=0.1)
