"""How words of the command line become values, each with its unit, and what is said of those that do not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_args

import click

from kdbench.problems import nearest, parse, quote, sentence
from kdbench.sections import Phase

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # generic since click 8.4, and older ones do as well

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h)", re.ASCII)
_DROP = re.compile(r"(\d{1,3}(?:\.\d{1,9})?) ?pp", re.ASCII)
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,9})?) ?%", re.ASCII)
_OPTION = re.compile(r"([^.=\s]+)=(.*)", re.DOTALL)
_SETTING = re.compile(r"([^.=\s]+)\.([^=\s]+)=(.*)", re.DOTALL)
_LONGEST_S = 86_400.0


class Checked(ParamType):
    """A word that is read by the type which a profile has for the same value."""

    def __init__(self, kind: Any, name: str) -> None:
        self.kind = kind
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Give the value, or fail with a sentence that says what is allowed."""
        if not isinstance(value, str):
            return value
        try:
            return parse(value, self.kind)
        except ValueError as exc:
            return self.fail(sentence(str(exc)), param, ctx)


class Duration(ParamType):
    """A number with its unit, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Give seconds, above 0 and at most a day."""
        found = _DURATION.fullmatch(str(value))
        seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
        if not 0 < seconds <= _LONGEST_S:
            self.fail(f"{quote(value)} is no duration such as 30s, 2m or 1h (at most 24h).", param, ctx)
        return seconds


class AccuracyDrop(ParamType):
    """Percentage points, or `resolution` for none beyond what the test resolves."""

    name = "drop"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        """Give the number of points, or the word."""
        if value == "resolution":
            return "resolution"
        found = _DROP.fullmatch(str(value))
        if not found or float(found[1]) > 100:
            self.fail(f"{quote(value)} is no drop in percentage points such as 0.5pp.", param, ctx)
        return float(found[1])


class Timeout(ParamType):
    """A time limit of one phase, `compile=5m`, or of all of them, `30s`."""

    name = "timeout"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[Phase, float]:
        """Give the limit in seconds for each phase that it is meant for."""
        phases = get_args(Phase)
        phase, equals, duration = str(value).rpartition("=")
        if equals and phase not in phases:
            meant = nearest(phase, phases)
            offer = f"did you mean {meant}?" if meant else f"there are {', '.join(phases)}."
            self.fail(f"{quote(phase)} is no phase; {offer}", param, ctx)
        seconds = Duration().convert(duration, param, ctx)
        return dict.fromkeys([phase] if equals else phases, seconds)


class Setting(ParamType):
    """One option of one backend: `BACKEND.KEY=VALUE`; the backend's own declaration checks the value."""

    name = "setting"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str, str]:
        """Give backend, key and value as text."""
        found = _SETTING.fullmatch(str(value))
        if not found:
            self.fail(f"{quote(value)} is not BACKEND.KEY=VALUE, such as torch-cpu.mode=compile.", param, ctx)
        return found[1], found[2], found[3]


class Margin(ParamType):
    """A share as a percentage, `3%`."""

    name = "margin"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Give the share, from 0 to below 1."""
        found = _PERCENT.fullmatch(str(value))
        if not found or float(found[1]) >= 100:
            self.fail(f"{quote(value)} is no margin such as 3%, from 0% to below 100%.", param, ctx)
        return float(found[1]) / 100


class Option(ParamType):
    """An option of the backend that is meant anyway: `KEY=VALUE`."""

    name = "option"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Give key and value as text."""
        found = _OPTION.fullmatch(str(value))
        if not found:
            self.fail(f"{quote(value)} is not KEY=VALUE, such as num_streams=2.", param, ctx)
        return found[1], found[2]


class Several(ParamType):
    """Words separated by commas; use it with `multiple=True` and `callback=together`."""

    name = "list"

    def __init__(self, item: ParamType) -> None:
        self.item = item

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """Give every item as its own type has it; an empty one is refused."""
        if isinstance(value, tuple):
            return value
        words = [word.strip() for word in str(value).split(",")]
        if not all(words):
            self.fail(f"{quote(value)} has nothing before, after or between commas.", param, ctx)
        return tuple(self.item.convert(word, param, ctx) for word in words)


def together(
    ctx: click.Context, param: click.Parameter, given: tuple[tuple[Any, ...], ...]
) -> tuple[Any, ...]:
    """Put the lists of a repeated option together, each item once, in the order given."""
    return tuple(dict.fromkeys(item for items in given for item in items))
