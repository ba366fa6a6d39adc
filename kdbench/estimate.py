"""How long a plan should take, stage by stage, and how many blocks fit a budget."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import comb

from msgspec import structs

from kdbench.bisection import most_steps
from kdbench.job import Job
from kdbench.meetings import meetings
from kdbench.schedule import ALTERNATING, cohorts
from kdbench.sections import Profile
from kdbench.spec import Scenario

START_S = 0.7
"""About what starting, loading, checking and ending one worker takes."""

OBSERVED_S = 2.0
"""About what one observer takes for one cell, beside that."""

GPU_SETTLE_S = 0.1
"""About how long a GPU is kept busy before each visit until its clock settles; five times as much at most."""

BOUND = "at most"
"""Ends the name of a stage whose time is an upper bound."""

FEWEST_BLOCKS = 2
MOST_BLOCKS = 1000
"""As many as a profile may ask for, see `sections.Blocks`: what a run did is read back as a profile."""


def living(
    jobs: Sequence[Job], scenario: Scenario, room: Mapping[str, int] | None = None
) -> tuple[tuple[int, ...], ...]:
    """Give the jobs of a scenario, by index, as they live together in a block.

    A student's job and its teacher's are in the same cohort: their ratio needs no anchor. Jobs of unlike
    physical devices are in none together, but for the pairs of a trial. room: how many may live at once on a
    device, where that is fewer than usual.
    """
    own = [index for index, job in enumerate(jobs) if job.target.scenario == scenario]
    if any(jobs[index].pair is not None for index in own):  # pairs of a trial need no anchor: each is alone
        return tuple(map(tuple, _families(jobs, own)))
    devices: dict[str, list[int]] = defaultdict(list)
    for index in own:
        devices[jobs[index].physical].append(index)
    found: list[tuple[int, ...]] = []
    for device, members in devices.items():
        # Students are ranked among themselves, so only one of them can link students.
        students = [index for index in members if jobs[index].student.role == "student"]
        size = (room or {}).get(device, ALTERNATING)
        found += cohorts(_families(jobs, members), (students or members)[0], size)
    return tuple(found)


def _families(jobs: Sequence[Job], members: Sequence[int]) -> list[list[int]]:
    families: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for index in members:
        families[jobs[index].family].append(index)
    return list(families.values())


def stages(
    profile: Profile, jobs: Sequence[Job], room: Mapping[str, int] | None = None
) -> tuple[tuple[str, float], ...]:
    """Name the stages of a run with the seconds that each should take."""
    if profile.crossover.largest:
        return _search_stages(profile, jobs, room)
    latency = sum(len(job.cells) for job in jobs if job.target.scenario == "latency")
    every = sum(len(job.cells) for job in jobs)
    slices, windows = profile.latency, profile.throughput
    block_s = _block_s(jobs, "latency", _cell_s(profile, "latency"), slices.rounds, room)
    window_s = _block_s(jobs, "throughput", _cell_s(profile, "throughput"), windows.rounds, room)
    found = {
        "compile": len(jobs) * START_S,
        "latency blocks": slices.blocks * block_s,
        "throughput blocks": windows.blocks * window_s,
        "tail": latency * (START_S + profile.tail.duration_s) if profile.tail.duration_s else 0.0,
        "memory": every * START_S if profile.memory.measure else 0.0,
        "observe": every * len(profile.observe.observers) * (START_S + OBSERVED_S),
    }
    return tuple((name, seconds) for name, seconds in found.items() if seconds)


def within(
    budget_s: float, profile: Profile, jobs: Sequence[Job], room: Mapping[str, int] | None = None
) -> Profile:
    """Choose the number of blocks that fits a budget, at least one of each kind."""
    one = with_blocks(profile, 1)
    once, twice = (
        sum(seconds for _, seconds in stages(with_blocks(profile, blocks), jobs, room)) for blocks in (1, 2)
    )
    per_block = twice - once
    rest = budget_s - (once - per_block)
    return with_blocks(one, min(MOST_BLOCKS, max(1, int(rest / per_block))) if per_block else 1)


def notes(budget_s: float | None, profile: Profile, seconds: float) -> tuple[str, ...]:
    """Tell what the user should know of the number of blocks."""
    told = []
    blocks = profile.latency.blocks
    if blocks < FEWEST_BLOCKS:
        told.append("One block cannot tell a lead from chance; two or more (--blocks) can.")
    if budget_s is not None and seconds > budget_s:
        told.append(f"Even one block takes about {seconds:.0f} s, longer than the budget of {budget_s:g} s.")
    elif budget_s is not None:
        told.append(f"Blocks that fit the budget of {budget_s:g} s: {blocks}.")
    return tuple(told)


def _cell_s(profile: Profile, scenario: Scenario) -> float:
    """Give the time that a block spends on one cell, but for the settling of a GPU."""
    if scenario == "throughput":
        return 0.3 + profile.throughput.rounds * profile.throughput.window_s
    slices = profile.latency
    visit_s = slices.slice_s * 1.15 + slices.settle_s / 2
    return 1.3 * slices.warm_up_s + slices.rounds * visit_s


def arenas(jobs: Sequence[Job]) -> tuple[tuple[int, ...], ...]:
    """Give the jobs, by index, that a search compares: alike in scenario, boundary and network."""
    found: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for index, job in enumerate(jobs):
        found[job.target.scenario, job.target.boundary, job.student.role].append(index)
    return tuple(map(tuple, found.values()))


def _search_stages(
    profile: Profile, jobs: Sequence[Job], room: Mapping[str, int] | None
) -> tuple[tuple[str, float], ...]:
    """Estimate a search: its first batch sizes, and at most how long its bisections take."""
    settings, rungs = profile.crossover, profile.plan.batches
    found: dict[str, float] = defaultdict(float)
    for arena in arenas(jobs):
        scenario = jobs[arena[0]].target.scenario
        section = profile.latency if scenario == "latency" else profile.throughput
        visits_s = [
            _cell_s(profile, scenario) + section.rounds * GPU_SETTLE_S * bool(jobs[index].device.uuid)
            for index in arena
        ]
        for rung in rungs:
            there = [k for k, index in enumerate(arena) if rung in jobs[index].cells]
            met = meetings([jobs[arena[k]].physical for k in there], room)
            block_s = sum(START_S + visits_s[there[k]] for cohort in met for k in cohort)
            found[f"{scenario} doubling"] += len(there) * START_S + section.blocks * block_s
        steps = comb(len(arena), 2) * most_steps(rungs, settings.resolution, settings.changes)
        step_s = 2 * (START_S + section.blocks * (START_S + max(visits_s)))
        found[f"{scenario} bisection"] += steps * step_s
    return tuple((name, seconds) for name, seconds in found.items() if seconds)


def _block_s(
    jobs: Sequence[Job], scenario: Scenario, cell_s: float, rounds: int, room: Mapping[str, int] | None
) -> float:
    # An anchor is measured in every cohort, and counts as often.
    members = [jobs[index] for cohort in living(jobs, scenario, room) for index in cohort]
    settle_s = rounds * GPU_SETTLE_S
    return sum(START_S + len(job.cells) * (cell_s + settle_s * bool(job.device.uuid)) for job in members)


def with_blocks(profile: Profile, blocks: int) -> Profile:
    """Give the profile with so many blocks of either kind."""
    latency = structs.replace(profile.latency, blocks=blocks)
    return structs.replace(
        profile, latency=latency, throughput=structs.replace(profile.throughput, blocks=blocks)
    )
