"""What the pages say can be typed: recipes that can be read, commands whose options exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from kdbench import cli
from kdbench.distill.recipe import read_recipe
from kdbench.distill.splits import make_splits

HOME = Path(__file__).parent.parent
PAGES = [HOME / "README.md", *sorted((HOME / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", blocks(HOME / "docs" / "distilling.md", "toml"))
def test_a_recipe_on_the_page_can_be_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "page.toml").write_text(text)
    assert read_recipe(tmp_path / "page.toml").name


def test_the_data_source_on_the_page_offers_what_can_be_divided() -> None:
    (text,) = blocks(HOME / "docs" / "distilling.md", "python")
    names: dict[str, Any] = {}
    exec(text, names)
    plan = read_recipe(changes={"data.source": "folder", "data.source_train": 200, "data.size": 32}).data
    plan = msgspec.structs.replace(plan, test=100, unlabelled=80, calibration=16, labelled=20)
    splits = make_splits(names["stripes"](base=HOME), plan, 0)
    assert splits.classes == ("upright", "level")
    assert len(splits.unlabelled) == 80


def lines(page: Path) -> list[str]:
    shown = "".join(blocks(page, "sh")).splitlines()
    return [line.split("#")[0].strip() for line in shown if line.startswith("kdbench ")]


@pytest.mark.parametrize("line", [line for page in PAGES for line in lines(page)], ids=lambda line: line[:60])
def test_a_command_on_a_page_has_the_options_that_it_is_given(line: str) -> None:
    _, name, *words = shlex.split(line)
    command = cli.main.get_command(click.Context(cli.main), name)
    assert command is not None, name
    known = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
    asked = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert asked <= known
