"""The methods by name: what each is, what can be set, and what is dead with two classes and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from kdbench.errors import RecipeError
from kdbench.problems import nearest, quote
from kdbench.spec import Scalar


@dataclass(frozen=True, slots=True)
class Setting:
    """What can be set of a method; its type is that of `default`, and a number lies within the limits."""

    name: str
    default: float | int | bool
    help: str
    low: float = 0.0
    high: float = 1000.0

    def value(self, given: Mapping[str, Any]) -> Scalar:
        """Give what is asked for, as the type of the default; the default where nothing is."""
        return type(self.default)(given.get(self.name, self.default))

    def fault(self, value: object) -> str:
        """Say in words what is expected instead of `value`; nothing if it fits."""
        kind = type(self.default)
        if kind is bool:
            return "" if isinstance(value, bool) else "true or false"
        # A bool is an int to Python; a whole number is as good as any where any number is.
        allowed = (int, float) if kind is float else (int,)
        if isinstance(value, allowed) and not isinstance(value, bool) and self.low <= value <= self.high:
            return ""
        noun = "a number" if kind is float else "a whole number"
        return f"{noun} from {self.low:g} to {self.high:g}"


@dataclass(frozen=True, slots=True)
class Dead:
    """A setting that, unless it is 0 or false, asks for what has no gradient with two classes."""

    setting: str
    reason: str
    mend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A distillation loss.

    weight: of the whole term in the literature, for the formula as it is written here.
    needs_features, takes_features: whether it must, and can, compare features of named modules.
    factors: those settings that weigh its parts, of which one must not be 0.
    """

    name: str
    title: str
    source: str
    weight: float = 1.0
    needs_features: bool = False
    takes_features: bool = False
    settings: tuple[Setting, ...] = ()
    factors: tuple[str, ...] = ()
    dead: tuple[Dead, ...] = ()

    @property
    def defaults(self) -> Mapping[str, float | int | bool]:
        """Every setting's value where a recipe gives none."""
        return {setting.name: setting.default for setting in self.settings}


def _temperature(default: float) -> Setting:
    return Setting("temperature", default, "Divides the logits; higher shows more of the unlikely.", low=0.01)


_METHODS = (
    Method(
        name="kd",
        title="the teacher's softened probabilities",
        source="Hinton, Vinyals, Dean 2015, arXiv 1503.02531",
        settings=(
            _temperature(4.0),
            Setting(
                "standardise",
                False,
                "Standardise each image's logits first (Sun and others 2024, arXiv 2403.01427, "
                "who take temperature 2 and weight 9).",
            ),
        ),
        dead=(
            Dead(
                "standardise",
                "two logits less their mean, divided by their deviation, are always +1 and -1",
                "Leave standardise = false.",
            ),
        ),
    ),
    Method(
        name="hard",
        title="the teacher's verdict as the label",
        source="Touvron and others 2020, arXiv 2012.12877",
    ),
    Method(
        name="hint",
        title="features, through a learned projection",
        source="Romero and others 2014, arXiv 1412.6550",
        weight=100.0,
        needs_features=True,
        takes_features=True,
    ),
    Method(
        name="attention",
        title="maps of where the activations are",
        source="Zagoruyko, Komodakis 2017, arXiv 1612.03928",
        weight=1000.0,
        needs_features=True,
        takes_features=True,
    ),
    Method(
        name="relational",
        title="distances and angles between the images of a batch",
        source="Park, Kim, Lu, Cho 2019, arXiv 1904.05068",
        takes_features=True,
        settings=(
            Setting("distance", 25.0, "Weight of the distances of pairs."),
            Setting("angle", 50.0, "Weight of the angles of triples."),
        ),
        factors=("distance", "angle"),
    ),
    Method(
        name="dist",
        title="correlation with the teacher's probabilities",
        source="Huang, You, Wang, Qian, Xu 2022, arXiv 2205.10536",
        settings=(
            _temperature(4.0),
            Setting("beta", 1.0, "Weight of the correlation over classes, for each image."),
            Setting("gamma", 1.0, "Weight of the correlation over the batch, for each class."),
        ),
        factors=("beta", "gamma"),
        dead=(
            Dead(
                "beta",
                "the correlation of two probabilities with two others is always +1 or -1",
                "Give beta = 0: what gamma weighs, the correlation over the batch, works with two classes.",
            ),
        ),
    ),
    Method(
        name="dkd",
        title="the likeliest class and the others, weighed apart",
        source="Zhao, Cui, Song, Qiu, Liang 2022, arXiv 2203.08679",
        settings=(
            _temperature(4.0),
            Setting("alpha", 1.0, "Weight of the likeliest class against the rest."),
            Setting("beta", 8.0, "Weight of the other classes among themselves."),
        ),
        factors=("alpha", "beta"),
        dead=(
            Dead(
                "beta",
                "beside the likeliest class there is one other, whose share of the rest is always 1",
                "Give beta = 0, which leaves alpha times kd; or use the method kd.",
            ),
        ),
    ),
)

METHODS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _METHODS})


def find(name: str) -> Method:
    """Give the method of this name; RecipeError offers the nearest one."""
    if name in METHODS:
        return METHODS[name]
    meant = nearest(name.casefold(), METHODS)
    raise RecipeError(
        f"There is no distillation method {quote(name)}.",
        hint=(f"Did you mean {meant!r}? " if meant else "") + f"Methods: {', '.join(METHODS)}.",
    )


def filled(method: Method, given: Mapping[str, object]) -> dict[str, Scalar]:
    """Give every setting of the method its value, in the declared order: the given one, else the default.

    Raises RecipeError with every setting that is unknown or has a value that it cannot have.
    """
    faults = list(_faults(method, given))
    if faults:
        known = ", ".join(f"{name} ({_told(value)})" for name, value in method.defaults.items())
        raise RecipeError(" ".join(faults), hint=f"{method.name} has: {known or 'no settings'}.")
    return {setting.name: setting.value(given) for setting in method.settings}


def checked(name: str, settings: Mapping[str, object], classes: int) -> dict[str, Scalar]:
    """Give every setting of the method `name` its value, checked for a task of so many classes.

    Raises RecipeError for a method or setting that does not exist, a value that it cannot have, weights
    that leave nothing of the loss, and for parts that have no gradient with two classes, saying why.
    """
    method = find(name)
    values = filled(method, settings)
    if classes < 2:
        raise RecipeError(f"{classes} classes cannot be told apart; at least 2 were expected.")
    if method.factors and not any(values[factor] for factor in method.factors):
        raise RecipeError(
            f"{name}: {' and '.join(method.factors)} are 0, which leaves nothing of the loss.",
            hint=f"Customary are {', '.join(f'{key} = {method.defaults[key]:g}' for key in method.factors)}.",
        )
    for dead in method.dead:
        if classes == 2 and values[dead.setting]:
            raise RecipeError(
                f"{name}: {dead.setting} = {_told(values[dead.setting])} does nothing with two classes: "
                f"{dead.reason}, so that no gradient comes of it.",
                hint=dead.mend,
            )
    return values


def _faults(method: Method, given: Mapping[str, object]) -> Iterator[str]:
    known = {setting.name: setting for setting in method.settings}
    for name, value in given.items():
        if name not in known:
            meant = nearest(name, known)
            yield f"{method.name} has no setting {quote(name)}" + (
                f"; did you mean {meant}?" if meant else "."
            )
        elif expected := known[name].fault(value):
            yield f"{method.name}: {name} must be {expected}, not {quote(value)}."


def _told(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
