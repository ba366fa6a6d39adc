"""docs/hooks.md says all that a plugin's author is given: hooks, arguments, nouns, abilities, rules."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import types
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

import kdbench
from kdbench import hookspecs, nvidia, spec
from kdbench.backends import connect
from kdbench.testing import CHECKS, Finding, Settings

PAGE = (Path(__file__).parent.parent / "docs" / "hooks.md").read_text()
HOOKS = {
    name: function
    for name, function in vars(hookspecs).items()
    if hasattr(function, f"{hookspecs.PROJECT}_spec")
}
PUBLIC = {name: getattr(kdbench, name) for name in kdbench.__all__}
NOUNS = {name: noun for name, noun in PUBLIC.items() if dataclasses.is_dataclass(noun)}
PROTOCOLS = {
    name: noun
    for name, noun in vars(spec).items()
    if isinstance(noun, type) and getattr(noun, "_is_protocol", False) and noun.__module__ == spec.__name__
}
ELSEWHERE = {"Observation": "Observers"}
"""Nouns that have a section of their own."""

FOR_READERS = {"load_result", "to_dataframe"}
"""What kdbench offers to those who read results; docs/results.md has it."""


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def part(text: str, name: str) -> str:
    """Give what is said of a noun or hook: from its bold name to the next bold name of the section."""
    found = re.search(rf"^\*\*`{re.escape(name)}`\*\*(.*?)(?=^\*\*`|^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"docs/hooks.md has no **`{name}`**"
    return found[1]


def said_of(noun: str) -> str:
    """Give what the page says of a public dataclass."""
    return section(ELSEWHERE[noun]) if noun in ELSEWHERE else part(section("The nouns"), noun)


def code(text: str) -> set[str]:
    """List the words that a text sets as code."""
    return set(re.findall(r"`([^`\n]+)`", text))


def rows(text: str) -> list[list[str]]:
    table = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_the_table_has_every_hook_with_its_arguments_in_their_order():
    told = {
        code(row[0]).pop(): (re.findall(r"`(\w+)`", row[1]), code(row[2]))
        for row in rows(section("The five"))
    }
    assert set(told) == set(HOOKS)
    for name, function in HOOKS.items():
        arguments, answers = told[name]
        assert arguments == list(inspect.signature(function).parameters), name
        answer = get_type_hints(function, vars(spec) | {"Path": Path})["return"]
        kinds = get_args(answer) if isinstance(answer, types.UnionType) else (answer,)
        assert answers == {kind.__name__ for kind in kinds}, name


@pytest.mark.parametrize(
    ("hook", "argument"),
    [(name, argument) for name, hook in HOOKS.items() for argument in inspect.signature(hook).parameters],
)
def test_every_argument_is_explained_where_its_hook_is(hook: str, argument: str):
    assert argument in code(part(section("The five"), hook))


@pytest.mark.parametrize(
    ("noun", "field"),
    [(name, field.name) for name, noun in NOUNS.items() for field in dataclasses.fields(noun)],
)
def test_every_field_of_a_public_dataclass_is_explained(noun: str, field: str):
    assert field in code(said_of(noun))


@pytest.mark.parametrize("noun", [noun for noun in NOUNS if noun not in ELSEWHERE])
def test_no_field_is_explained_that_is_not_there(noun: str):
    told = [name for row in rows(said_of(noun)) for name in sorted(code(row[0]))]
    assert set(told) <= {field.name for field in dataclasses.fields(NOUNS[noun])}


@pytest.mark.parametrize(
    ("protocol", "method"),
    [
        (name, method)
        for name, noun in PROTOCOLS.items()
        for method in vars(noun)
        if not method.startswith("_") and method != "placement"
    ],
)
def test_every_method_of_a_session_or_runner_is_shown_with_its_arguments(protocol: str, method: str):
    function = getattr(PROTOCOLS[protocol], method)
    arguments = list(inspect.signature(function).parameters)[1:]
    assert f"`{method}({', '.join(arguments)})`" in PAGE


def test_every_public_name_of_kdbench_stands_on_the_page():
    words = set(re.findall(r"\w+", PAGE))
    assert set(PUBLIC) - FOR_READERS - {"Availability", "KdbenchError"} <= words


@pytest.mark.parametrize(
    "values", [spec.Precision, spec.Concurrency, spec.Boundary, spec.Scenario, spec.Role, spec.Task]
)
def test_every_value_that_a_word_may_have_is_named(values: Any):
    nouns = section("The nouns")
    assert [
        value for value in get_args(values) if f"`{value}`" not in nouns and f'"{value}"' not in nouns
    ] == []


@pytest.mark.parametrize(
    ("title", "noun"),
    [("NVIDIA devices", nvidia.Gpu), ("The contract kit", Settings), ("The contract kit", Finding)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_every_field_of_what_helps_a_plugin_is_named_in_its_section(title: str, noun: Any):
    fields = {field.name for field in dataclasses.fields(noun)}
    assert fields <= set(re.findall(r"\w+", section(title)))


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.splitlines()[0][:60])
def test_the_python_on_the_page_can_be_read(block: str):
    assert ast.parse(block).body


def test_the_example_at_the_top_is_a_whole_backend():
    names: dict[str, Any] = {}
    exec(blocks()[0], names)
    backend = connect("mine", types.SimpleNamespace(**names))
    assert backend.info.title == "Mine"
    assert isinstance(backend.probe(), spec.Available)


def test_the_number_of_the_api_on_the_page_is_this_one():
    assert set(re.findall(r"\bapi=(\d+)", PAGE)) == {str(spec.API)}


def test_the_places_that_a_finding_of_the_kit_points_to_are_there():
    anchors = {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    }
    assert {one.section for one in CHECKS} <= anchors
