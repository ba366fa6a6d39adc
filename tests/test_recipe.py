"""Recipes: read strictly, told all at once, based on one another."""

from __future__ import annotations

import math
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from kdbench.distill.recipe import embedded_recipes, parse_recipe, read_recipe, recipe_path
from kdbench.errors import RecipeError
from kdbench.problems import TOML_LIMIT_BYTES


@pytest.fixture
def table() -> dict[str, Any]:
    return tomllib.loads(recipe_path("digits-2x5").read_text())


@pytest.mark.parametrize("name", embedded_recipes())
def test_every_recipe_that_ships_can_be_read_and_has_its_files_name(name: str) -> None:
    assert read_recipe(name).name == name


def test_all_that_is_wrong_in_a_recipe_is_told_at_once(table: dict[str, Any]) -> None:
    table["sead"] = table.pop("seed")
    table["pretrain"]["step"] = table["pretrain"].pop("steps")
    table["distill"]["label_weight"] = "much"
    table["distill"]["terms"][0]["wait"] = 1.0
    table["data"]["shift"]["rotation_degrees"] = math.nan
    table["data"]["test"] = 1.5
    with pytest.raises(RecipeError) as caught:
        parse_recipe(table, "mine.toml")
    for problem in (
        "sead: unknown key; did you mean seed?",
        "seed: missing",
        "pretrain.step: unknown key; did you mean steps?",
        "pretrain.steps: missing",
        "distill.label_weight: Expected `float`, got `str`",
        "distill.terms[0].wait: unknown key; did you mean weight?",
        "data.shift.rotation_degrees: not a finite number",
        "data.test: Expected `float` < 1",
    ):
        assert f"\n  {problem}" in caught.value.message


def test_contradictions_in_a_recipe_are_told_at_once(table: dict[str, Any]) -> None:
    table["data"]["calibration"] = 501
    table["data"]["shift"]["contrast"] = [0.9, 0.5]
    table["distill"]["terms"][0]["weight"] = 0.0
    table |= {"seed": (1 << 32) - 1, "seeds": 2}
    with pytest.raises(RecipeError) as caught:
        parse_recipe(table, "mine.toml")
    for problem in ("data.calibration", "data.shift.contrast", "distill.terms", "seeds"):
        assert f"\n  {problem}" in caught.value.message


@pytest.mark.parametrize(
    "text", ["= 1", "seed = 'zero", "\x00", "seed = " + "[" * 5000, "seed = " + "9" * 5000]
)
def test_a_recipe_that_is_no_toml_is_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=r"mine\.toml"):
        read_recipe(path, {"seed": 3, "data.labelled": 5})


def test_a_recipe_that_is_no_file_or_endless_is_refused_unread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "big.toml").write_text("#" * (TOML_LIMIT_BYTES + 1))
    for path, told in (
        ("pipe.toml", "is not a file"),
        ("big.toml", "is larger than"),
        ("/dev/zero", "not a"),
    ):
        with pytest.raises(RecipeError, match=told):
            read_recipe(tmp_path / path)


def test_a_recipe_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(RecipeError, match=r"Embedded recipes: .*digits-2x5"):
        read_recipe("digits-2x6")


def test_changes_replace_what_the_recipe_says() -> None:
    recipe = read_recipe(changes={"seed": 7, "data.labelled": 60, "threads": 2, "seeds": None})
    assert (recipe.seed, recipe.data.labelled, recipe.threads, recipe.seeds) == (7, 60, 2, 1)
    with pytest.raises(RecipeError, match="seed"):
        read_recipe(changes={"seed": -1})
    with pytest.raises(RecipeError, match="nonsense: unknown key"):
        read_recipe(changes={"nonsense.deep": 1})
    with pytest.raises(RecipeError, match="seed"):
        read_recipe(changes={"seed.deeper": 1})


def test_a_recipe_keeps_of_its_base_what_it_does_not_say(tmp_path: Path) -> None:
    (tmp_path / "below.toml").write_text('base = "digits-2x5"\nname = "below"\n[pretrain]\nsteps = 7\n')
    (tmp_path / "mine.toml").write_text('base = "below.toml"\nname = "mine"\n[data.shift]\nnoise = 0.5\n')
    mine, shipped = read_recipe(tmp_path / "mine.toml"), read_recipe()
    assert (mine.name, mine.pretrain.steps, mine.pretrain.batch) == ("mine", 7, shipped.pretrain.batch)
    assert mine.data.shift is not None
    assert shipped.data.shift is not None
    assert (mine.data.shift.noise, mine.data.shift.texture) == (0.5, shipped.data.shift.texture)


def test_another_network_or_source_starts_its_keywords_anew(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'base = "digits-2x5"\nname = "mine"\n[student]\nnetwork = "resnet8"\n[data]\nsource = "npz"\n'
    )
    mine = read_recipe(tmp_path / "mine.toml")
    assert mine.student.arguments == {}
    assert mine.student.features == ()
    assert mine.data.arguments == {}
    assert mine.data.shift is None
    by_option = read_recipe(changes={"data.source": "npz", "data.arguments": {"familiar": "x"}})
    assert by_option.data.shift is None
    assert by_option.data.arguments == {"familiar": "x"}


def test_a_recipe_that_is_based_on_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('base = "mine.toml"\n')
    with pytest.raises(RecipeError, match="based on itself"):
        read_recipe(tmp_path / "mine.toml")
