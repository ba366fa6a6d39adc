"""Can kdbench's verdicts be trusted? Measure whole verdicts, many of them, where the truth is known.

    python benchmarks/verdicts.py [--folder results/verdicts] [--lines NAME,...] [--minutes M]
    python benchmarks/verdicts.py --plan       what is still to be measured, and how long that takes
    python benchmarks/verdicts.py --table      the tables of what there is; nothing is measured
    python benchmarks/verdicts.py --table --markdown

Every trial is one command of kdbench in processes of its own, and leaves one file in the folder of its line.
What is there is not measured again: stop it with Ctrl-C, and start it again by the same command. The trials
of all lines take turns, so that stopping early leaves each line done in part. A trial that fails is repeated,
and leaves a note which the tables count. All of it takes about an hour and a quarter; nothing else may run
beside it.

Backends whose truth is known are distributions that wrap a real plugin, see `benchmarks/evidence/doubles.py`.
"""

from __future__ import annotations

import argparse
import signal
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

if not __package__:
    # Run as a file: the repository, which holds the package `benchmarks`, is then not on the path.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.evidence import lines, planning, reading
from benchmarks.evidence.lines import Line
from benchmarks.evidence.measuring import Folder, TrialFailed, measure
from benchmarks.evidence.planning import Progress

GIVEN_UP = 2
"""So often in a row may a line fail before it is left out for this time."""


def main() -> None:
    """Measure what is missing, then print the tables; 1 if a line was given up, 130 after Ctrl-C."""
    asked = _arguments()
    folder, wanted = Folder(asked.folder.resolve()), lines.chosen(asked.lines)
    if asked.plan:
        print(planning.told({line.name: _progress(folder, line) for line in wanted}))
        return
    failed = False
    if not asked.table:
        # A shell starts what runs in the background deaf to SIGINT, and kdbench would inherit that.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _interrupt)
        try:
            failed = _measure_all(folder, wanted, asked.minutes)
        except KeyboardInterrupt:
            _tell("Stopped. The same command goes on with what is missing; --table shows what there is.")
            raise SystemExit(130) from None
    _show(folder, wanted, markdown=asked.markdown)
    raise SystemExit(failed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("results/verdicts"), metavar="DIR")
    parser.add_argument("--lines", default="", metavar="NAME,...", help="lines whose names begin so")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no trial after so many")
    parser.add_argument("--plan", action="store_true", help="print what is still to be measured, and stop")
    parser.add_argument("--table", action="store_true", help="measure nothing, print the tables")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    return parser.parse_args()


def _measure_all(folder: Folder, wanted: Sequence[Line], limit_min: float) -> bool:
    """Measure trial after trial; tell whether a line had to be given up."""
    folder.prepare()
    begin = time.monotonic()
    states = {line.name: _progress(folder, line) for line in wanted}
    failures: dict[str, int] = {}
    while line := planning.following(one for one in states.values() if not _given_up(one, failures)):
        if time.monotonic() - begin >= 60 * limit_min:
            _tell(
                f"{limit_min:g} minutes are over; {planning.minutes(states.values()):.0f} more are planned."
            )
            break
        state = states[line.name]
        left = f"about {planning.minutes(states.values()):.0f} min left"
        _tell(f"{line.name}: trial {state.trials + 1} of {state.expected} ({left})")
        try:
            measure(folder, line)
        except TrialFailed as fault:
            failures[line.name] = failures.get(line.name, 0) + 1
            _tell(f"{line.name}: the trial failed, which is noted: {fault}")
            continue
        failures[line.name] = 0
        states[line.name] = _progress(folder, line)
    return any(_given_up(one, failures) for one in states.values())


def _progress(folder: Folder, line: Line) -> Progress:
    return planning.progress(reading.read(folder, line))


def _given_up(state: Progress, failures: dict[str, int]) -> bool:
    return failures.get(state.line.name, 0) >= GIVEN_UP


def _show(folder: Folder, wanted: Sequence[Line], *, markdown: bool) -> None:
    from benchmarks.evidence import report
    from benchmarks.evidence.tables import WIDTH

    records = {line.name: reading.read(folder, line) for line in wanted}
    print(textwrap.fill(report.machine(records), WIDTH), end="\n\n")
    for table in report.tables(records):
        print(table.markdown() if markdown else table.text(), end="\n\n")


def _tell(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
