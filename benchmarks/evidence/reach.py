"""What the evidence was to show, and whether it does; what was not measured is not reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.evidence import judging, separate
from benchmarks.evidence.chance import MARGIN, Share
from benchmarks.evidence.lines import BLOCKS, WHOLE, Kind
from benchmarks.evidence.reading import Record
from benchmarks.evidence.run_tables import Pairs, leads
from benchmarks.evidence.tables import Table, bounded, percent
from benchmarks.evidence.trial_tables import Told, rates, whole

LEVEL = 0.05

POWER = {(0.05, 1): 0.95, (0.05, 2): 0.85, (0.03, 1): 0.8}
"""By true slow-down and threads: the share to be found at a budget of 30 s."""

TOLD = "torch-cpu"
"""Told as it is: nothing was demanded of it."""

COMPANY: Mapping[Kind, str] = {
    "neighbour": "a pair beside a busy idler",
    "unlike": "unlike binaries, at each of three paces",
    "four": "four alike in a block, at each number of threads",
}

Records = Mapping[str, Record]
Row = tuple[str, str, str]

NOTHING = ("not measured", "NO")


def reach(records: Records, told: Told, pairs: Pairs) -> Table:
    """Compare what was demanded of these lines with what was found."""
    table = Table(
        "What was to be reached",
        ("demand", "found", "reached"),
        note="Rates with their bounds, as above. Shown: the upper bound is at most 5 %. Consistent with 5 %: "
        "5 % lies within the bounds, so the rate may be less or more.",
    )
    table.rows += [
        *_alarms(records, told),
        *_power(records, told),
        *_company(records),
        *_runs(records, pairs),
        *_failures(records),
    ]
    return table


def at_most_level(share: Share) -> str:
    """Tell what a rate says about 5 %: shown to be no more, consistent with it, or more."""
    low, high = share.bounds
    if low > LEVEL:
        return f"NO: more than {percent(LEVEL, 0)}"
    return f"shown: at most {percent(LEVEL, 0)}" if high <= LEVEL else f"consistent with {percent(LEVEL, 0)}"


def _alarms(records: Records, told: Told) -> Iterable[Row]:
    tried = _of(records, "alike", "slowed")
    if tried:
        fewest = min(tried, key=lambda record: len(record.blocks))
        count = len(fewest.blocks)
        where = f"fewest {count}, of {fewest.line.name}" if count else f"none of {fewest.line.name}"
        yield f"at least {BLOCKS} recorded blocks of each line of trials", where, _yes(count >= BLOCKS)
    alike = _of(records, "alike")
    if not alike:
        return
    found, called = whole(alike, told)
    comparisons = [one for record in alike for one in told[record.line.name]]
    failing = Share(sum(map(judging.fails, comparisons)), len(comparisons))
    rows = (
        (f"at least {WHOLE} whole trials of alike sides", str(found.trials), _yes(found.trials >= WHOLE)),
        ("their false alarms consistent with 5 %", bounded(found), at_most_level(found)),
        (f"none beyond the margin of {percent(MARGIN, 0)}", bounded(called), _yes(not called.count)),
        ("no figure of them called worse (exit code 1)", bounded(failing), _yes(not failing.count)),
    )
    yield from rows if found.trials else [(demand, *NOTHING) for demand, _, _ in rows]


def _power(records: Records, told: Told) -> Iterable[Row]:
    for record in _of(records, "slowed"):
        line, usual = record.line, record.usual_blocks
        demand = POWER[line.slow, line.threads]
        asked = f"in at least {percent(demand, 0)}" if line.backend != TOLD else "told as it is"
        title = f"{percent(line.slow, 0)} found in 30 s, {line.backend}, {_threads(line.threads)}: {asked}"
        drawn = rates(record, usual)
        if drawn is None:
            yield title, *NOTHING
            continue
        found, _ = whole([record], told)
        shown = f"{percent(drawn.found)} of draws of {usual} blocks; {found.count} of {found.trials} whole"
        yield title, shown, "told" if line.backend == TOLD else _yes(drawn.found >= demand)


def _company(records: Records) -> Iterable[Row]:
    for kind, title in COMPANY.items():
        some = _of(records, kind)
        if not some:
            continue
        demand = f"{title}: at least {some[0].line.blocks} blocks"
        counts = [len(record.blocks) for record in some]
        enough = all(count >= record.line.blocks for count, record in zip(counts, some, strict=True))
        yield (demand, ", ".join(map(str, counts)), _yes(enough)) if any(counts) else (demand, *NOTHING)


def _runs(records: Records, pairs: Pairs) -> Iterable[Row]:
    if ranking := _of(records, "ranking"):
        ahead, _ = leads(ranking)
        count = ahead.trials
        rows = (
            (f"kdbench run: at least {WHOLE} runs of two alike", str(count), _yes(count >= WHOLE)),
            ("a leader declared in at most 5 % of them", bounded(ahead), at_most_level(ahead)),
        )
        yield from rows if count else [(demand, *NOTHING) for demand, _, _ in rows]
    if pairs:
        demand = "kdbench compare of separate runs: false alarms in at most 5 %"
        counted = separate.separate([one for some in pairs.values() for one in some])
        if counted is None:
            yield demand, *NOTHING
            return
        for title, share in (("found", counted.found[0.0]), ("beyond", counted.called[0.0])):
            yield f"{demand}, {title}", bounded(share), at_most_level(share)


def _failures(records: Records) -> Iterable[Row]:
    counts = {name: len(record.failures) for name, record in records.items()}
    failed, trials = sum(counts.values()), sum(len(record.trials) for record in records.values())
    demand = "no trial failed and was repeated"
    if not failed + trials:
        yield demand, *NOTHING
        return
    where = ", ".join(f"{count} of {name}" for name, count in counts.items() if count)
    told = f"{failed} of {failed + trials}: {where}" if failed else f"none beside {trials} whole ones"
    yield demand, told, _yes(not failed)


def _of(records: Records, *kinds: Kind) -> Sequence[Record]:
    return [record for record in records.values() if record.line.kind in kinds]


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _yes(reached: bool) -> str:
    return "yes" if reached else "NO"
