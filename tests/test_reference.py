"""The committed reference results: readable, and derived anew they say the same; the README shows one."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdbench import render, results
from kdbench.summary import summarise

HOME = Path(__file__).parent.parent
REFERENCES = sorted(HOME.glob("results/reference/*/*.json"))


@pytest.mark.parametrize("path", REFERENCES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_reference_result_says_what_its_raw_measurements_say(path: Path):
    kept = results.read(path)
    assert kept.run.status == "complete"
    assert summarise(kept) == kept


@pytest.mark.parametrize("name", ["quick", "mobilenet64"])
def test_the_pictures_of_the_readme_are_drawn_from_the_references(name: str, tmp_path: Path):
    drawn = tmp_path / "drawn.svg"
    render.export_svg(results.read(HOME / f"results/reference/cpu-2core/{name}.json"), drawn, 120)
    assert drawn.read_text() == (HOME / f"docs/{name}.svg").read_text()
