"""Who gets blocks of their own: leader and runner-up of a group that never lived together in a cohort."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kdbench import journal
from kdbench.journal import Entry
from kdbench.plan import Plan
from kdbench.spec import Scenario
from kdbench.summary import summarise


def finalists(
    plan: Plan, book: Path, scenario: Scenario, cohorts: Sequence[Sequence[int]]
) -> list[tuple[int, int]]:
    """Pair leader and runner-up of each group of a scenario that were in different cohorts, by job.

    Two of unlike devices cannot meet, nor can two that a GPU has no room for at once.
    The journal up to the last block of `cohorts` decides who they are, and nothing behind it: neither
    their own blocks nor a failure since then. So a resumed run comes to the same pairs in the same order.
    """
    if len(cohorts) < 2:
        return []

    def early(entry: Entry) -> bool:
        return entry.scenario == scenario and (entry.cohort or 0) < len(cohorts)

    home = {cell: index for index, job in enumerate(plan.jobs) for cell in job.cells.values()}
    pairs: dict[tuple[int, int], None] = {}
    for lead in summarise(journal.fold(book, through=early)).leads:
        if lead.scenario == scenario and lead.runner_up is not None:
            first, second = sorted((home[lead.leader], home[lead.runner_up]))
            met = any({first, second} <= set(cohort) for cohort in cohorts)
            if not met and plan.together(first, second):
                pairs[first, second] = None
    return list(pairs)
