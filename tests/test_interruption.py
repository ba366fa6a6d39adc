from __future__ import annotations

import signal

import pytest

from kdbench.interruption import SIGNALS, heard_once


@pytest.mark.parametrize("first", SIGNALS)
def test_only_the_first_signal_is_heard_and_the_handlers_come_back(first):
    before = [signal.getsignal(number) for number in SIGNALS]
    with heard_once():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(first)
        for number in SIGNALS:
            signal.raise_signal(number)
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_what_is_ignored_already_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with heard_once():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
