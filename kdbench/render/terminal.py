"""The console, and the one live line that a run shows on it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kdbench.progress import Progress, Report
from kdbench.render.figures import duration, plain

BAR = 24


class Terminal(Console):
    """A console that lets its caller know when the reader of its stream went away."""

    def on_broken_pipe(self) -> None:
        """Pass the fault on, where rich would end the process."""
        raise BrokenPipeError


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Open the console on standard output or error; colours only on a terminal and without NO_COLOR.

    A stream that cannot encode a character gets a question mark instead of an exception.
    """
    stream = sys.stderr if stderr else sys.stdout
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="replace")
    return Terminal(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)


@contextmanager
def progress(console: Console) -> Iterator[Report]:
    """Give what a run reports its progress to: a line that is redrawn at each report and vanishes at the end.

    No thread draws, so nothing runs beside a timed stretch. What is printed to standard error meanwhile
    stands above the line. Without a terminal nothing is shown.
    """
    if not console.is_terminal:
        yield lambda _: None
        return
    with Live(
        console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=True
    ) as live:
        yield lambda now: live.update(_line(now), refresh=True)


def _line(now: Progress) -> Table:
    share = min(1.0, max(0.0, now.done))
    left = "" if now.left_s is None else f"{duration(now.left_s)} left"
    line = Table.grid(padding=(0, 1))
    line.add_column(width=BAR)
    line.add_column(justify="right", min_width=4, no_wrap=True)
    line.add_column(no_wrap=True)
    line.add_column(no_wrap=True, overflow="ellipsis")
    line.add_row(
        ProgressBar(total=1.0, completed=share, width=BAR),
        Text(f"{share:.0%}"),
        Text(left, style="dim"),
        Text(plain(f"{now.stage}  {now.detail}")),
    )
    return line
