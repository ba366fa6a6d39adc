"""Compare two results, or the two sides of one."""

from __future__ import annotations

from kdbench.compare.assemble import assemble, source
from kdbench.compare.conditions import differences, mismatches
from kdbench.compare.evidence import Evidence, evidence
from kdbench.compare.findings import Setting, clock_ns, slower
from kdbench.compare.join import by_key, by_side
from kdbench.compare.notes import of_runs, of_trial
from kdbench.compare.options import Options
from kdbench.compare.sources import Loaded
from kdbench.comparison import Comparison
from kdbench.errors import UsageError
from kdbench.records import Floor, Result


def compare(base: Loaded, new: Loaded, options: Options | None = None) -> Comparison:
    """Compare two results cell by cell, joined on the key.

    Raises UsageError where both are the same run, or one is a trial, which has two sides of its own.
    """
    options = options or Options()
    _check(base, new)
    ours, theirs = evidence(base.result), evidence(new.result)
    boundaries = _unlike_boundaries(ours, theirs)
    joined = by_key(ours, theirs, any_boundary=boundaries and options.allow_mismatch)
    comparison = Comparison(
        base=source(base.result, "base", base.name),
        new=source(new.result, "new", new.name),
        unmatched=joined.unmatched,
        differences=differences(base.result, new.result, joined.pairs),
        mismatches=mismatches(base.result, new.result, joined.pairs, boundaries=boundaries),
        allowed=options.allow_mismatch,
    )
    floors = _floors(base.result, new.result, options)
    setting = Setting(
        options=options,
        paired=False,
        base_floors=floors[0],
        new_floors=floors[1],
        slower=slower(base.result, new.result),
        clock_ns=max(clock_ns(base.result), clock_ns(new.result)),
    )
    notes = list(of_runs(base.result, new.result))
    if not joined.pairs:
        notes.append(
            "No cell of base is in new: they share no backend, device, precision, batch size and so on."
        )
    return assemble(joined.pairs, setting, comparison, notes)


def compare_trial(result: Result, options: Options | None = None, *, file: str = "") -> Comparison:
    """Compare the two sides of a trial by their neighbouring slices.

    Two students are the question itself, not a mismatch; their accuracy is compared where the data are the
    same. Raises ResultError where the result is no trial.
    """
    options = options or Options()
    joined = by_side(result, evidence(result))
    comparison = Comparison(
        base=source(result, "base", file, "a"),
        new=source(result, "new", file, "b"),
        unmatched=joined.unmatched,
        differences=differences(result, result, joined.pairs),
    )
    floors = (*result.floors, *options.floors(_host(result)))
    setting = Setting(
        options=options, paired=True, base_floors=floors, new_floors=floors, clock_ns=clock_ns(result)
    )
    return assemble(joined.pairs, setting, comparison, of_trial(result))


def _check(base: Loaded, new: Loaded) -> None:
    if base.result.run.id == new.result.run.id:
        raise UsageError(
            f"{base.name} and {new.name} are the same run ({base.result.run.id}): nothing can have changed.",
            hint="Pass two runs. `kdbench ab -b NAME` alternates one backend with itself.",
        )
    for one in (base, new):
        if one.result.trial is not None:
            raise UsageError(
                f"{one.name} is a trial: it holds both sides already.", hint=f"kdbench compare {one.name}"
            )


def _unlike_boundaries(base: tuple[Evidence, ...], new: tuple[Evidence, ...]) -> bool:
    ours, theirs = ({one.record.cell.boundary for one in cells} for cells in (base, new))
    return bool(ours and theirs) and ours.isdisjoint(theirs)


def _floors(base: Result, new: Result, options: Options) -> tuple[tuple[Floor, ...], tuple[Floor, ...]]:
    """Give the floors that hold on each side's machine: of the files, and of the store."""
    if _host(base) == _host(new):
        both = (*base.floors, *new.floors, *options.floors(_host(base)))
        return both, both
    ours, theirs = ((*one.floors, *options.floors(_host(one))) for one in (base, new))
    return ours, theirs


def _host(result: Result) -> str:
    host = result.environment.get("host_hash")
    return host if isinstance(host, str) else ""
