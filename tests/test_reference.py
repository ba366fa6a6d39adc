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


def test_the_picture_of_the_readme_is_drawn_from_the_reference(tmp_path: Path):
    drawn = tmp_path / "quick.svg"
    render.export_svg(results.read(HOME / "results/reference/cpu-2core/quick.json"), drawn, 120)
    assert drawn.read_text() == (HOME / "docs/quick.svg").read_text()
