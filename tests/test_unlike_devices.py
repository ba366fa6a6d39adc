"""A CPU and GPUs in one run: who lives with whom, and how they are ranked all the same."""

from __future__ import annotations

import math
from dataclasses import replace as replaced
from statistics import median

import pytest
from msgspec.structs import replace

from kdbench import compare, ranking
from kdbench.errors import UsageError
from kdbench.finalists import finalists
from kdbench.plan import plan
from kdbench.records import PlacementRecord
from kdbench.request import Request
from kdbench.schedule import cohorts
from kdbench.sections import Latency, Plan as PlanTable, Profile
from kdbench.spec import Device
from kdbench.summary import summarise
from tests import synthetic
from tests.test_plan import backend

FIRST, SECOND = "GPU-1a000000-0000", "GPU-1b000000-0000"
CPU = Device("cpu", "any CPU")
GPU = Device("cuda:0", "a GPU", uuid=FIRST)
OTHER = Device("cuda:1", "another GPU", uuid=SECOND)
GIB = 2**30


@pytest.fixture
def planned(paper_student, tmp_path):
    def make(*found, free_bytes=None, room=None, **asked):
        table = PlanTable(scenarios=("latency",), batches=(1,), **asked.pop("table", {}))
        profile = Profile(schema=1, name="test", plan=table)
        request = Request(student=paper_student, profile=profile, output=tmp_path / "r.json", **asked)
        return plan(request, found, (0, 1), free_bytes, room)

    return make


def named(found) -> list[list[str]]:
    return [[found.jobs[index].source.name for index in cohort] for cohort in found.cohorts("latency")]


def test_jobs_live_together_only_on_one_device(planned):
    found = planned(backend("a"), backend("b", GPU), backend("c"), backend("d", replaced(GPU, id="gpu.0")))
    assert named(found) == [["a", "c"], ["b", "d"]]
    assert "Cells alternate within one device only" in found.notes[-1]


def test_two_gpus_of_one_name_are_two_devices(planned):
    found = planned(backend("a", GPU), backend("b", replaced(OTHER, id="cuda:0")))
    assert named(found) == [["a"], ["b"]]


def test_a_run_on_one_device_has_no_word_of_it(planned):
    assert planned(backend("a", GPU), backend("b", GPU)).notes == ()
    assert planned(backend("a"), backend("b")).notes == ()


def test_each_device_has_an_anchor_of_its_own(planned):
    found = planned(*(backend(name) for name in "abcde"), *(backend(name, GPU) for name in "vwxyz"))
    assert named(found) == [["a", "b", "c", "d"], ["a", "e"], ["v", "w", "x", "y"], ["v", "z"]]


def test_what_a_gpu_has_no_room_for_lives_in_smaller_cohorts(planned):
    found = planned(*(backend(name, GPU) for name in "vwxyz"), free_bytes={FIRST: int(1.6 * GIB)})
    assert found.room == {FIRST: 2}
    assert named(found) == [["v", "w"], ["v", "x"], ["v", "y"], ["v", "z"]]
    assert found.notes[-1] == "The free memory of cuda:0 (a GPU) has room for 2 workers at once."
    assert found.together(0, 1)


def test_where_one_worker_has_room_nobody_meets(planned):
    found = planned(*(backend(name, GPU) for name in "vw"), free_bytes={FIRST: GIB})
    assert named(found) == [["v"], ["w"]]
    assert not found.together(0, 1)
    assert found.notes[-1].endswith("1 worker at a time: its cells cannot take turns.")


def test_a_run_that_goes_on_keeps_to_the_room_that_it_began_with(planned):
    backends = [backend(name, GPU) for name in "vwx"]
    assert named(planned(*backends, free_bytes={FIRST: 64 * GIB}, room={FIRST: 2})) == [
        ["v", "w"],
        ["v", "x"],
    ]
    assert named(planned(*backends, free_bytes={FIRST: 1}, room={})) == [["v", "w", "x"]]


def test_a_gpu_is_asked_for_by_its_uuid_or_the_beginning_of_it(planned):
    both = backend("a", CPU, GPU, OTHER)
    for wish, ids in ((FIRST, ["cuda:0"]), ("gpu-1b", ["cuda:1"]), ("cuda", ["cuda:0", "cuda:1"])):
        found = planned(both, devices=(wish,))
        assert [cell.device for cell in found.cells] == ids


def test_the_beginning_of_two_uuids_is_refused(planned):
    with pytest.raises(UsageError, match=f"GPU-1 may be any of {FIRST}, {SECOND}"):
        planned(backend("a", GPU, OTHER), devices=("GPU-1",))


def test_one_gpu_that_two_backends_have_is_no_ambiguity(planned):
    assert len(planned(backend("a", GPU), backend("b", GPU), devices=("GPU-1",)).cells) == 2


def test_a_uuid_that_no_backend_has_is_refused(planned):
    with pytest.raises(UsageError, match="No backend of this run has the device GPU-9"):
        planned(backend("a", GPU), devices=("GPU-9",))


def test_time_for_settling_is_in_the_estimate_of_a_gpu_only(planned):
    rounds = Latency().rounds * Latency().blocks
    on_gpu, on_cpu = (planned(backend("a", device)).seconds for device in (GPU, CPU))
    assert on_gpu - on_cpu == pytest.approx(rounds * 0.1)


@pytest.mark.parametrize(
    ("families", "size", "found"),
    [
        ([[0], [1], [2]], 2, ((0, 1), (0, 2))),
        ([[0], [1], [2]], 1, ((0,), (1,), (2,))),
        ([[0, 1], [2, 3]], 3, ((0, 1), (0, 2, 3))),
        ([[0, 1], [2, 3]], 2, ((0, 1), (0, 2), (2, 3))),
        ([[0, 1], [2, 3], [4]], 2, ((0, 1), (0, 2), (2, 3), (0, 4))),
        ([[0, 1]], 2, ((0, 1),)),
    ],
)
def test_small_cohorts_hold_the_anchor_or_are_linked_to_it_by_the_first_of_a_family(families, size, found):
    assert cohorts(families, 0, size) == found


def on(device: str, uuid: str, name: str):
    """A measured cell on a device."""
    placed = PlacementRecord(requested=device, device=device, precision="fp32", uuid=uuid)
    return synthetic.record(synthetic.cell(name, device=device), placement=placed)


CELLS = (on("cpu", "", "a"), on("cpu", "", "b"), on("cuda:0", FIRST, "v"), on("cuda:0", FIRST, "w"))
PARTED = ((0, 1), (2, 3))


def ranked(truth_ns, *, cells=CELLS, parted=PARTED, **noise):
    slices = synthetic.slices(dict(enumerate(truth_ns)), cohorts=parted, **noise)
    return summarise(synthetic.result(cells, slices=slices))


def costs_of(result):
    return ranking.costs_of(result, "latency", set(range(len(result.cells))))


def test_a_gpu_far_ahead_of_a_cpu_leads_and_the_lead_is_told_as_not_alternated():
    result = ranked([3e6, 4e6, 2e6, 1e6])
    (lead,) = result.leads
    assert (lead.leader, lead.runner_up, lead.verdict, lead.alternated) == (3, 2, "ahead", True)
    one_each = ranked([3e6, 1e6], cells=(CELLS[0], CELLS[2]), parted=((0,), (1,)), block_sd=0.01)
    (lead,) = one_each.leads
    assert (lead.leader, lead.runner_up, lead.verdict, lead.alternated, lead.blocks) == (
        1,
        0,
        "ahead",
        False,
        3,
    )
    assert lead.low < 3 < lead.high


def test_the_estimate_across_devices_is_that_of_the_blocks_medians():
    result = ranked([3e6, 4e6, 2e6, 1e6], blocks=4)
    estimates = costs_of(result).estimates(0, 3)
    assert estimates.keys() == {0, 1, 2, 3}

    for block, estimate in estimates.items():
        logs = [
            [math.log(one.median_ns) for one in result.slices if (one.block, one.cell) == (block, cell)]
            for cell in (0, 3)
        ]
        assert estimate == pytest.approx(median(logs[0]) - median(logs[1]))


def test_the_interval_across_devices_is_wider_than_that_of_turns():
    apart, turns = (ranked([1.1e6, 1e6], cells=(CELLS[0], CELLS[2]), parted=parted, blocks=10, block_sd=0.002)
                    for parted in (((0,), (1,)), ((0, 1),)))  # fmt: skip
    wide, narrow = (ranking.pair(costs_of(result), 0, 1) for result in (apart, turns))
    assert wide.half > 2 * narrow.half


def test_two_alike_across_devices_seldom_have_a_leader_declared():
    pair = (CELLS[0], CELLS[2])
    leads = [
        ranked([1e6, 1e6], cells=pair, parted=((0,), (1,)), blocks=5, rounds=4, seed=seed).leads[0]
        for seed in range(200)
    ]
    assert sum(lead.verdict == "ahead" for lead in leads) <= 19  # 5 % and three standard errors of a count


def test_an_anchor_on_the_cpu_does_not_link_cells_of_a_gpu():
    # A GPU's cells that each met the same cell of the CPU, as pairs of a trial may, but never one another.
    slices = synthetic.slices({0: 1e6, 2: 2e6, 3: 3e6}, cohorts=[(0, 2), (0, 3)])
    costs = ranking.latency_costs(slices, {0, 2, 3}, homes=ranking.homes(CELLS))
    assert costs.estimates(2, 3) == {}
    assert ranking.latency_costs(slices, {0, 2, 3}).estimates(2, 3)


def test_cells_of_one_device_that_never_met_still_prove_nothing():
    result = ranked([1e6, 3e6], cells=CELLS[2:], parted=((0,), (1,)))
    (lead,) = result.leads
    assert (lead.verdict, lead.low, lead.blocks) == ("tie", None, 0)


def test_a_pair_of_unlike_devices_that_did_take_turns_is_compared_by_these():
    result = ranked([3e6, 1e6], cells=(CELLS[0], CELLS[2]), parted=((0, 1),))
    assert costs_of(result).estimates(0, 1) == costs_of(result).direct(0, 1)
    assert result.leads[0].alternated


def test_throughput_across_devices_is_compared_by_the_blocks_mean_logarithms():
    cells = [replace(one, cell=replaced(one.cell, scenario="throughput")) for one in (CELLS[0], CELLS[2])]
    windows = [
        replace(one, cohort=one.cell) for one in synthetic.windows({0: 1000.0, 1: 4000.0}, blocks=5, rounds=2)
    ]
    (lead,) = summarise(synthetic.result(cells, windows=windows)).leads
    assert (lead.leader, lead.verdict, lead.alternated) == (1, "ahead", False)
    assert lead.low < 4 < lead.high


def test_without_a_uuid_the_ids_tell_devices_apart():
    cells = [
        synthetic.record(synthetic.cell(name, device=device))
        for name, device in (("a", "cpu"), ("v", "gpu.0"))
    ]
    assert ranking.homes(cells) == {0: "host", 1: "gpu.0"}


def test_a_comparison_across_devices_says_that_they_were_not_alternated():
    cells = (CELLS[0], replace(CELLS[2], cell=replaced(CELLS[2].cell, backend="a")))
    found = compare.across(ranked([3e6, 1e6], cells=cells, parted=((0,), (1,))), "device")
    assert any("not alternated" in note for note in found.notes)
    assert [change.verdict for row in found.rows for change in row.changes] == ["worse"]
    together = compare.across(ranked([3e6, 1e6], cells=cells, parted=((0, 1),)), "device")
    assert not any("not alternated" in note for note in together.notes)


def test_leader_and_runner_up_of_unlike_devices_get_no_blocks_of_their_own(planned, tmp_path):
    from kdbench import journal
    from kdbench.journal import Entry

    whole = planned(backend("a"), backend("v", GPU))
    cells = (CELLS[0], CELLS[2])
    slices = synthetic.slices({0: 1.1e6, 1: 1e6}, cohorts=((0,), (1,)))
    with journal.create(tmp_path / "book", synthetic.result(cells)) as book:
        for cohort in (0, 1):
            own = tuple(one for one in slices if one.cohort == cohort)
            book.append(Entry(kind="block", scenario="latency", block=0, cohort=cohort, slices=own))
        assert finalists(whole, book.path, "latency", whole.cohorts("latency")) == []
