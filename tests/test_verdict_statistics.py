"""The evidence behind the verdicts (`benchmarks/evidence`): does it count rightly what is known?"""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from msgspec.structs import replace

from kdbench import results
from kdbench.comparison import Change, Comparison, Row, Source
from kdbench.summary import summarise
from tests import synthetic

ROOT = Path(__file__).resolve().parent.parent
# The benchmarks are no part of the installed package.
sys.path.append(str(ROOT))

from benchmarks.evidence import (  # noqa: E402
    chance,
    company_tables,
    doubles,
    doubling,
    judging,
    lines,
    planning,
    reach,
    reading,
    report,
    separate,
    tables,
)
from benchmarks.evidence.chance import Share  # noqa: E402
from benchmarks.evidence.lines import Line  # noqa: E402
from benchmarks.evidence.measuring import Folder, TrialFailed, measure  # noqa: E402
from benchmarks.evidence.planning import Progress  # noqa: E402


def noise(count: int, sd: float = 0.01, truth: float = 0.0, seed: int = 1) -> list[float]:
    random = Random(seed)
    return [random.gauss(truth, sd) for _ in range(count)]


@pytest.mark.parametrize("size", [3, 5, 10])
def test_false_alarms_of_normal_noise_come_out_near_five_percent(size):
    rates = chance.false_alarms(noise(200), size)
    assert rates.found == pytest.approx(0.05, abs=0.012)
    assert rates.beyond == 0.0


def test_a_change_of_several_standard_errors_is_always_found():
    truth = math.log1p(0.05)
    rates = chance.power(noise(60, truth=truth), 10, truth)
    assert rates.found == 1.0
    assert rates.beyond > 0.99


def test_power_is_that_of_the_t_test():
    # The mean is twice its standard error here: tables of the noncentral t give 0.43 for ten values.
    rates = chance.power(noise(4000, sd=1.0, truth=2 / math.sqrt(10)), 10, truth=1.0)
    assert rates.found == pytest.approx(0.43, abs=0.04)


def test_a_change_of_just_the_margin_is_beyond_it_half_the_time():
    truth = math.log1p(chance.MARGIN)
    rates = chance.power(noise(400, truth=truth), 8, truth)
    assert rates.beyond == pytest.approx(0.5, abs=0.1)


def test_what_is_found_with_the_wrong_sign_is_not_found():
    truth = math.log1p(0.05)
    rates = chance.power(noise(60, truth=-truth), 10, truth)
    assert rates.found == rates.beyond == 0.0


def test_no_alarm_in_59_bounds_the_rate_at_five_percent_one_sided():
    low, high = chance.clopper_pearson(0, 59)
    assert low == 0.0
    assert high == pytest.approx(1 - 0.05 ** (1 / 59))
    assert high == pytest.approx(0.05, abs=0.001)


def test_bounds_of_all_and_of_some_are_exact():
    assert chance.clopper_pearson(4, 4) == (pytest.approx(0.05 ** (1 / 4)), 1.0)
    low, high = chance.clopper_pearson(3, 20)
    assert sum(math.comb(20, k) * high**k * (1 - high) ** (20 - k) for k in range(4)) == pytest.approx(0.05)
    assert sum(math.comb(20, k) * low**k * (1 - low) ** (20 - k) for k in range(3)) == pytest.approx(0.95)


def a_change(low: float, high: float, verdict: str = "inconclusive", metric: str = "latency.p50") -> Change:
    known = {"effect": (low + high) / 2, "low": low, "high": high, "margin": 0.03}
    return Change(metric=metric, unit="ns", scale="ratio", verdict=verdict, **known)


def test_a_planted_slow_down_is_found_only_by_an_interval_of_slower_ones():
    slower, faster, none = a_change(1.01, 1.2), a_change(0.8, 0.99), a_change(0.9, 1.1)
    assert [judging.found(one) for one in (slower, faster, none)] == [True, True, False]
    assert [judging.found(one, 0.05) for one in (slower, faster, none)] == [True, False, False]


def test_a_planted_slow_down_is_called_only_by_a_verdict_for_the_worse():
    verdicts = [a_change(0.9, 1.1, verdict) for verdict in ("worse", "better", "inconclusive")]
    assert [judging.called(one) for one in verdicts] == [True, True, False]
    assert [judging.called(one, 0.05) for one in verdicts] == [True, False, False]


def test_a_figure_that_counts_only_when_asked_for_is_no_alarm():
    def made(metric: str) -> Comparison:
        change = a_change(1.2, 1.4, "worse", metric)
        row = Row(base=synthetic.cell("x"), new=synthetic.cell("x"), changes=(change,))
        return Comparison(base=Source(label="A"), new=Source(label="B"), rows=(row,), verdict="worse")

    assert judging.any_called(made("latency.p90"))
    assert judging.fails(made("latency.p90"))
    assert not judging.any_called(made("compile.time"))
    assert not judging.fails(made("compile.time"))


def test_a_rate_is_shown_to_be_small_or_consistent_with_five_percent_or_more():
    assert reach.at_most_level(Share(0, 60)) == "shown: at most 5 %"
    assert reach.at_most_level(Share(6, 69)) == "consistent with 5 %"
    assert reach.at_most_level(Share(12, 69)) == "NO: more than 5 %"


def test_a_rate_is_told_with_its_bounds():
    assert tables.bounded(Share(6, 69)) == "6 of 69: 8.7 % (3.9 to 16.4 %)"
    assert tables.bounded(Share(0, 0)) == ""


def test_the_difference_of_separate_blocks_covers_the_truth_as_often_as_it_says():
    covered = 0
    for seed in range(300):
        found = chance.difference(noise(6, 0.03, 0.02, seed), noise(9, 0.01, 0.0, seed + 1000))
        covered += found.low <= 0.02 <= found.high
    assert covered / 300 == pytest.approx(0.95, abs=0.04)


class Ticking:
    """A clock that moves by so much at each reading, and by more while something is done."""

    def __init__(self, step_ns: int) -> None:
        self.now, self.step_ns = 0, step_ns

    def __call__(self) -> int:
        self.now += self.step_ns
        return self.now


def lasting(share: float, call_ns: int, step_ns: int) -> int:
    clock = Ticking(step_ns)

    def work(inputs):
        clock.now += call_ns
        return inputs

    runner = doubles.Slowed(work, share, clock)
    begin = clock.now
    runner(())
    return clock.now - begin


@pytest.mark.parametrize("share", [0.03, 0.05])
def test_a_slowed_double_is_slower_by_its_share_on_average(share):
    ratios = [
        lasting(share, call_ns, 70) / lasting(0.0, call_ns, 70) - 1 for call_ns in range(20_000, 40_000, 37)
    ]
    assert sum(ratios) / len(ratios) == pytest.approx(share, rel=0.02)


def test_a_crowd_runs_each_entry_in_the_session_that_allocated_it():
    class Remembering:
        def __init__(self, name):
            self.name, self.kept = name, []

        def allocate_inputs(self, count):
            fresh = [(f"{self.name}{len(self.kept) + k}",) for k in range(count)]
            self.kept += fresh
            return fresh

        def __call__(self, inputs):
            return (self.name, *inputs)

    runner = doubles.TakingTurns([Remembering("x"), Remembering("y")])
    entries = runner.allocate_inputs(4)
    assert [runner(entry)[0] for entry in entries] == ["x", "y", "x", "y"]
    assert runner(("unknown",))[0] == "x"


def test_all_doubles_are_plugins_that_connect(tmp_path, monkeypatch):
    from kdbench.backends import load_plugin
    from kdbench.discovery import installed

    doubling.install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    found, faults = installed([str(tmp_path)])
    assert faults == ()
    assert sorted(found) == sorted(doubling.every())
    for name in ("even-openvino", "slow5-torch-cpu", "crowd", "idler", "alike-a"):
        assert load_plugin(found[name]).info.api == 1


def test_what_is_installed_as_it_should_be_is_not_touched(tmp_path):
    doubling.install(tmp_path)
    before = (tmp_path / "crowd.py").stat().st_mtime_ns
    doubling.install(tmp_path)
    assert (tmp_path / "crowd.py").stat().st_mtime_ns == before


def test_a_visit_after_the_idler_is_compared_with_one_after_the_twin():
    tax = 0.04
    cells = [synthetic.record(synthetic.cell(name)) for name in ("alike-a", "alike-b", "idler")]
    order = [(0, 1, 2), (2, 1, 0), (1, 2, 0), (0, 2, 1), (2, 0, 1), (1, 0, 2)]
    found, before = [], None
    for turn, visit in enumerate(order * 2):
        for position, cell in enumerate(visit):
            cost = 1e5 * math.exp(tax * (before == 2) + 0.01 * turn)
            where = {"round": turn, "position": position, "started_ns": len(found)}
            found.append(synthetic.a_slice(cell, cost, **where))
            before = cell
    result = synthetic.result(cells, slices=tuple(found))
    assert reading.carry_over(result, (0, 1), 2) == {0: pytest.approx(tax)}


def tiny(*command: str) -> Line:
    return Line(
        name="tiny",
        kind="ranking",
        backend="numpy",
        threads=1,
        command=("run", "--profile", "ci", "--scenario", "latency", "--blocks", "1", *command),
        trials=2,
        blocks=0,
        about_s=2.0,
    )


def test_each_whole_trial_is_a_file_and_what_is_there_stays(tmp_path):
    folder = Folder(tmp_path)
    folder.prepare()
    first = measure(folder, tiny("-b", "even-onnxruntime,slow5-onnxruntime"))
    before = first.read_bytes()
    folder.prepare()
    second = measure(folder, tiny("-b", "numpy"))
    assert [path.name for path in folder.finished(tiny())] == ["000-exit0.json", "001-exit0.json"]
    assert first.read_bytes() == before
    assert second.parent == first.parent
    assert list(folder.unfinished.glob("*.json")) == []


def test_a_trial_that_gives_no_result_says_why(tmp_path):
    folder = Folder(tmp_path)
    folder.prepare()
    with pytest.raises(TrialFailed, match=r"exited with [23].*nowhere"):
        measure(folder, tiny("-b", "nowhere"))
    assert folder.finished(tiny()) == []
    [note] = folder.failed(tiny())
    assert note.name == "000-failed.txt"
    assert "nowhere" in note.read_text()
    assert folder.following(tiny()) == 1


def test_a_failed_trial_is_counted_in_the_tables_with_its_reason(tmp_path):
    folder = a_folder(tmp_path)
    (tmp_path / "ranking-1" / "004-failed.txt").write_text("it exited with 4: a side | \x1b[31mdied\n")
    assert folder.following(the_line("ranking-1")) == 5
    records = {name: reading.read(folder, the_line(name)) for name in ("alike-onnxruntime-1", "ranking-1")}
    assert "repeated: 1." in report.machine(records)
    told = "\n".join(table.markdown() for table in report.tables(records))
    assert "| ranking-1 | it exited with 4: a side \\| died |" in told
    assert "| no trial failed and was repeated | 1 of 9: 1 of ranking-1 | NO |" in told


def test_where_no_trial_failed_the_tables_say_none(tmp_path):
    folder = a_folder(tmp_path)
    records = {"ranking-1": reading.read(folder, the_line("ranking-1"))}
    assert "repeated: none." in report.machine(records)
    assert "none beside 4 whole ones" in "".join(table.text() for table in report.tables(records))


def the_line(name: str) -> Line:
    [line] = [line for line in lines.LINES if line.name == name]
    return line


def state(name: str, trials: int, blocks: int = 0) -> Progress:
    return Progress(the_line(name), trials, blocks, 10.0)


def test_runs_without_a_false_leader_are_enough_to_bound_five_percent():
    planned = sum(line.trials for line in lines.LINES if line.kind == "ranking")
    assert chance.clopper_pearson(0, planned)[1] < reach.LEVEL
    assert state("ranking-2", 24).remaining == 6


def test_the_line_of_which_the_least_is_done_comes_next():
    states = [state("alike-openvino-1", 7, 21), state("slow5-openvino-1", 1, 10), state("ranking-1", 12, 36)]
    assert planning.following(states).name == "slow5-openvino-1"


def test_a_line_goes_on_until_it_has_its_blocks_too():
    assert state("alike-torch-cpu-1", 14, 28).remaining == 6
    assert state("alike-torch-cpu-1", 20, 40).remaining == 0
    assert planning.following([state("alike-torch-cpu-1", 20, 40)]) is None


def a_run(seed: int, **parts):
    cells = [synthetic.record(synthetic.cell(name)) for name in ("alike-a", "alike-b")]
    slices = synthetic.slices({0: 1e5, 1: 1e5}, seed=seed)
    made = summarise(synthetic.result(cells, slices=slices, samples=synthetic.samples(0, 1e5), **parts))
    return replace(made, run=replace(made.run, id=f"run{seed}", started_utc=f"2026-03-02T10:{seed:02}:00Z"))


def a_trial(seed: int, **parts):
    """Give a trial of alike sides; 100 µs long, so that 3 % of it are beyond any absolute floor."""
    made = summarise(synthetic.trial(seed=seed, blocks=parts.pop("blocks", 3), **parts))
    return replace(made, run=replace(made.run, id=f"run{seed}", started_utc=f"2026-03-02T10:{seed:02}:00Z"))


def test_a_planted_change_scales_all_times_and_nothing_else():
    before = separate.alone(reading.Trial(Path("x"), a_run(1), 0), "alike-a")
    after = separate.planted(before, 0.2)
    assert len(after.cells) == 1
    assert after.cells[0].summary.median_ns == pytest.approx(1.2 * before.cells[0].summary.median_ns)
    assert [one.duration_ns for one in after.slices] == [one.duration_ns for one in before.slices]


def a_folder(path: Path) -> Folder:
    """Write four trials and four runs, as any version of the programme leaves them."""
    folder = Folder(path)
    for name, made in (("alike-onnxruntime-1", a_trial), ("ranking-1", a_run)):
        (path / name).mkdir()
        for seed in range(4):
            results.write(made(seed), path / name / f"{seed:03}-exit0.json")
    return folder


def told(records: dict[str, reading.Record], title: str) -> dict[str, tuple[str, ...]]:
    """Give the rows of the table whose title begins so, by their first columns."""
    [table] = [table for table in report.tables(records) if table.title.startswith(title)]
    return {row[0]: tuple(row[1:]) for row in table.rows}


def a_record(name: str, *made) -> reading.Record:
    return reading.Record(the_line(name), tuple(reading.Trial(Path("x"), one, 0) for one in made))


def test_the_tables_come_from_the_folder_alone(tmp_path):
    folder = a_folder(tmp_path)
    records = {line.name: reading.read(folder, line) for line in lines.LINES}
    made = report.tables(records)
    shown = "\n".join(table.text() for table in made)
    assert "onnxruntime, alike" in shown
    assert "0 of 4" in shown
    assert made[-1].title == "What was to be reached"


def test_markdown_keeps_its_prose_short_and_its_columns_even(tmp_path):
    folder = a_folder(tmp_path)
    records = {line.name: reading.read(folder, line) for line in lines.LINES}
    for table in report.tables(records):
        rows = [line for line in table.markdown().splitlines() if line.startswith("|")]
        prose = [line for line in table.markdown().splitlines() if not line.startswith("|")]
        assert max(map(len, prose)) <= 120
        assert len({row.count("|") for row in rows}) == 1


def test_a_demand_without_data_is_listed_as_not_measured():
    found = told({line.name: reading.Record(line, ()) for line in lines.LINES}, "What was to be reached")
    assert found.pop("at least 40 recorded blocks of each line of trials")[1] == "NO"
    assert set(found.values()) == {("not measured", "NO")}
    assert sum("found in 30 s" in demand for demand in found) == 9
    assert any("kdbench run" in demand for demand in found)
    assert any("kdbench compare" in demand for demand in found)


def test_forty_blocks_are_demanded_of_the_slowed_lines_too():
    records = {
        "alike-openvino-1": a_record("alike-openvino-1", a_trial(1, blocks=41)),
        "slow5-openvino-1": a_record("slow5-openvino-1", a_trial(2, b_ns=105_000.0, blocks=39)),
    }
    found = told(records, "What was to be reached")
    row = found["at least 40 recorded blocks of each line of trials"]
    assert row == ("fewest 39, of slow5-openvino-1", "NO")


def test_an_alarm_beyond_the_margin_is_told_as_such_and_by_its_exit_code():
    records = {
        "alike-openvino-1": a_record("alike-openvino-1", a_trial(1), a_trial(2, b_ns=110_000.0, blocks=10))
    }
    found = told(records, "What was to be reached")
    assert found["none beyond the margin of 3 %"][0].startswith("1 of 2")
    assert found["none beyond the margin of 3 %"][1] == "NO"
    assert found["no figure of them called worse (exit code 1)"][0].startswith("1 of 2")


def test_what_is_faster_where_slower_was_planted_is_no_power():
    records = {"slow5-openvino-1": a_record("slow5-openvino-1", a_trial(1, b_ns=95_000.0, blocks=10))}
    row = told(records, "`kdbench ab`, line by line")["openvino, 5 % slower"]
    assert row[-1] == "0 / 0 of 1"
    assert row[-3] == "0.0 / 0.0"


def test_contended_blocks_are_counted_in_the_table():
    made = a_trial(1, blocks=5)
    disturbed = tuple(
        replace(one, p75_ns=3 * one.p25_ns) if one.block in (1, 3) and one.cell == 1 else one
        for one in made.slices
    )
    record = a_record("alike-openvino-1", replace(made, slices=disturbed))
    row = told({record.line.name: record}, "`kdbench ab`, line by line")["openvino, alike"]
    assert row[1:3] == ("5", "2")


def test_how_long_calls_after_a_switch_take_is_the_median_over_trials():
    cells = [synthetic.record(synthetic.cell(name)) for name in ("single", "crowd")]
    made = []
    for factor in (1.5, 1.6, 40.0):
        plain = synthetic.slices({0: 1e5, 1: 1e5})
        settled = tuple(
            replace(one, settle_calls=10, settle_ns=round(10 * factor * one.median_ns)) for one in plain
        )
        made.append(synthetic.result(cells, slices=settled))
    record = a_record("unlike-100ms", *made)
    assert company_tables.settling(record, "crowd") == pytest.approx(1.6, rel=0.01)
    assert told({record.line.name: record}, "Unlike binaries")["100 ms"][-2:] == ("1.60", "1.60")


def test_the_program_prints_plan_and_tables_without_measuring(tmp_path):
    a_folder(tmp_path)
    command = [sys.executable, str(ROOT / "benchmarks" / "verdicts.py"), "--folder", str(tmp_path)]
    command += ["--lines", "alike-onnxruntime-1,ranking-1"]
    plan = subprocess.run([*command, "--plan"], capture_output=True, text=True, check=True).stdout
    assert "alike-onnxruntime-1" in plan
    table = subprocess.run([*command, "--table"], capture_output=True, text=True, check=True).stdout
    assert "Whole verdicts" in table
    assert not (tmp_path / "doubles").exists()
