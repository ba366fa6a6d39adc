"""The pictures of a familiar and an unfamiliar domain, divided into splits that share none."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from kdbench.card import Data
from kdbench.distill.shift import render
from kdbench.distill.sources import Offer, Pictures
from kdbench.distill.sources.files import shown
from kdbench.distill.sources.twins import distinct
from kdbench.distill.tables import DataPlan
from kdbench.errors import RecipeError

if TYPE_CHECKING:
    from kdbench.spec import Array

# The test split stands before those whose size may change, so that it is the same at any number of labels.
SPLITS = ("source_train", "source_test", "test", "labelled", "unlabelled")
SOURCE = SPLITS[:2]
LINE_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Split:
    """Images (N, 3, size, size) uint8, their class (N,) int64, and the digest of each source picture."""

    images: Array
    labels: Array
    digests: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Splits:
    """`source_*` of the familiar domain; `labelled`, `unlabelled` and `test` of the unfamiliar one.

    sha256: of the source pictures and their labels, before division.
    calibration: how many of the first unlabelled images are for calibration.
    """

    source_train: Split
    source_test: Split
    test: Split
    labelled: Split
    unlabelled: Split
    sha256: str
    classes: tuple[str, ...]
    calibration: int


@dataclass(frozen=True, slots=True)
class Pool:
    """All different pictures of one domain, in the order in which splits take them."""

    pictures: Pictures
    digests: tuple[bytes, ...]
    order: Array


def make_splits(offer: Offer, plan: DataPlan, seed: int) -> Splits:
    """Draw and render the splits that the plan asks for; the same seed gives the same bytes.

    Source splits are taken from the familiar pictures as they are. The others come from the unfamiliar ones,
    or, where the offer has none, from what the source splits leave over; they are shifted if the plan has a
    shift. Raises RecipeError for too few pictures, a class without pictures in a domain, in `labelled` or in
    `test`, a picture with two labels, and one that is in both domains.
    """
    pools = _pools(offer, plan, seed)
    sizes, calibration = _sizes(plan, pools)
    taken, splits = dict.fromkeys(pools, 0), {}
    for number, (name, size) in enumerate(sizes.items(), start=1):
        home = "familiar" if name in SOURCE or "unfamiliar" not in pools else "unfamiliar"
        pool, start = pools[home], taken[home]
        taken[home] += size
        splits[name] = _split(
            pool, pool.order[start : taken[home]], plan, seed, number, shifted=name not in SOURCE
        )
    check_disjoint(splits)
    for name in ("test", "labelled"):
        _check_classes(
            splits[name].labels, offer.classes, f"of the {sizes[name]} pictures drawn for {name}", name
        )
    return Splits(**splits, sha256=_sha256(pools), classes=offer.classes, calibration=calibration)


def check_disjoint(splits: Mapping[str, Split]) -> None:
    """Refuse splits that share a picture, by content: a leak would flatter every figure downstream."""
    home: dict[bytes, str] = {}
    for name, split in splits.items():
        for digest in split.digests:
            if home.setdefault(digest, name) != name:
                raise RecipeError(f"The splits {home[digest]} and {name} share a picture.")


def describe(offer: Offer, plan: DataPlan, splits: Splits) -> Data:
    """Give the card's account of where the images come from and what was done to them."""
    return Data(
        generator=offer.generator,
        source=(offer.origin + _treatment(plan))[:LINE_LIMIT],
        licence=offer.licence,
        citation=offer.citation,
        splits={name: len(getattr(splits, name)) for name in SPLITS},
        evaluation=len(splits.test),
        calibration=splits.calibration,
        sha256=splits.sha256,
    )


def _treatment(plan: DataPlan) -> str:
    resized = f"; brought to {plan.size}x{plan.size} pixels"
    if plan.shift is None:
        return f"{resized} by kdbench"
    inverted = "inverted, " if plan.shift.invert else ""
    done = f"rotated, {inverted}coloured, textured and made noisy"
    return f"{resized}, and for the target domain {done} by kdbench"


def _pools(offer: Offer, plan: DataPlan, seed: int) -> dict[str, Pool]:
    """Give the pool of each domain that has pictures of its own, without any picture twice."""
    import numpy as np

    pools = {}
    for number, (domain, pictures) in enumerate(
        (("familiar", offer.familiar), ("unfamiliar", offer.unfamiliar))
    ):
        if pictures is None:
            continue
        _check_small(pictures, plan.size)
        kept, digests = distinct(pictures, offer.classes, domain)
        _check_classes(kept.labels, offer.classes, f"of the {domain} pictures", None)
        # Numbers up to that of the last split draw what is inside the splits.
        stream = [seed, 0] if number == 0 else [seed, len(SPLITS) + number]
        pools[domain] = Pool(kept, digests, np.random.default_rng(stream).permutation(len(kept)))
    if len(pools) > 1:
        _check_apart(pools["familiar"], pools["unfamiliar"])
    return pools


def _check_apart(familiar: Pool, unfamiliar: Pool) -> None:
    known = set(familiar.digests)
    common = [number for number, digest in enumerate(unfamiliar.digests) if digest in known]
    if common:
        raise RecipeError(
            f"Of {len(unfamiliar.digests)} unfamiliar pictures {len(common)} occur among the familiar ones "
            f"too, the first of them {unfamiliar.pictures.name(common[0])}.",
            hint="Take them out of one of the two: what the teacher has seen is not unfamiliar.",
        )


def _sizes(plan: DataPlan, pools: Mapping[str, Pool]) -> tuple[dict[str, int], int]:
    """Give the size of each split, `unlabelled` limited by what is left, and how many are for calibration."""
    familiar, unfamiliar = pools["familiar"], pools.get("unfamiliar", pools["familiar"])
    here, there = len(familiar.pictures), len(unfamiliar.pictures)
    sizes = {name: _count(getattr(plan, name), here if name in SOURCE else there) for name in SPLITS}
    calibration = _count(plan.calibration, there)
    source, target = sum(sizes[name] for name in SOURCE), sizes["test"] + sizes["labelled"]
    if familiar is unfamiliar:
        target += source
    else:
        _check_enough("familiar pictures", here, source, "source_train and source_test", "data.source_train")
    kind = "pictures" if familiar is unfamiliar else "unfamiliar pictures"
    what = "splits and calibration" if familiar is unfamiliar else "test, labelled and calibration"
    _check_enough(kind, there, target + calibration, what, "data.labelled (or --labels), or another split,")
    sizes["unlabelled"] = min(sizes["unlabelled"], there - target)
    if calibration > sizes["unlabelled"]:
        raise RecipeError(
            f"data.calibration is {calibration}, more than the {sizes['unlabelled']} of data.unlabelled, "
            "of which it is a part."
        )
    return sizes, calibration


def _count(amount: int | float, pool: int) -> int:
    # Through its decimal text, because 0.29 of 100 is 28.999... in binary.
    return amount if isinstance(amount, int) else max(1, int(Fraction(str(amount)) * pool))


def _check_enough(kind: str, available: int, needed: int, what: str, setting: str) -> None:
    if needed > available:
        raise RecipeError(
            f"There are {available} {kind}; {what} need {needed}.",
            hint=f"Lower {setting} by {needed - available}.",
        )


def _check_small(pictures: Pictures, size: int) -> None:
    import numpy as np

    if pictures.images.dtype == np.float64 and max(pictures.images.shape[2:]) > size:
        height, width = pictures.images.shape[2:]
        raise RecipeError(
            f"data.size is {size}, smaller than the {width}x{height} pixels of the float64 pictures.",
            hint="Only uint8 pictures are reduced: data sources hand over anything larger as that.",
        )


def _check_classes(labels: Array, classes: Sequence[str], where: str, split: str | None) -> None:
    found = set(labels.tolist())
    lacking = [name for number, name in enumerate(classes) if number not in found]
    if lacking:
        named = " or ".join(
            [*map(shown, lacking[:3]), *([f"{len(lacking) - 3} more"] if lacking[3:] else [])]
        )
        raise RecipeError(
            f"None {where} is of the class {named}.",
            hint=f"Raise data.{split}, or take another seed."
            if split
            else "Add some, or leave the class out.",
        )


def _split(pool: Pool, chosen: Array, plan: DataPlan, seed: int, number: int, *, shifted: bool) -> Split:
    import numpy as np

    rng = np.random.default_rng([seed, number])
    images = render(pool.pictures.images[chosen], plan.size, plan.shift if shifted else None, rng)
    return Split(
        images, pool.pictures.labels[chosen], tuple(pool.digests[place] for place in chosen.tolist())
    )


def _sha256(pools: Mapping[str, Pool]) -> str:
    import numpy as np

    raw = hashlib.sha256()
    for pool in pools.values():
        raw.update(np.ascontiguousarray(pool.pictures.images).data)
        raw.update(np.ascontiguousarray(pool.pictures.labels).data)
    return raw.hexdigest()
