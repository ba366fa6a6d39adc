"""The pages on files leave no field out: of a result, and of a comparison."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import msgspec
import pytest

from kdbench import comparison, raw, records
from kdbench.metric import METRICS
from kdbench.records import MAJOR, MINOR
from kdbench.spec import Cell

DOCS = Path(__file__).parent.parent / "docs"


def structs(*modules) -> list[type]:
    found = {
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__struct_fields__
    }
    return sorted(found, key=lambda kind: kind.__name__)


def section(page: str, name: str) -> str:
    """The part of a page below the heading that names a struct, to the next heading."""
    text = (DOCS / page).read_text()
    found = re.search(rf"^#+ [^\n]*`{name}`[^\n]*\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"docs/{page} has no heading for {name}"
    return found[1]


def missing(page: str, name: str, fields) -> set[str]:
    named = set(re.findall(r"`(\w+)`", section(page, name)))
    return set(fields) - named


@pytest.mark.parametrize("kind", structs(records, raw), ids=lambda kind: kind.__name__)
def test_every_field_of_a_result_is_on_its_page(kind):
    assert not missing("results.md", kind.__name__, kind.__struct_fields__)


def test_every_field_of_a_cell_is_on_the_page():
    assert not missing("results.md", "Cell", [field.name for field in dataclasses.fields(Cell)])


@pytest.mark.parametrize("kind", structs(comparison), ids=lambda kind: kind.__name__)
def test_every_field_of_a_comparison_is_on_its_page(kind):
    assert not missing("comparing.md", kind.__name__, kind.__struct_fields__)


@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
def test_every_metric_is_on_the_page_with_its_margin_and_whether_it_has_a_floor(metric):
    found = re.search(
        rf"^\| `{metric.name}` \| (.*) \| (.*) \| (.*)\|$", (DOCS / "comparing.md").read_text(), re.MULTILINE
    )
    assert found, f"docs/comparing.md has no line for {metric.name}"
    margins = {
        "ratio": f"{100 * metric.margin:g} %",
        "points": f"{metric.margin:g} points",
        "count": "1 image",
    }
    assert found[2].startswith(margins[metric.scale])
    assert bool(found[3].strip()) == bool(metric.floor)
    assert ("only where it is asked for" in found[1]) == (not metric.judged)


def test_the_page_has_a_line_for_the_version_that_is_written():
    text = (DOCS / "results.md").read_text()
    assert f"| {MAJOR}.{MINOR} |" in text
    assert f'"major": {MAJOR}, "minor": {MINOR}' in text
