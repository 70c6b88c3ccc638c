"""The confusion matrix as a picture."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.figure import Figure

from models.label_set import LabelSet

_INCHES_PER_CLASS = 0.42
_MOST_NUMBERS = 40  # classes; with more, colours alone are readable
_LONGEST_NAME = 24  # characters


def confusion_png(confusion: np.ndarray, label_set: LabelSet) -> bytes:
    """A PNG file of the confusion counts (K, K): rows are true classes, numbers are percent of the row's pixels.

    A class without pixels has an empty row.
    """
    num_classes = len(label_set)
    totals = confusion.sum(axis=1, keepdims=True)
    percent = np.divide(100 * confusion, totals, out=np.full(confusion.shape, np.nan), where=totals > 0)
    side = 3 + _INCHES_PER_CLASS * max(num_classes, 5)
    figure = Figure(figsize=(side, side))
    axes = figure.subplots()
    axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    names = [name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…" for name in label_set.names]
    axes.set_xticks(range(num_classes), names, rotation=90)
    axes.set_yticks(range(num_classes), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title("percent of the true class's pixels")
    if num_classes <= _MOST_NUMBERS:
        _write_numbers(axes, percent)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, bbox_inches="tight")
    return file.getvalue()


def _write_numbers(axes, percent: np.ndarray) -> None:
    """Those that round to 1 % and more; a page of zeros hides them."""
    for row, column in np.argwhere(percent >= 0.5):
        value = percent[row, column]
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color="white" if value > 60 else "black")
