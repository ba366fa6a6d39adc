"""How long a plan should take, stage by stage, and how many blocks fit a budget."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from msgspec import structs

from kdbench.job import Job
from kdbench.schedule import cohorts
from kdbench.sections import Profile
from kdbench.spec import Scenario

START_S = 0.7
"""About what starting, loading, checking and ending one worker takes."""

FEWEST_BLOCKS = 2
MOST_BLOCKS = 1000
"""As many as a profile may ask for, see `sections.Blocks`: what a run did is read back as a profile."""


def living(jobs: Sequence[Job], scenario: Scenario) -> tuple[tuple[int, ...], ...]:
    """Give the jobs of a scenario, by index, as they live together in a block.

    A student's job and its teacher's are in the same cohort: their ratio needs no anchor.
    """
    own = [index for index, job in enumerate(jobs) if job.target.scenario == scenario]
    families: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for index in own:
        families[jobs[index].family].append(index)
    if any(jobs[index].pair is not None for index in own):  # pairs of a trial need no anchor: each is alone
        return tuple(map(tuple, families.values()))
    # Students are ranked among themselves, so only one of them can link students.
    students = [index for index in own if jobs[index].student.role == "student"]
    return cohorts(list(families.values()), (students or own)[0]) if own else ()


def stages(profile: Profile, jobs: Sequence[Job]) -> tuple[tuple[str, float], ...]:
    """Name the stages of a run with the seconds that each should take."""
    latency = sum(len(job.cells) for job in jobs if job.target.scenario == "latency")
    every = sum(len(job.cells) for job in jobs)
    slices, windows = profile.latency, profile.throughput
    visit_s = slices.slice_s * 1.15 + slices.settle_s / 2
    block_s = _block_s(jobs, "latency", 1.3 * slices.warm_up_s + slices.rounds * visit_s)
    window_s = _block_s(jobs, "throughput", 0.3 + windows.rounds * windows.window_s)
    found = {
        "compile": len(jobs) * START_S,
        "latency blocks": slices.blocks * block_s,
        "throughput blocks": windows.blocks * window_s,
        "tail": latency * (START_S + profile.tail.duration_s) if profile.tail.duration_s else 0.0,
        "memory": every * START_S if profile.memory.measure else 0.0,
    }
    return tuple((name, seconds) for name, seconds in found.items() if seconds)


def within(budget_s: float, profile: Profile, jobs: Sequence[Job]) -> Profile:
    """Choose the number of blocks that fits a budget, at least one of each kind."""
    one = with_blocks(profile, 1)
    found = dict(stages(one, jobs))
    per_block = found.get("latency blocks", 0.0) + found.get("throughput blocks", 0.0)
    rest = budget_s - (sum(found.values()) - per_block)
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


def _block_s(jobs: Sequence[Job], scenario: Scenario, cell_s: float) -> float:
    # An anchor is measured in every cohort, and counts as often.
    members = [jobs[index] for cohort in living(jobs, scenario) for index in cohort]
    return sum(START_S + len(job.cells) * cell_s for job in members)


def with_blocks(profile: Profile, blocks: int) -> Profile:
    """Give the profile with so many blocks of either kind."""
    latency = structs.replace(profile.latency, blocks=blocks)
    return structs.replace(
        profile, latency=latency, throughput=structs.replace(profile.throughput, blocks=blocks)
    )
