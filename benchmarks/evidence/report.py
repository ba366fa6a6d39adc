"""All tables of the evidence, derived from the files of whole trials; nothing is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from benchmarks.evidence import company_tables, reach, run_tables, trial_tables
from benchmarks.evidence.reading import Record
from benchmarks.evidence.tables import Table
from kdbench.records import BackendRecord, Result

Records = Mapping[str, Record]

LONGEST = 160
"""Characters that are shown of why a trial failed."""


def tables(records: Records) -> list[Table]:
    """Give all tables for which something was measured, and what was to be reached."""
    told, pairs = trial_tables.judged(records), run_tables.paired(records)
    made = (
        trial_tables.lines(records, told),
        trial_tables.pooled(records, told),
        run_tables.ranked(records),
        company_tables.beside(records),
        company_tables.unlike(records),
        company_tables.four(records),
        run_tables.apart(records, pairs),
        failures(records),
        reach.reach(records, told, pairs),
    )
    return [table for table in made if table.rows]


def failures(records: Records) -> Table:
    """List the trials that failed; each was repeated, and no other table counts it."""
    table = Table("Trials that failed and were repeated", ("line", "why"))
    table.rows += [
        (name, reason if len(reason) <= LONGEST else f"{reason[:LONGEST]}…")
        for name, record in records.items()
        for reason in record.failures
    ]
    return table


def machine(records: Records) -> str:
    """Say on what and when it was measured, with which versions; empty where nothing was."""
    every = sorted(
        (trial.result for record in records.values() for trial in record.trials),
        key=lambda result: result.run.started_utc,
    )
    if not every:
        return "Nothing was measured yet."
    cpus = dict.fromkeys(
        f"{cpu.get('model')}, {cpu.get('logical')} CPUs"
        for result in every
        if isinstance(cpu := result.environment.get("cpu"), dict)
    )
    versions = {
        f"{backend.title} {backend.runtime_version}": None
        for result in every
        for backend in (*result.backends, *_of_sides(result))
        if backend.runtime_version
    }
    students = dict.fromkeys(result.subject.student for result in every)
    failed = sum(len(record.failures) for record in records.values())
    return (
        f"{len(every)} whole trials of {', '.join(students)}, from {every[0].run.started_utc} to "
        f"{every[-1].run.finished_utc}, on {' and '.join(cpus)}; {', '.join(versions)}. "
        f"Trials that failed and were repeated: {failed or 'none'}."
    )


def _of_sides(result: Result) -> Iterable[BackendRecord]:
    return [backend for side in result.trial.sides for backend in side.backends] if result.trial else []
