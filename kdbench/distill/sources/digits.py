"""The 1797 handwritten digits that come with scikit-learn, 8x8 pixels; no download."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from kdbench.distill.sources import Offer, Pictures


def digits(*, task: Literal["2x5", "10"] = "2x5", base: Path) -> Offer:
    """Offer the digits with one class each (`10`), or 0 to 4 against 5 to 9 (`2x5`).

    The second has two classes of five kinds each: what a teacher knows and the labels do not tell.
    Pictures are (1797, 1, 8, 8) float64 in 0..1, strokes white on black.
    """
    import numpy as np
    import sklearn
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.ascontiguousarray(found.images[:, None] / 16.0)
    labels = found.target >= 5 if task == "2x5" else found.target
    return Offer(
        classes=("0-4", "5-9") if task == "2x5" else tuple("0123456789"),
        familiar=Pictures(images, labels.astype(np.int64)),
        unfamiliar=None,
        generator=f"kdbench digits, scikit-learn {sklearn.__version__}",
        origin="Optical Recognition of Handwritten Digits (UCI), test part, as sklearn.datasets.load_digits "
        "has it",
        licence="CC-BY-4.0",
        citation="E. Alpaydin, C. Kaynak (1998). Optical Recognition of Handwritten Digits. "
        "UCI Machine Learning Repository. https://doi.org/10.24432/C50P49",
    )
