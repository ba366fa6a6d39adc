"""A search, really measured: plugins of known costs, and two that are what they are."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import replace

import jsonschema
import pytest
from msgspec import structs

from kdbench import bench, estimate, journal, results
from kdbench.errors import Interrupted, ResultError, UsageError
from kdbench.findings.crossover import sentences
from kdbench.request import Request
from kdbench.sections import Accuracy, Crossover, Latency, Plan, Profile, Throughput
from kdbench.student import open_student
from kdbench.trial import TrialRequest, plan as plan_trial
from tests import faulty

TINY = Profile(
    schema=1,
    name="tiny",
    plan=Plan(batches=(4,), threads=1, scenarios=("latency",)),
    latency=Latency(
        blocks=3,
        rounds=2,
        slice_s=0.005,
        calls_min=3,
        calls_aim=3,
        settle_calls=1,
        settle_s=0.002,
        warm_up_s=0.01,
        warm_up_max_s=0.05,
    ),
    throughput=Throughput(blocks=3, window_s=0.02, latencies=2),
    accuracy=Accuracy(images=16, later_images=4),
    crossover=Crossover(largest=16, resolution=0.0),
)


def costs(milliseconds: str) -> str:
    """Give a plugin whose call computes and then spins; the time is an expression of `batch`."""
    source = faulty.rogue(
        "run",
        f"""
        end = time.perf_counter() + 1e-3 * ({milliseconds})
        while time.perf_counter() < end:
            pass
        """,
    )
    return source.replace("def call(inputs):", "batch = batch_size\n    def call(inputs):")


FLAT, STEEP = "3.0", "0.5 if batch < 11 else 24.0"
"""So far apart at every batch size that no noise turns them."""


ELSEWHERE = (
    faulty.HEAD
    + """
from dataclasses import replace

@hookimpl
def kdbench_describe():
    return replace(healthy.kdbench_describe(), devices=("other",))

@hookimpl
def kdbench_probe():
    return Available("1.0", (Device("other:0", "a device that is no CPU"),))

@hookimpl
def kdbench_load(artifact):
    session = healthy.kdbench_load(artifact)
    class Opened:
        placement, runner = replace(session.placement, device="other:0"), session.runner
        def close(self):
            session.close()
    return Opened()
"""
)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """Install plugins of known costs, with a cache of their own; give what asks for some of them."""
    folder = tmp_path_factory.mktemp("house")
    plugins = {
        "flat": costs(FLAT),
        "steep": costs(STEEP),
        "elsewhere": ELSEWHERE,
        "small": faulty.rogue("bind", "if batch_size >= 8: raise MemoryError('no room')"),
    }
    for name, source in plugins.items():
        faulty.install(folder / "plugins", name, source)
    numbers = itertools.count()

    def request(*names, profile=TINY, **settings):
        plan = structs.replace(profile, crossover=structs.replace(profile.crossover, **settings))
        return Request(
            student=open_student(faulty.STUDENT),
            profile=plan,
            output=folder / f"{next(numbers)}.json",
            backends=names,
        )

    with pytest.MonkeyPatch.context() as patch:
        faulty.environment(patch, folder / "plugins", folder / "cache")
        yield request


@pytest.fixture(autouse=True)
def cache_folder():
    """Leave the cache to `house`: what is compiled for one test is there for all."""


def only(result):
    (one,) = result.crossings
    return one


@pytest.fixture(scope="module")
def found(house):
    """Search the pair of known costs once; give the request and the result."""
    request = house("flat", "steep", resolution=0.3)
    return request, bench.run(request)


def test_the_batch_size_at_which_one_overtakes_the_other_is_found_and_told(found):
    _, result = found
    one = only(result)
    assert (one.verdict, one.scenario) == ("crosses", "latency")
    assert one.low.batch <= 10 < 11 <= one.high.batch
    assert result.cells[one.low.first].cell.backend == "steep"
    (sentence,) = sentences(result)
    assert sentence.startswith("flat overtakes steep in latency ")


def test_each_step_alternates_the_pair_in_the_same_blocks(found):
    _, result = found
    blocks = {}
    for one in result.slices:
        blocks.setdefault((one.block, one.cohort), []).append(one)
    for own in blocks.values():
        cells = {result.cells[one.cell].cell for one in own}
        assert {cell.backend for cell in cells} == {"flat", "steep"}
        assert len({cell.batch for cell in cells}) == 1
        assert [one.round for one in sorted(own, key=lambda one: one.started_ns)] == [0, 0, 1, 1]
    steps = Counter(result.cells[own[0].cell].cell.batch for own in blocks.values())
    assert {4, 8, 12, 16} <= set(steps)
    assert set(steps.values()) == {3}


def test_the_file_holds_all_cells_and_is_valid_by_the_schema(found):
    request, result = found
    assert {(one.status, one.reason) for one in result.cells} == {("measured", "")}
    assert {name for name, _ in result.stages} == {"latency doubling", "latency bisection"}
    assert result.run.profile["plan"]["batches"] == [4, 8, 16]
    assert results.read(request.output) == result
    jsonschema.validate(json.loads(request.output.read_bytes()), json.loads(results.schema_text()))


def test_a_pair_of_real_backends_is_told_in_both_scenarios(house):
    plan = structs.replace(TINY.plan, scenarios=("latency", "throughput"))
    result = bench.run(house("numpy", "onnxruntime", profile=structs.replace(TINY, plan=plan), largest=8))
    assert {one.scenario for one in result.crossings} == {"latency", "throughput"}
    assert {one.status for one in result.cells} == {"measured"}
    assert len(list(sentences(result))) == len(result.crossings)


def stopping(stage, parts):
    """Give a listener that interrupts the run once it was told so often of a stage."""
    seen = []

    def report(progress):
        if progress.stage == stage:
            seen.append(progress)
            if len(seen) > parts:
                raise KeyboardInterrupt

    return report


@pytest.mark.parametrize(("stage", "parts"), [("latency doubling", 9), ("latency bisection", 7)])
def test_an_interrupted_search_goes_on_where_it_stopped(house, stage, parts):
    request = house("flat", "steep", resolution=0.5)
    with pytest.raises(Interrupted) as caught:
        bench.run(request, stopping(stage, parts))
    path = journal.journal_path(request.output)
    assert f"--resume {path}" in caught.value.hint
    kept = journal.fold(path)
    assert kept.slices
    result = bench.resume(path)
    assert (result.run.status, result.run.resumed) == ("complete", 1)
    assert result.slices[: len(kept.slices)] == kept.slices
    assert only(result).low.batch <= 10 < only(result).high.batch
    by_batch = {}
    for one in result.slices:
        by_batch.setdefault(result.cells[one.cell].cell.batch, set()).add(one.block)
    assert {len(blocks) for blocks in by_batch.values()} == {3}
    assert not path.exists()
    assert results.read(request.output) == result


def test_a_search_is_not_resumed_where_another_plan_would_be_made(house):
    request = house("flat", "steep")
    with pytest.raises(Interrupted):
        bench.run(request, stopping("latency doubling", 3))
    path = journal.journal_path(request.output)
    path.write_text(path.read_text().replace('"largest":16', '"largest":32'))
    with pytest.raises(ResultError, match="another plan than the run began with"):
        bench.resume(path)


def test_who_has_no_memory_for_a_batch_size_is_a_row_and_goes_no_further(house):
    result = bench.run(house("flat", "small"))
    rows = {one.cell.batch: one for one in result.cells if one.cell.backend == "small"}
    assert {batch: one.status for batch, one in rows.items()} == {
        4: "measured",
        8: "failed",
        16: "unavailable",
    }
    assert "memory" in rows[8].reason
    assert rows[16].reason == "Not tried: batch 8 failed."
    other = {one.cell.batch: one.reason for one in result.cells if one.cell.backend == "flat"}
    assert other[16] == "Not tried: no other configuration goes on to this batch size."
    one = only(result)
    assert (one.verdict, one.batches) == ("never", (4,))
    assert bench.exit_code(result) == 1


def test_a_pair_on_unlike_devices_meets_in_the_same_blocks_without_taking_turns(house):
    result = bench.run(house("steep", "elsewhere", largest=4))
    assert [one.status for one in result.cells] == ["measured"] * 2
    order = [(one.block, result.cells[one.cell].cell.backend) for one in result.slices]
    assert [block for block, _ in order] == sorted(block for block, _ in order)
    assert {block for block, _ in order} == {0, 1, 2}
    assert len({(one.block, one.cohort) for one in result.slices}) == 6
    one = only(result)
    assert (one.low.blocks, one.low.alternated) == (3, False)
    assert next(iter(sentences(result))).endswith("They did not take turns.")


def test_doubling_ends_where_a_call_would_take_too_long(house):
    result = bench.run(house("flat", "steep", call_s=0.004))
    reasons = {one.cell.batch: one.reason for one in result.cells if one.cell.backend == "flat"}
    assert "crossover.call_s allows 0.004 s" in reasons[8]
    assert not any(one.status == "measured" and one.summary is None for one in result.cells)
    assert bench.exit_code(result) == 0


def test_a_search_needs_two_to_compare(house):
    request = house("flat")
    with pytest.raises(UsageError, match="compares two configurations or more, and here there is flat-cpu"):
        bench.run(request)
    with pytest.raises(UsageError, match="compares two configurations"):
        bench.plan(request)
    assert not journal.journal_path(request.output).exists()


def test_a_dry_run_tells_the_cells_and_an_upper_bound_of_the_time(house):
    plan = bench.plan(house("flat", "steep"))
    assert [one.batch for one in plan.cells] == [4, 8, 16] * 2
    assert [name for name, _ in plan.stages] == ["latency doubling", "latency bisection, at most"]
    assert any("at most" in note and "upper bound" in note for note in plan.notes)
    assert all(seconds > 0 for _, seconds in plan.stages)


def test_a_budget_chooses_the_blocks_of_a_step(house):
    asked = house("flat", "steep")
    small, large = (bench.plan(replace(asked, budget_s=budget)) for budget in (60.0, 600.0))
    assert 1 <= small.profile.latency.blocks < large.profile.latency.blocks
    assert sum(seconds for _, seconds in large.stages) <= 600
    one = estimate.with_blocks(TINY, 1)
    assert sum(seconds for _, seconds in estimate.stages(one, small.jobs)) <= 600


def test_a_trial_searches_nothing(house):
    asked = house("flat", "steep")
    with pytest.raises(UsageError, match="searches for them"):
        plan_trial(TrialRequest(a=asked, b=asked, output=asked.output))
