"""Metrics from counts: add the counts of images, batches and workers, divide once at the end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from models.boundary import BAND_SHARE, boundary_outcomes
from models.calibration import LEVELS, NUM_BINS, binned, calibration_counts, calibration_error
from models.label_set import IGNORE_INDEX, LabelSet

RULES = {
    "resolution": "masks are compared at the photo's own size; pixels that nobody labelled are not counted",
    "foreground": "foreground is every class but background",
    "absent classes": "a class that is in neither masks nor predictions is left out of means; one that is only predicted, or only missed, counts with 0",
    "edges": f"boundary IoU counts the pixels of a class up to {BAND_SHARE:.0%} of the photo's diagonal from its edge; the photo's frame is an edge",
    "calibration": f"calibration error is the mean gap between confidence and accuracy of pixels, in {NUM_BINS} bins of confidence",
}


@dataclass(frozen=True)
class Outcomes:
    """The counts that metrics are made of, for one set of photos, or for many along leading axes.

    Shapes: regions (..., K, 3), tp, fp and fn of each class; boundary (..., K, 3), the same along edges; calibration (..., 15, 3),
    as `models.calibration.binned` gives it, zeros where confidence is not known.
    """

    regions: np.ndarray
    boundary: np.ndarray
    calibration: np.ndarray

    @classmethod
    def stack(cls, outcomes: Iterable[Outcomes]) -> Outcomes:
        """One leading axis over the outcomes, of which there is at least one."""
        parts = [(each.regions, each.boundary, each.calibration) for each in outcomes]
        return cls(*map(np.stack, zip(*parts)))

    def weighted(self, weights: np.ndarray) -> Outcomes:
        """Weighted sums over the first axis (N): weights (R, N) to a first axis (R)."""
        weights = np.asarray(weights, np.float64)  # for BLAS; exact up to 2^53 pixels
        return Outcomes(*(np.tensordot(weights, each, 1) for each in (self.regions, self.boundary, self.calibration)))

    def __getitem__(self, index: object) -> Outcomes:
        return Outcomes(self.regions[index], self.boundary[index], self.calibration[index])

    def __len__(self) -> int:
        return len(self.regions)


@dataclass(frozen=True)
class SegmentationCounts:
    """What is counted in photos, as integers, so that any order and any number of workers adds up to the same.

    Shapes: confusion (K, K), as `confusion_counts` gives it; boundary (K, 3); calibration (2, 256). All int64.
    """

    confusion: np.ndarray
    boundary: np.ndarray
    calibration: np.ndarray

    @classmethod
    def zeros(cls, num_classes: int) -> SegmentationCounts:
        """The counts of no photo."""
        return cls.from_vector(np.zeros(num_classes * (num_classes + 3) + 2 * LEVELS, np.int64), num_classes)

    @classmethod
    def of(cls, mask: np.ndarray, predicted: np.ndarray, num_classes: int, confidence: np.ndarray | None = None) -> SegmentationCounts:
        """The counts of one photo. Shapes: all (h, w) uint8 at its native resolution; without confidence, calibration is zeros."""
        calibration = np.zeros((2, LEVELS), np.int64) if confidence is None else calibration_counts(mask, predicted, confidence)
        return cls(confusion_counts(mask, predicted, num_classes), boundary_outcomes(mask, predicted, num_classes), calibration)

    @classmethod
    def from_vector(cls, vector: np.ndarray, num_classes: int) -> SegmentationCounts:
        """The counts that `vector` holds."""
        confusion, boundary, calibration = np.split(vector, [num_classes**2, num_classes * (num_classes + 3)])
        return cls(confusion.reshape(num_classes, num_classes), boundary.reshape(num_classes, 3), calibration.reshape(2, LEVELS))

    @property
    def vector(self) -> np.ndarray:
        """All counts in one row, int64, to be added up between workers."""
        return np.concatenate([self.confusion.ravel(), self.boundary.ravel(), self.calibration.ravel()])

    @property
    def outcomes(self) -> Outcomes:
        return Outcomes(region_outcomes(self.confusion), self.boundary, binned(self.calibration))

    def __add__(self, other: SegmentationCounts) -> SegmentationCounts:
        return SegmentationCounts(self.confusion + other.confusion, self.boundary + other.boundary, self.calibration + other.calibration)


def confusion_counts(mask: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """How many pixels of each true class (row) were given each class (column): (K, K) int64.

    Shapes: both (h, w) uint8 at the photo's native resolution. True pixels of `IGNORE_INDEX` are not counted. Raises `ValueError`
    for sizes that differ and for values that are no class.
    """
    if mask.shape != predicted.shape:
        raise ValueError(f"the mask is {mask.shape}, the prediction {predicted.shape}; compare them at the photo's own size")
    pairs = mask.astype(np.uint16) * (IGNORE_INDEX + 1) + predicted
    table = np.bincount(pairs.ravel(), minlength=(IGNORE_INDEX + 1) ** 2).reshape(IGNORE_INDEX + 1, IGNORE_INDEX + 1)
    counts = table[:num_classes, :num_classes].copy()
    if counts.sum() != table[:IGNORE_INDEX].sum():
        raise ValueError(f"masks hold values up to {max(mask.max(), predicted.max())}; classes are 0 to {num_classes - 1}")
    return counts


def region_outcomes(confusion: np.ndarray) -> np.ndarray:
    """tp, fp and fn of each class, (K, 3) int64, of `confusion` (K, K)."""
    tp = np.diag(confusion)
    return np.stack([tp, confusion.sum(axis=0) - tp, confusion.sum(axis=1) - tp], axis=-1)


def class_iou(outcomes: np.ndarray) -> np.ndarray:
    """Intersection over union of each class, (..., K) float64; NaN for a class that is in neither mask nor prediction.

    Shapes: outcomes (..., K, 3), tp, fp and fn.
    """
    return _ratio(outcomes[..., 0], outcomes.sum(axis=-1))


def class_dice(outcomes: np.ndarray) -> np.ndarray:
    """Dice (F1) of each class, (..., K) float64, of outcomes (..., K, 3); NaN for a class that is in neither mask nor prediction."""
    return _ratio(2 * outcomes[..., 0], outcomes.sum(axis=-1) + outcomes[..., 0])


def pixel_accuracy(outcomes: np.ndarray) -> np.ndarray:
    """The share of counted pixels that have their true class, (...) float64, of outcomes (..., K, 3); NaN where none was counted."""
    tp = outcomes[..., 0].sum(axis=-1)
    return _ratio(tp, tp + outcomes[..., 2].sum(axis=-1))


def foreground_iou(outcomes: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """IoU of everything that is not background against background, (...) float64, of outcomes (..., K, 3).

    NaN without a background class.
    """
    if label_set.background is None:
        return np.full(outcomes.shape[:-2], np.nan)
    total = (outcomes[..., 0] + outcomes[..., 2]).sum(axis=-1)
    neither, only_mask, only_predicted = np.moveaxis(outcomes[..., label_set.background, :], -1, 0)
    union = total - neither
    return _ratio(union - only_mask - only_predicted, union)


def metrics_of(outcomes: Outcomes, label_set: LabelSet) -> dict[str, np.ndarray]:
    """All metrics by name, each with the outcomes' leading axes; NaN where one is undefined. `RULES` says how they count."""
    iou, dice, boundary = class_iou(outcomes.regions), class_dice(outcomes.regions), class_iou(outcomes.boundary)
    metrics = {
        "miou": _mean(iou),
        "mean_dice": _mean(dice),
        "pixel_accuracy": pixel_accuracy(outcomes.regions),
        "foreground_iou": foreground_iou(outcomes.regions, label_set),
        "boundary_iou": _mean(boundary),
        "calibration_error": calibration_error(outcomes.calibration),
    }
    for name, values in {"iou": iou, "dice": dice, "boundary_iou": boundary}.items():
        metrics |= {f"{name}/{label.name}": values[..., label.index] for label in label_set.labels}
    return metrics


def summarize(counts: SegmentationCounts, label_set: LabelSet) -> dict[str, float]:
    """All metrics by name, those that are undefined left out."""
    metrics = metrics_of(counts.outcomes, label_set)
    return {name: float(value) for name, value in metrics.items() if not np.isnan(value)}


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=np.asarray(whole) > 0)


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the last axis, NaN left out; NaN where nothing is left."""
    present = ~np.isnan(values)
    return _ratio(np.where(present, values, 0).sum(axis=-1), present.sum(axis=-1))
