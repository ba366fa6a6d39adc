from __future__ import annotations

import pytest

from kdbench.errors import UsageError
from kdbench.options import check_options
from kdbench.spec import BackendInfo, Option

INFO = BackendInfo(
    api=1,
    title="Fast",
    devices=("cpu",),
    precisions=("fp32",),
    options=(
        Option(name="mode", type="str", default="eager", help="How.", choices=("eager", "compile")),
        Option(name="streams", type="int", default=1, help="How many.", low=1, high=8),
        Option(name="ratio", type="float", default=0.5, help="How much.", low=0),
        Option(name="pinned", type="bool", default=False, help="Whether."),
    ),
)


def test_options_are_read_as_their_type_and_completed_with_defaults():
    given = {"streams": "4", "ratio": "2", "pinned": "on"}
    assert check_options(INFO, given) == {"mode": "eager", "streams": 4, "ratio": 2.0, "pinned": True}
    assert check_options(INFO, {"ratio": 1}) == check_options(INFO, {"ratio": 1.0})
    assert check_options(INFO, {}) == {"mode": "eager", "streams": 1, "ratio": 0.5, "pinned": False}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"stream": 1}, "Fast has no option 'stream'. Did you mean 'streams'? It has: mode, streams"),
        ({"mode": "magic"}, "Fast: mode cannot be 'magic': it takes eager, compile. How."),
        ({"streams": "many"}, "Fast: streams cannot be 'many': a whole number is expected. How many."),
        ({"streams": "0"}, "Fast: streams cannot be '0': at least 1 is expected."),
        ({"streams": 9}, "Fast: streams cannot be 9: at most 8 is expected."),
        ({"streams": True}, "Fast: streams cannot be True: a whole number is expected."),
        ({"streams": 1.5}, "Fast: streams cannot be 1.5: a whole number is expected."),
        ({"ratio": "nan"}, "Fast: ratio cannot be 'nan': a finite number is expected."),
        ({"pinned": "maybe"}, "Fast: pinned cannot be 'maybe': true or false is expected."),
        ({"pinned": 1}, "Fast: pinned cannot be 1: true or false is expected."),
    ],
)
def test_an_option_that_is_not_allowed_is_refused_in_one_sentence(given, sentence):
    with pytest.raises(UsageError) as caught:
        check_options(INFO, given)
    assert str(caught.value).startswith(sentence)
