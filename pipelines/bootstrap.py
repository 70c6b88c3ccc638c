"""How far a metric may be by chance: bootstrap over the photos that were measured.

Photos are drawn with replacement, as many as there are, and the metrics of each draw are computed from the drawn photos' counts.
Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile interval).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.label_set import LabelSet
from models.metrics import Outcomes, metrics_of

CONFIDENCE = 0.95
NUM_RESAMPLES = 2000
_RESAMPLES_AT_ONCE = 200  # bounds memory


@dataclass(frozen=True)
class Interval:
    """A metric over all photos, and between what it lies in the middle 95 % of the resamples."""

    value: float
    low: float
    high: float


def intervals(images: Outcomes, label_set: LabelSet, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> dict[str, Interval]:
    """The interval of each metric that is defined over the photos; `images` has one leading axis over them.

    Resamples in which a metric is undefined, since no drawn photo has its class, are left out. One photo gives intervals without
    width. Photos count as independent: with bursts of the same scene the intervals are too narrow.
    """
    return _intervals(_over_all(images, label_set), _resampled(images, label_set, num_resamples, seed))


def difference_intervals(
    candidate: Outcomes, reference: Outcomes, label_set: LabelSet, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, Interval]:
    """The interval of candidate minus reference for each metric that both have, from the same draws of the same photos.

    Both have one leading axis over the same photos in the same order. Raises `ValueError` where their numbers differ.
    """
    if len(candidate) != len(reference):
        raise ValueError(f"{len(candidate)} photos against {len(reference)}; a paired difference needs both on the same photos")
    pairs = [(_over_all(images, label_set), _resampled(images, label_set, num_resamples, seed)) for images in (candidate, reference)]
    (value, resamples), (reference_value, reference_resamples) = pairs
    return _intervals(
        {name: value[name] - reference_value[name] for name in value},
        {name: resamples[name] - reference_resamples[name] for name in resamples},
    )


def _over_all(images: Outcomes, label_set: LabelSet) -> dict[str, np.ndarray]:
    return {name: value[0] for name, value in metrics_of(images.weighted(np.ones((1, len(images)))), label_set).items()}


def _resampled(images: Outcomes, label_set: LabelSet, num_resamples: int, seed: int) -> dict[str, np.ndarray]:
    """Each metric in each resample, (R,). How often each photo is drawn depends on seed and number of photos alone."""
    random = np.random.default_rng(seed)
    num_images = len(images)
    parts = []
    for start in range(0, num_resamples, _RESAMPLES_AT_ONCE):
        num_draws = min(_RESAMPLES_AT_ONCE, num_resamples - start)
        times_drawn = random.multinomial(num_images, np.full(num_images, 1 / num_images), size=num_draws)
        parts.append(metrics_of(images.weighted(times_drawn), label_set))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _intervals(values: dict[str, np.ndarray], resamples: dict[str, np.ndarray]) -> dict[str, Interval]:
    tails = (1 - CONFIDENCE) / 2
    found = {}
    for name, value in values.items():
        defined = resamples[name][~np.isnan(resamples[name])]
        if not np.isnan(value) and len(defined):
            low, high = np.quantile(defined, [tails, 1 - tails])
            found[name] = Interval(float(value), float(low), float(high))
    return found
