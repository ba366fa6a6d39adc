"""A picture of a distillation, beside its bundle: what the two domains look like, and the ladder."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdbench.account import CONTROLS, DISTILLED
from kdbench.card import Card, LadderRow
from kdbench.errors import StudentError
from kdbench.results import put

if TYPE_CHECKING:
    from kdbench.distill.splits import Split, Splits
    from kdbench.spec import Array

SAMPLES = 16
"""So many images of each domain, in one line."""

TITLE_LIMIT = 90
"""Characters of a title that fit over the picture."""

BLUE, GREY, PALE, DARK = "#2563eb", "#94a3b8", "#cbd5e1", "#0f172a"


def draw(card: Card, splits: Splits, path: Path) -> Path:
    """Draw samples of both domains over the ladder, as PNG; the same bundle gives the same picture.

    Replaces a picture that is there. Raises StudentError where it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in card.ladder if row.domain == "target"]
    figure = Figure(figsize=(9.0, 2.9 + 0.42 * len(rows)), dpi=144, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    samples, bars = figure.subplots(2, 1, height_ratios=[1.55, 0.42 * len(rows) + 0.5])
    title = card.title or card.name
    title = title if len(title) <= TITLE_LIMIT else title[: TITLE_LIMIT - 1] + "…"
    # A title is text: dollars in it do not begin a formula.
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=DARK, parse_math=False)
    _samples(samples, splits)
    _bars(bars, rows, chance=1 / len(card.classes))
    drawn = io.BytesIO()
    with warnings.catch_warnings():
        # A script that the font lacks becomes boxes; that is told nowhere else and is no fault.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(drawn, format="png", metadata={"Software": None})
    try:
        put(path, drawn.getvalue())
    except OSError as fault:
        raise StudentError(f"The picture {path} cannot be written: {fault.strerror or fault}.") from fault
    return path


def _samples(axes: Any, splits: Splits) -> None:
    """Show a line of source images over one of target images."""
    import numpy as np

    lines = [_line(split) for split in (splits.source_train, splits.unlabelled)]
    axes.imshow(np.concatenate(lines), interpolation="nearest", aspect="equal")
    height = lines[0].shape[0]
    axes.set_yticks([height / 2, 1.5 * height], ["source", "target"], fontsize=9, color=DARK)
    axes.set_xticks([])
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def _line(split: Split) -> Array:
    """Put the first images of a split side by side, (H, W, 3) uint8, a white rim around each."""
    import numpy as np

    chosen = split.images[np.arange(SAMPLES) % len(split)]
    rim = max(1, chosen.shape[-1] // 12)
    padded = np.pad(chosen, ((0, 0), (0, 0), (rim, rim), (rim, rim)), constant_values=255)
    return np.concatenate(padded.transpose(0, 2, 3, 1), axis=1)


def _bars(axes: Any, rows: list[LadderRow], chance: float) -> None:
    """Draw a bar for each row up to its mean, and a dot for each seed."""
    places = range(len(rows), 0, -1)
    for place, row in zip(places, rows, strict=True):
        axes.barh(place, 100 * row.mean, height=0.62, color=_colour(row), zorder=2)
        if len(row.seeds) > 1:
            spots = [100 * accuracy for accuracy in row.accuracies]
            axes.plot(spots, [place] * len(spots), "o", ms=3.2, mfc="white", mec=DARK, mew=0.7, zorder=3)
        spread = "" if row.std is None else f" ± {100 * row.std:.1f}"
        end = max(100 * accuracy for accuracy in row.accuracies)
        axes.text(end + 1.2, place, f"{100 * row.mean:.1f}{spread}", va="center", fontsize=9, color=DARK)
    axes.axvline(100 * chance, color=DARK, lw=0.8, ls=":", zorder=4)
    axes.text(100 * chance, len(rows) + 0.62, "chance", fontsize=8, ha="center", color=DARK)
    axes.set_yticks(list(places), [row.title for row in rows], fontsize=9, color=DARK)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row.row == DISTILLED else "normal")
    axes.set_xlim(0, 112)
    axes.set_xticks(range(0, 101, 20))
    axes.set_ylim(0.4, len(rows) + 0.6)
    seeds = len(rows[0].seeds) if rows else 0
    images = rows[0].images if rows else 0
    told = f"right answers in the target domain, % of {images} held-out images"
    axes.set_xlabel(told + (f", {seeds} seeds" if seeds > 1 else ""), fontsize=9, color=DARK)
    axes.tick_params(axis="both", length=0)
    axes.grid(axis="x", color="#e2e8f0", lw=0.8, zorder=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _colour(row: LadderRow) -> str:
    if row.row == DISTILLED:
        return BLUE
    return PALE if row.row in CONTROLS or row.row == "student-oracle" else GREY
