"""The columns of one section: what stands in them, in which unit, and how dear they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from kdbench.checks import DISPATCH_NS
from kdbench.records import AccuracyRecord, CellRecord, Percentile, Summary
from kdbench.render.figures import aligned, plain, significant, time_unit
from kdbench.render.rows import FASTEST, NOT_RANKED, TIED, Row, Section, prefix
from kdbench.spec import Scenario

DISPATCH = "†"
WITHHELD = "withheld"
DEVICE_TIME = "device time"
START = "start"
STYLES = {FASTEST: "bold green", TIED: "bold cyan"}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of one section. `texts` and `styles` have one entry per row.

    rank: which columns go first where room is short, the highest; 0 never goes.
    """

    name: str
    unit: str
    texts: tuple[str, ...]
    styles: tuple[str, ...]
    rank: int
    left: bool = False

    @property
    def width(self) -> int:
        """Cells that it takes on the screen."""
        return max(map(len, (*self.header.split("\n"), *self.texts)))

    @property
    def longest_word(self) -> int:
        """The least that it can be folded to."""
        return max(len(word) for text in (self.header, *self.texts) for word in text.split() or [""])

    @property
    def header(self) -> str:
        """Its name over its unit; a name without one stands in the second line."""
        return f"{self.name}\n{self.unit}" if self.unit else f"\n{self.name}"

    @property
    def empty(self) -> bool:
        """Whether no row has a value."""
        return not any(text.strip() for text in self.texts)


def columns(section: Section) -> tuple[Column, ...]:
    """Make every column that a section could have, most of them from one figure of each row."""
    rows = section.rows
    own = [_words("backend", [_backend(row) for row in rows], 0)]
    own.append(_words("device", [plain(row.cell.device) for row in rows], 20))
    own.append(_words("precision", [row.cell.precision for row in rows], 0))
    own += _latencies(section)
    own.append(_device_time(section))
    own.append(_throughput(section))
    own += [
        _accuracy(rows),
        _counts("flips", [row.accuracy.flips if row.accuracy else None for row in rows], 15),
    ]
    own += _first_outputs(rows)
    own.append(_memory(rows))
    status = [row.status for row in rows]
    styles = tuple("" if text == "measured" else "red" for text in status)
    boring = all(text == "measured" for text in status)
    own.append(replace(_words("status", status, 30 if boring else 8), styles=styles))
    return tuple(own)


def _backend(row: Row) -> str:
    return plain(
        f"{prefix(row.cell)}{' '.join(part for part in (row.cell.backend, row.cell.variant) if part)}"
    )


def _words(name: str, texts: Sequence[str], rank: int) -> Column:
    return Column(name, "", tuple(texts), ("",) * len(texts), rank, left=True)


def _counts(name: str, numbers: Sequence[int | None], rank: int) -> Column:
    texts = tuple("" if number is None else f"{number:,}" for number in numbers)
    return Column(name, "", texts, ("",) * len(texts), rank)


def _figures(name: str, unit: str, texts: Sequence[str], rank: int, marks: Sequence[str] = ()) -> Column:
    """Align numbers at their points, put the marks before them, and colour what is marked."""
    marks = marks or [""] * len(texts)
    marked = tuple(
        f"{mark} {text}" if mark else text for mark, text in zip(marks, aligned(texts), strict=True)
    )
    return Column(name, unit, marked, tuple(STYLES.get(mark, "") for mark in marks), rank)


def _each(rows: Sequence[Row], scenario: Scenario, figure: Callable[[CellRecord], str]) -> list[str]:
    """Write one figure of each row's cell of a scenario; its status where it has none."""
    texts = []
    for row in rows:
        record = row.cells[scenario][1] if scenario in row.cells else None
        texts.append(figure(record) if record is not None and record.summary is not None else "")
    return texts


def _marks(section: Section, scenario: Scenario) -> list[str]:
    return [
        section.mark(row.cells[scenario][0], scenario) if scenario in row.cells else ""
        for row in section.rows
    ]


def _latencies(section: Section) -> list[Column]:
    """Make the columns of latency, all in one unit: the median, and each percentile that some row has."""
    summaries = [one.summary for row in section.rows for one in row.records if one.summary]
    unit, size = time_unit([one.median_ns for one in summaries if one.median_ns])

    def median(record: CellRecord) -> str:
        summary = record.summary or Summary()
        return significant(summary.median_ns / size, _doubt(summary)) if summary.median_ns else ""

    medians = _each(section.rows, "latency", median)
    own = [_figures("median", unit, medians, 0, _marks(section, "latency"))]
    bound = [DISPATCH if _dispatch_bound(row) else "" for row in section.rows]
    if any(bound):
        own = [replace(own[0], texts=tuple(map(_followed, own[0].texts, bound)))]
    for p, rank in ((90.0, 0), (95.0, 55), (99.0, 25), (99.9, 60)):
        texts = _each(section.rows, "latency", partial(_percentile, p=p, size=size))
        if p == 90 or any(text not in ("", WITHHELD) for text in texts):
            own.append(_figures(f"p{p:g}", unit, texts, rank))
    return own


def _followed(text: str, sign: str) -> str:
    """Put a sign, or a blank in its place, right behind a number that may be padded."""
    number = text.rstrip()
    return f"{number}{sign or ' '}{' ' * (len(text) - len(number))}"


def _doubt(summary: Summary) -> float:
    """Take the half spread within slices as the relative uncertainty of a latency."""
    return ((summary.spread or 1.0) - 1) / 2


def _dispatch_bound(row: Row) -> bool:
    found = row.cells.get("latency")
    summary = found[1].summary if found else None
    return bool(summary and summary.median_ns and summary.median_ns < DISPATCH_NS)


def _percentile(record: CellRecord, p: float, size: float) -> str:
    summary = record.summary or Summary()
    found = next((one for one in summary.percentiles if one.p == p), Percentile(p=p))
    if found.value_ns is not None:
        return significant(found.value_ns / size, _doubt(summary))
    return WITHHELD if summary.median_ns else ""


def _device_time(section: Section) -> Column:
    """Write what the device's own clock tells of a call, in the unit of the latencies beside it."""
    summaries = [one.summary for row in section.rows for one in row.records if one.summary]
    unit, size = time_unit([one.median_ns for one in summaries if one.median_ns])

    def time(record: CellRecord) -> str:
        told = record.summary.device_ns if record.summary else None
        return significant(told / size, 0.01) if told else ""

    return _figures(DEVICE_TIME, unit, _each(section.rows, "latency", time), 22)


def _throughput(section: Section) -> Column:
    def rate(record: CellRecord) -> str:
        summary = record.summary or Summary()
        low, high = summary.throughput_low_per_s, summary.throughput_high_per_s
        doubt = (high / low - 1) / 2 if low and high else 0.01
        return significant(summary.throughput_per_s, doubt) if summary.throughput_per_s else ""

    texts = _each(section.rows, "throughput", rate)
    return _figures("images", "per s", texts, 0, _marks(section, "throughput"))


def _accuracy(rows: Sequence[Row]) -> Column:
    """Write accuracies with the decimals that one image more or less would change, or why there is none."""
    texts = tuple(_right(row.accuracy) if row.accuracy else "" for row in rows)
    styles = tuple("red" if row.status == NOT_RANKED else "" for row in rows)
    return Column("accuracy", "%" if any(text[-1:].isdigit() for text in texts) else "", texts, styles, 5)


def _right(accuracy: AccuracyRecord) -> str:
    if accuracy.reason or accuracy.correct is None or not accuracy.images:
        return plain(accuracy.reason)
    return f"{100 * accuracy.correct / accuracy.images:.{1 if accuracy.images < 2000 else 2}f}"


def _first_outputs(rows: Sequence[Row]) -> list[Column]:
    """Make the columns of the time to the first output, cold and warm, in one unit."""
    found = [next((one.first_output for one in row.records if one.first_output), None) for row in rows]
    times = {
        "cold": [one.cold_ns if one else None for one in found],
        "warm": [one.warm_ns if one else None for one in found],
    }
    unit, size = time_unit([value for values in times.values() for value in values if value])
    return [
        _figures(
            f"{kind} {START}",
            unit,
            ["" if value is None else significant(value / size, 0.02) for value in values],
            rank,
        )
        for (kind, values), rank in zip(times.items(), (40, 41), strict=True)
    ]


def _memory(rows: Sequence[Row]) -> Column:
    texts = []
    for row in rows:
        found = next((one.memory for one in row.records if one.memory and one.memory.peak_bytes), None)
        own = found.peak_bytes - (found.base_bytes or 0) if found and found.peak_bytes else None
        texts.append("" if own is None else f"{own / 1e6:,.0f}")
    return _figures("memory", "MB", texts, 50)
