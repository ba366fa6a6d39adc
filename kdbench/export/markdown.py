"""A report as Markdown for a pull request: the verdict first, only what matters, the rest folded away.

Text from files stands in code spans, or is escaped: it cannot end a table, become HTML or a link, or call
anybody's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from kdbench.comparison import Comparison, Report
from kdbench.figures import count, plain
from kdbench.findings import effect
from kdbench.findings.naming import Line, Setting, sections, threads
from kdbench.findings.outcome import conclusion, judged, overall, refused
from kdbench.findings.sentences import described, findings, side

MOST, ROOM = 200, 60_000
"""Rows of a table, and characters above which the folded one is left out: a comment may have 65,536."""

_MARKS = re.compile(r"([\\`*_{}\[\]#!|~$])")
_BEGINNING = re.compile(r"^(\d*)([-+=.)])")
_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_GAP = "&#8203;"
"""A space of no width, written so that it is seen in the source; it parts what would become a link."""

_HEAD = ("cell", "metric", "base", "new", "change", "95 %", "visible", "verdict")
_RULE = "|---|---|--:|--:|--:|--:|--:|---|"


def markdown(report: Report) -> str:
    """Give the report as GitHub's Markdown, ending in a newline."""
    whole = _written(report, folded=True)
    return whole if len(whole) <= ROOM else _written(report, folded=False)


def _written(report: Report, *, folded: bool) -> str:
    verdict, sentence = overall(report)
    mark = {"worse": "❌ ", "better": "✅ ", "same": "✅ "}.get(verdict, "⚠️ ")
    parts = [f"### {mark if not _across(report) else ''}{text(sentence)}"]
    for one in report.comparisons:
        if len(report.comparisons) > 1:
            parts.append(f"#### {code(described(one.new))}: {text(conclusion(one, report))}")
        parts += _comparison(one, report, folded=folded)
    return "\n\n".join(parts) + "\n"


def code(source: str) -> str:
    """Give a text as a code span, in which nothing is obeyed; fit for a table too, so without bars."""
    shown = plain(source).replace("|", "\N{BROKEN BAR}")
    if not shown:
        return ""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def text(source: str) -> str:
    """Give a text so that it reads as it is: no markup, no HTML, no link, nobody called."""
    shown = _BEGINNING.sub(r"\1\\\2", _MARKS.sub(r"\\\1", plain(source).translate(_HTML)))
    shown = shown.replace("@", f"@{_GAP}").replace("\\#", f"\\#{_GAP}").replace("//", f"/{_GAP}/")
    return re.sub(r"(?i)www\.", f"www{_GAP}.", shown)


def _across(report: Report) -> bool:
    return any(one.across for one in report.comparisons)


def _comparison(comparison: Comparison, report: Report, *, folded: bool) -> Iterator[str]:
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
    news = [
        (setting, line)
        for setting, line in lines
        if line.change.verdict != "same" and judged(line.change, report)
    ]
    if news:
        yield _table(news, comparison)
    sentences = list(_sentences(comparison, report))
    if sentences:
        yield "\n".join(sentences)
    if folded and len(lines) > len(news):
        yield _folded(lines, comparison)


def _sides(comparison: Comparison) -> str:
    base, new = comparison.base, comparison.new
    student = " and ".join(dict.fromkeys(code(one.student) for one in (base, new) if one.student))
    if comparison.across:
        return f"{student} across {text(comparison.across)} in {code(described(base))}"
    return f"{student}: {text(side(base))} {code(described(base))}, {text(side(new))} {code(described(new))}"


def _listed(title: str, items: Sequence[str]) -> str:
    return "\n".join([title, "", *(f"- {item}" for item in items)])


def _table(lines: Sequence[tuple[Setting, Line]], comparison: Comparison) -> str:
    head = list(_HEAD)
    if not comparison.across:
        head[2], head[3] = text(side(comparison.base)) or "base", text(side(comparison.new)) or "new"
    rows = [" | ".join(["", *head, ""]).strip(), _RULE]
    rows += [" | ".join(["", *_cells(setting, line), ""]).strip() for setting, line in lines[:MOST]]
    if len(lines) > MOST:
        rows.append(f"| {len(lines) - MOST} more |" + " |" * 7)
    return "\n".join(rows)


def _cells(setting: Setting, line: Line) -> list[str]:
    batch, asked, boundary = setting
    change = line.change
    unit, base, new = effect.values(change)
    where = [line.name, f"batch {batch}", threads(asked), f"boundary {boundary}" * (boundary != "host")]
    size = effect.size(change)
    strong = change.verdict in ("worse", "better")
    return [
        code(", ".join(part for part in where if part)),
        text(line.label),
        *(effect.with_unit(value, unit) if value else "" for value in (base, new)),
        f"**{size}**" if strong and size else size,
        effect.interval(change),
        effect.visible(change),
        f"**{change.verdict}**" if strong else change.verdict,
    ]


def _sentences(comparison: Comparison, report: Report) -> Iterator[str]:
    """Give what the table does not say, a command in a block of its own to copy."""
    for one in findings(comparison, report):
        if one.subject not in ("Worse", "Better"):
            yield f"- **{text(one.subject)}:** {text(one.text)}"
        if one.command:
            command = one.command.replace("`", "'")
            yield f"\n  ```sh\n  {command}\n  ```\n"
    for note in comparison.notes:
        yield f"- {text(note)}"


def _folded(lines: Sequence[tuple[Setting, Line]], comparison: Comparison) -> str:
    title = f"All {count(len(lines), 'figure')}"
    return f"<details><summary>{title}</summary>\n\n{_table(lines, comparison)}\n\n</details>"
