"""What differs around two runs is shown so that the difference can be seen, however long the texts are."""

from __future__ import annotations

import pytest

from kdbench.compare.conditions import differences
from tests import synthetic

LONG = [f"feature-{number}" for number in range(60)]


def told(base: object, new: object, fact: str = "features"):
    """Give how a fact of the CPU is shown that has these two values."""
    pair = [synthetic.result([], environment={"cpu": {fact: value}}) for value in (base, new)]
    return [(one.base, one.new) for one in differences(*pair, ())]


def test_short_values_are_shown_whole():
    assert told(["a", "b"], ["a"]) == [("a, b", "a")]
    assert told(None, True, "smt") == [("unknown", "yes")]


@pytest.mark.parametrize("at", [0, 5, 30, 59])
def test_long_values_are_shown_where_they_differ(at):
    other = [*LONG[:at], "other", *LONG[at + 1 :]]
    ((base, new),) = told(LONG, other)
    assert max(len(base), len(new)) <= 100
    assert LONG[at] in base
    assert "other" in new


def test_one_that_goes_on_where_the_other_ends_is_shown_so():
    ((base, new),) = told(LONG, LONG[:40])
    assert "feature-39, feature-40" in base
    assert new.endswith("feature-39")


def test_what_differs_in_what_is_not_shown_is_told_all_the_same():
    ((base, new),) = told([["a"]], [["b"]])
    assert base != new


def test_two_ways_of_not_knowing_are_no_difference():
    assert told(None, "", "model") == []
