"""Measure what starting the command line costs, against `python -c "import click"` in the same moments.

    python benchmarks/startup.py [RESULT] [--rounds N]

Each round starts every command once, in turns, and takes the CPU time of the process from the kernel. The
ratio of a round is formed within it, so that a machine that changes its speed spoils few of them; printed is
the median over rounds. With RESULT, `kdbench show RESULT` is measured too, in seconds that passed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

HELP_LIMIT = 1.6
SHOW_LIMIT_S = 0.6


def spend(command: Sequence[str]) -> tuple[float, float]:
    """Run a command with its output thrown away; give its CPU time and the time that passed, in seconds."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    passed = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} exited with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, passed


def measure(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Run every command once a round, in turns; the first round only fills caches and is not kept."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            cost = spend(command)
            if turn:
                spent[name].append(cost)
    return spent


def main() -> None:
    """Print the ratios and the limits that they have to keep; exit 1 if one is exceeded."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("result", nargs="?", metavar="RESULT")
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    kdbench = [sys.executable, "-m", "kdbench"]
    commands: dict[str, list[str]] = {
        "import click": [sys.executable, "-c", "import click"],
        "--help": [*kdbench, "--help"],
    }
    if asked.result:
        commands["show"] = [*kdbench, "show", asked.result]
    spent = measure(commands, asked.rounds)
    ratios = [
        ours[0] / theirs[0] for ours, theirs in zip(spent["--help"], spent["import click"], strict=True)
    ]
    ratio = statistics.median(ratios)
    print(
        f"kdbench --help / import click, CPU time: {ratio:.2f} (limit {HELP_LIMIT}), {asked.rounds} rounds,"
    )
    print(f"  from {min(ratios):.2f} to {max(ratios):.2f}")
    passed_s = statistics.median(passed for _, passed in spent.get("show", [(0.0, 0.0)]))
    if asked.result:
        print(f"kdbench show: {passed_s:.2f} s (limit {SHOW_LIMIT_S})")
    raise SystemExit(ratio > HELP_LIMIT or passed_s > SHOW_LIMIT_S)


if __name__ == "__main__":
    main()
