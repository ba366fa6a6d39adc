"""A report as Markdown for a pull request: the verdict first, only what matters, the rest folded away.

Text from files stands in code spans, or is escaped: it cannot end a table, become HTML or a link, or call
anybody's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from kdbench.comparison import VERDICTS, Change, Comparison, Report
from kdbench.figures import count, plain
from kdbench.findings import effect
from kdbench.findings.naming import Line, Names, Setting, described, sections, side, threads
from kdbench.findings.outcome import conclusion, judged, overall, refused
from kdbench.findings.sentences import findings
from kdbench.findings.standing import JUST, NOT_JUDGED, beyond, real, word

MOST, FEWER = 200, 20
"""Rows of a table, and of one where room is short."""

ROOM = 60_000
"""Characters that are filled: a comment may have 65,536."""

LONGEST_LIST = 40
"""Items of a list; the JSON has all."""

_MARKS = re.compile(r"([\\`*_{}\[\]#!|~$])")
_BEGINNING = re.compile(r"^(\d*)([-+=.)])")
_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_GAP = "&#8203;"
"""A space of no width, written so that it is seen in the source; it parts what would become a link."""

_LEFT, _RIGHT = "---", "--:"


def markdown(report: Report) -> str:
    """Give the report as GitHub's Markdown, ending in a newline, and never longer than a comment may be.

    What is the same is folded away, and left out where room is short; then go rows, then whole comparisons,
    the worst of which stay.
    """
    for rows, folded in ((MOST, True), (MOST, False), (FEWER, False)):
        blocks = _fitting(report, rows=rows, folded=folded)
        if len(blocks) == len(report.comparisons):
            break
    parts = [_title(report), *(blocks[number] for number in sorted(blocks))]
    if left := len(report.comparisons) - len(blocks):
        parts.append(
            f"{count(left, 'comparison')} more than a comment has room for; `--format json` has all."
        )
    return "\n\n".join(parts) + "\n"


def _fitting(report: Report, *, rows: int, folded: bool) -> dict[int, str]:
    """Write the comparisons that there is room for, by their numbers, the gravest first."""
    found = report.comparisons
    room, blocks = ROOM, {}
    for number in sorted(range(len(found)), key=lambda k: VERDICTS.index(found[k].verdict)):
        block = _block(found[number], report, rows=rows, folded=folded)
        if len(block) + 2 <= room:
            blocks[number] = block
            room -= len(block) + 2
        elif rows != FEWER:
            break
    return blocks


def _title(report: Report) -> str:
    verdict, sentence = overall(report)
    mark = {"worse": "❌ ", "better": "✅ ", "same": "✅ "}.get(verdict, "⚠️ ")
    return f"### {mark if not _across(report) else ''}{text(sentence)}"


def _block(comparison: Comparison, report: Report, *, rows: int, folded: bool) -> str:
    """Give one comparison, with a heading of its own where there are several."""
    parts = list(_comparison(comparison, report, rows=rows, folded=folded))
    if len(report.comparisons) > 1:
        heading = f"#### {code(described(comparison.new))}: {text(conclusion(comparison, report))}"
        parts.insert(0, heading)
    return "\n\n".join(parts)


def code(source: str) -> str:
    """Give a text as a code span, in which nothing is obeyed; fit for a table too, so without bars."""
    shown = plain(source).replace("|", "\N{BROKEN BAR}")
    if not shown:
        return ""
    fence = "`" * (1 + _longest_run(shown))
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def text(source: str) -> str:
    """Give a text so that it reads as it is: no markup, no HTML, no link, nobody called."""
    shown = _BEGINNING.sub(r"\1\\\2", _MARKS.sub(r"\\\1", plain(source).translate(_HTML)))
    shown = shown.replace("@", f"@{_GAP}").replace("\\#", f"\\#{_GAP}").replace("//", f"/{_GAP}/")
    return re.sub(r"(?i)www\.", f"www{_GAP}.", shown)


def _across(report: Report) -> bool:
    return any(one.across for one in report.comparisons)


def _comparison(comparison: Comparison, report: Report, *, rows: int, folded: bool) -> Iterator[str]:
    yield _sides(comparison)
    if comparison.mismatches:
        said = "Compared all the same:" if comparison.allowed else "Not comparable:"
        yield _listed(f"**{said}**", [text(why) for why in comparison.mismatches])
    if comparison.differences:
        facts = [
            f"{text(one.what)}: {code(one.base) or '-'} → {code(one.new) or '-'}"
            for one in comparison.differences
        ]
        yield _listed("**Different on the two sides**", facts)
    found = {} if refused(comparison) else sections(comparison)
    lines = [(setting, line) for setting, own in found.items() for line in own]
    news = [(setting, line) for setting, line in lines if _news(line.change, comparison, report)]
    if news:
        yield _table(news, comparison, report, rows)
    sentences = list(_sentences(comparison, report))
    if sentences:
        yield "\n".join(sentences)
    if folded and len(lines) > len(news):
        title = f"All {count(len(lines), 'figure')}"
        whole = _table(lines, comparison, report, rows)
        yield f"<details><summary>{title}</summary>\n\n{whole}\n\n</details>"


def _news(change: Change, comparison: Comparison, report: Report) -> bool:
    """Tell whether a change is not folded away: within one file, everything real is news."""
    still = change.verdict == "same" and not (comparison.across and real(change))
    return judged(change, report) and not still


def _sides(comparison: Comparison) -> str:
    base, new = comparison.base, comparison.new
    student = " and ".join(dict.fromkeys(code(one.student) for one in (base, new) if one.student))
    if comparison.across:
        return f"{student} across {text(comparison.across)} in {code(described(base))}"
    return f"{student}: {text(side(base))} {code(described(base))}, {text(side(new))} {code(described(new))}"


def _listed(title: str, items: Sequence[str]) -> str:
    told = [f"- {item}" for item in items[:LONGEST_LIST]]
    if len(items) > LONGEST_LIST:
        told.append(f"- {len(items) - LONGEST_LIST:,} more")
    return "\n".join([title, "", *told])


def _table(lines: Sequence[tuple[Setting, Line]], comparison: Comparison, report: Report, most: int) -> str:
    """Give a table of at most so many lines, and count the others."""
    sides = text(side(comparison.base)) or "base", text(side(comparison.new)) or "new"
    middle = ("leader", "leader's", "own") if comparison.across else sides
    head = ("cell", "metric", *middle, "change", "95 %", "visible", "verdict")
    words = {0, 1, len(head) - 1} | ({2} if comparison.across else set())
    rule = [_LEFT if number in words else _RIGHT for number in range(len(head))]
    names = Names.of(comparison)
    rows = [_row(head), f"|{'|'.join(rule)}|"]
    rows += [_row(_cells(setting, line, comparison, report, names)) for setting, line in lines[:most]]
    if len(lines) > most:
        rows.append(f"| {len(lines) - most:,} more |" + " |" * (len(head) - 1))
    return "\n".join(rows)


def _row(cells: Sequence[str]) -> str:
    return " | ".join(["", *cells, ""]).strip()


def _cells(setting: Setting, line: Line, comparison: Comparison, report: Report, names: Names) -> list[str]:
    batch, asked, boundary = setting
    change = line.change
    unit, base, new = effect.values(change)
    where = [line.name, f"batch {batch}", threads(asked), f"boundary {boundary}" * (boundary != "host")]
    counted = judged(change, report)
    size, said = effect.size(change), word(change, comparison, judged=counted)
    beside = "" if counted or said == NOT_JUDGED else f", {NOT_JUDGED}"
    strong = counted and beyond(change)
    leader = [code(names.configuration(line.row.base))] if comparison.across else []
    return [
        code(", ".join(part for part in where if part)),
        text(line.label),
        *leader,
        *(effect.with_unit(value, unit) if value else "" for value in (base, new)),
        f"**{size}**" if strong and size else size,
        effect.interval(change).translate(_HTML),
        effect.visible(change),
        f"**{said}**" if strong else f"{said}{beside}",
    ]


def _sentences(comparison: Comparison, report: Report) -> Iterator[str]:
    """Give what the table does not say, a command in a block of its own to copy."""
    for one in findings(comparison, report):
        if not one.tabled:
            yield f"- **{text(one.subject)}:** {text(one.text)}"
        if one.command:
            yield _command(one.command)
    if comparison.across and any(JUST in one for one in _words(comparison)):
        yield f"- {JUST.strip()}: a real difference, but not beyond the margin"
    for note in comparison.notes[:LONGEST_LIST]:
        yield f"- {text(note)}"


def _words(comparison: Comparison) -> Iterator[str]:
    for row in comparison.rows:
        yield from (word(change, comparison, judged=True) for change in row.changes)


def _command(command: str) -> str:
    """Give a command as a block to copy, byte for byte: no run of backticks in it is as long as the fence."""
    fence = "`" * max(3, 1 + _longest_run(command))
    return f"\n  {fence}sh\n  {command}\n  {fence}\n"


def _longest_run(source: str) -> int:
    return max((len(run) for run in re.findall("`+", source)), default=0)
