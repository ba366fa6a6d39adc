"""What a cell does alone on the machine: stretches, tails and memory, as `kdbench run` has them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from click.testing import CliRunner

from kdbench import cli, render, results, stats, summary
from kdbench.records import Percentile, Result
from kdbench.summary import PERCENTILES, summarise

PLAN = """
schema = 1
summary = "A stretch that is too short for tails, and memory."

[plan]
backends = ["numpy"]
batches = [1]
threads = 1

[latency]
blocks = 1
rounds = 2
slice_s = 0.02
warm_up_s = 0.01
warm_up_max_s = 0.1

[throughput]
blocks = 1
window_s = 0.05
latencies = 5

[tail]
duration_s = 0.3
step_s = 0.1

[memory]
measure = true
"""
SHORT = "its uninterrupted stretch is too short for percentiles above p90"


@dataclass(frozen=True)
class Ran:
    """What a run left behind and what it showed, at a width that has room for every column."""

    result: Result
    text: str


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Run a plan of one's own as a user does."""
    folder = tmp_path_factory.mktemp("alone")
    plan, output = folder / "brief.toml", folder / "r.json"
    plan.write_text(PLAN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDBENCH_CACHE", str(folder / "cache"))
        patch.setenv("COLUMNS", "200")
        done = CliRunner().invoke(cli.main, ["run", "--profile", str(plan), "--output", str(output)])
    assert done.exit_code == 0, done.output
    return Ran(results.read(output), done.stdout)


def header(text: str) -> str:
    return next(line for line in text.splitlines() if "p90" in line)


def test_a_stretch_belongs_to_the_latency_cell_and_has_a_median_a_step(ran):
    (stretch,) = ran.result.stretches
    assert ran.result.cells[stretch.cell].cell.scenario == "latency"
    assert stretch.duration_ns >= 0.3e9
    assert stretch.step_s == 0.1
    assert len(stretch.medians_ns) >= 3
    assert stretch.medians_ns[0] > 0
    (tail,) = (one for one in ran.result.samples if one.kind == "tail")
    assert (tail.cell, tail.calls) == (stretch.cell, stretch.calls)
    assert {"tail", "memory"} < {name for name, _ in ran.result.stages}


def test_tails_of_too_short_a_stretch_are_withheld_with_what_they_need(ran):
    (stretch,) = ran.result.stretches
    record = ran.result.cells[stretch.cell]
    tails = [one for one in record.summary.percentiles if one.p > 90]
    assert tails == [Percentile(p=p, need=stats.percentile_need(p), have=0) for p in (95.0, 99.0, 99.9)]
    assert [check.message for check in record.checks if check.id == "tail"] == [SHORT]
    assert SHORT in ran.text
    assert not re.search(r"p95|p99", header(ran.text))


def test_tails_of_a_stretch_that_is_long_enough_are_shown_where_there_are_enough_samples(ran, monkeypatch):
    monkeypatch.setattr(summary, "TAIL_NS", 300_000_000)
    (stretch,) = ran.result.stretches
    result = summarise(ran.result)
    percentiles = result.cells[stretch.cell].summary.percentiles
    assert tuple(one.p for one in percentiles) == PERCENTILES
    tails = [one for one in percentiles if one.p > 90]
    for one in tails:
        assert one.have == stretch.calls
        assert (one.value_ns is not None) == (one.have >= one.need)
    values = [one.value_ns for one in tails if one.value_ns is not None]
    assert values == sorted(values)
    assert values
    console = render.console(width=200)
    with console.capture() as capture:
        render.result(console, result)
    shown = re.findall(r"\bp9[59][.\d]*", header(capture.get()))
    assert shown == [f"p{one.p:g}" for one in tails if one.value_ns is not None]


def test_each_cell_has_its_memory_or_a_reason_and_the_table_shows_what_is_its_own(ran):
    for record in ran.result.cells:
        memory = record.memory
        if memory.peak_bytes is None:
            assert memory.reason
            continue
        assert memory.peak_bytes >= memory.base_bytes > 1_000_000
    found = ran.result.cells[0].memory
    if found.peak_bytes is not None:
        assert "memory" in header(ran.text)
        row = next(line for line in ran.text.splitlines() if line.lstrip(" ▸").startswith("numpy"))
        assert f"{(found.peak_bytes - found.base_bytes) / 1e6:,.0f}" in row.split()
