"""Whether a model's confidence is the share of pixels that it has right.

Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 2 (expected calibration error).
"""

from __future__ import annotations

import numpy as np

from models.label_set import IGNORE_INDEX

NUM_BINS = 15  # the paper's
LEVELS = 256  # of confidence: the probability times 255


def calibration_counts(mask: np.ndarray, predicted: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """How many pixels were wrong (row 0) and right (row 1) at each confidence, (2, 256) int64; those of `IGNORE_INDEX` are left out.

    Shapes: all (h, w) uint8; confidence is the winner's probability times 255.
    """
    levels = confidence.astype(np.uint16)
    levels[mask == predicted] += LEVELS
    return np.bincount(levels[mask != IGNORE_INDEX], minlength=2 * LEVELS).reshape(2, LEVELS)


def binned(counts: np.ndarray) -> np.ndarray:
    """The counts (2, 256) in 15 equally wide bins of confidence, (15, 3) int64: pixels, right ones, and the sum of their confidences."""
    levels = np.arange(LEVELS)
    starts = np.flatnonzero(np.diff(levels * NUM_BINS // LEVELS, prepend=-1))
    total = counts.sum(axis=0)
    return np.add.reduceat(np.stack([total, counts[1], total * levels], axis=1), starts, axis=0)


def calibration_error(bins: np.ndarray) -> np.ndarray:
    """The expected distance between confidence and accuracy of `bins` (..., 15, 3), (...) in [0, 1]; NaN without a pixel."""
    num_pixels, num_right, confidence = np.moveaxis(np.asarray(bins, np.float64), -1, 0)
    gap, total = np.abs(num_right - confidence / (LEVELS - 1)).sum(axis=-1), num_pixels.sum(axis=-1)
    return np.divide(gap, total, out=np.full(total.shape, np.nan), where=total > 0)
