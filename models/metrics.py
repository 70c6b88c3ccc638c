"""Metrics from one table of counts: add the tables of images, batches and workers, divide once at the end."""

from __future__ import annotations

import numpy as np

from models.label_set import IGNORE_INDEX, LabelSet


def confusion_counts(mask: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """How many pixels of each true class (row) were given each class (column): (K, K) int64.

    Shapes: both (h, w) uint8 at the photo's native resolution. True pixels of `IGNORE_INDEX` are not counted.
    """
    if mask.shape != predicted.shape:
        raise ValueError(f"the mask is {mask.shape}, the prediction {predicted.shape}; compare them at the photo's own size")
    counted = mask != IGNORE_INDEX
    pairs = mask[counted].astype(np.int64) * num_classes + predicted[counted]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_iou(counts: np.ndarray) -> np.ndarray:
    """Intersection over union of each class, (K,) float64; NaN for a class that is in neither mask nor prediction."""
    tp, fp, fn = _outcomes(counts)
    return _ratio(tp, tp + fp + fn)


def class_dice(counts: np.ndarray) -> np.ndarray:
    """Dice (F1) of each class, (K,) float64; NaN for a class that is in neither mask nor prediction."""
    tp, fp, fn = _outcomes(counts)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def pixel_accuracy(counts: np.ndarray) -> float:
    """The share of counted pixels that have their true class; NaN where none was counted."""
    return float(_ratio(np.trace(counts), counts.sum()))


def foreground_iou(counts: np.ndarray, label_set: LabelSet) -> float:
    """IoU of everything that is not background against background; NaN without a background class."""
    if label_set.background is None:
        return float("nan")
    is_foreground = np.zeros(len(label_set), bool)
    is_foreground[label_set.foreground] = True
    both = counts[np.ix_(is_foreground, is_foreground)].sum()
    neither = counts[label_set.background, label_set.background]
    return float(_ratio(both, counts.sum() - neither))


def summarize(counts: np.ndarray, label_set: LabelSet) -> dict[str, float]:
    """All metrics by name. Means are over the classes that occur in mask or prediction; absent ones have no entry."""
    iou, dice = class_iou(counts), class_dice(counts)
    means = {"miou": _mean(iou), "mean_dice": _mean(dice)}
    metrics = means | {"pixel_accuracy": pixel_accuracy(counts), "foreground_iou": foreground_iou(counts, label_set)}
    metrics |= {f"iou/{name}": float(value) for name, value in zip(label_set.names, iou)}
    return {name: value for name, value in metrics.items() if not np.isnan(value)}


def _outcomes(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    tp = np.diag(counts)
    return tp, counts.sum(axis=0) - tp, counts.sum(axis=1) - tp


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=np.asarray(whole) > 0)


def _mean(values: np.ndarray) -> float:
    return float("nan") if np.isnan(values).all() else float(np.nanmean(values))
