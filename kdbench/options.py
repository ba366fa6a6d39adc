"""What a backend declares of its options, and the values that a user may give them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

from kdbench.discovery import nearest
from kdbench.errors import UsageError
from kdbench.spec import BackendInfo, Option, Scalar

_TYPES: Mapping[str, tuple[type[Scalar], str]] = {
    "bool": (bool, "true or false"),
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "str": (str, "a text"),
}
_SWITCH = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_RESERVED = frozenset({"shapes"})


def check_options(info: BackendInfo, given: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Give every option of a backend its value, in the declared order: the one given, else the default.

    A text is read as the option's type, so that a value may come from the command line as well as
    from a file. Raises UsageError for an unknown option, a wrong type, or a value not allowed.
    """
    declared = {option.name: option for option in info.options}
    for name in given:
        if name not in declared:
            raise UsageError(f"{info.title} has no option {name!r}.", hint=_offer(name, declared))
    return {
        name: _value(info.title, option, given[name]) if name in given else option.default
        for name, option in declared.items()
    }


def option_faults(options: tuple[Option, ...]) -> Iterator[str]:
    """Say what is wrong with the options that a plugin declares; nothing if they are sound."""
    names = [option.name for option in options]
    for option in options:
        label = f"option {option.name!r}"
        if not _NAME.fullmatch(option.name) or option.name in _RESERVED:
            yield f"{label} is no name for an option: lower case letters, digits, '-', '_', and not 'shapes'"
        if names.count(option.name) > 1:
            yield f"{label} is declared {names.count(option.name)} times"
        if option.type in ("bool", "str") and (option.low is not None or option.high is not None):
            yield f"{label} has limits, which a {option.type} cannot have"
        for value in (option.default, *option.choices):
            if fault := _fault(option, value):
                yield f"{label} cannot be {value!r}: {fault}"


def _offer(name: str, declared: Mapping[str, Option]) -> str:
    meant = nearest(name, declared)
    question = f"Did you mean '{meant}'? " if meant else ""
    return f"{question}It has: {', '.join(declared) or 'none'}."


def _value(title: str, option: Option, given: Scalar) -> Scalar:
    value = _read(option, given)
    if fault := _fault(option, value):
        raise UsageError(f"{title}: {option.name} cannot be {given!r}: {fault}.", hint=option.help)
    return value


def _read(option: Option, given: Scalar) -> Scalar:
    """Read a text as the option's type; what cannot be read stays, for `_fault` to name."""
    if option.type == "float" and type(given) is int:
        return float(given)
    if option.type == "str" or not isinstance(given, str):
        return given
    if option.type == "bool":
        return _SWITCH.get(given.strip().casefold(), given)
    try:
        return int(given) if option.type == "int" else float(given)
    except ValueError:
        return given


def _fault(option: Option, value: Scalar) -> str:
    # A bool is an int to Python, and 1 is not an answer to "on or off".
    kind, words = _TYPES[option.type]
    if type(value) is not kind:
        return f"{words} is expected"
    if option.choices and value not in option.choices:
        return f"it takes {', '.join(map(str, option.choices))}"
    if isinstance(value, str):
        return ""
    if not math.isfinite(value):
        return "a finite number is expected"
    if option.low is not None and value < option.low:
        return f"at least {option.low:g} is expected"
    if option.high is not None and value > option.high:
        return f"at most {option.high:g} is expected"
    return ""
