"""What can be seen of a model at work without labels, and how far it has drifted from what was seen on validation pictures.

reference.json   in a bundle: for each measure its quantiles over validation pictures
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import cv2
import numpy as np

from models.fit import InputImage, preprocess
from models.image import NO_LIMITS
from models.label_set import LabelSet
from models.objects import label_regions, present_classes
from models.prediction import Prediction
from models.spec import InvalidBundle

if TYPE_CHECKING:
    from models.segmenter import Segmenter  # brings torch, which processes that hold no weights do without

REFERENCE = "reference.json"
_FORMAT = 1
_NUM_QUANTILES = 101
_BATCH_SIZE = 8
_DECIMALS, _SLACK = 9, 1e-8  # of the quantiles in the file, and what a value may differ from one and still equal it

Measures = dict[str, float]


def measure(image: InputImage, prediction: Prediction, label_set: LabelSet) -> Measures:
    """What one photo and its prediction look like, at the model's resolution; each measure by its name.

    brightness: mean grey, 0 to 1. sharpness: log10 of the Laplacian's variance over the picture's own, which blur lowers and darkness
    does not. confidence: mean of the winners' probabilities. fragments: connected regions that are not background. empty: 1 where there
    is nothing but background. share/<class>: of the cells.
    """
    grey = cv2.cvtColor(np.ascontiguousarray(image.pixels[image.content.slices]), cv2.COLOR_RGB2GRAY)
    class_map = prediction.class_map
    present = present_classes(class_map, label_set)
    _, num_regions = label_regions(class_map, present, connectivity=8)
    num_cells = cv2.calcHist([class_map], [0], None, [len(label_set)], [0, len(label_set)])
    shares = (num_cells.ravel() / class_map.size).tolist()
    return {
        "brightness": cv2.mean(grey)[0] / 255,
        "sharpness": float(np.log10((1 + _variance(cv2.Laplacian(grey, cv2.CV_16S))) / (1 + _variance(grey)))),
        "confidence": cv2.mean(prediction.confidence)[0] / 255,
        "fragments": float(num_regions),
        "empty": float(not present),
    } | {f"share/{name}": share for name, share in zip(label_set.names, shares)}


def _variance(values: np.ndarray) -> float:
    return float(cv2.meanStdDev(values)[1][0, 0]) ** 2


@dataclass(frozen=True)
class Reference:
    """The distribution of each measure over validation pictures: `quantiles` (M, Q) float64, ascending along a row, for `names`."""

    names: tuple[str, ...]
    quantiles: np.ndarray
    num_images: int

    @classmethod
    def of(cls, measured: Sequence[Measures]) -> Self:
        """The reference of the measures of one or more pictures."""
        names = tuple(measured[0])
        values = np.array([[each[name] for name in names] for each in measured])
        quantiles = np.quantile(values, np.linspace(0, 1, _NUM_QUANTILES), axis=0, method="inverted_cdf")  # values that did occur
        return cls(names, quantiles.T, len(measured))

    def ranks(self, measures: Measures) -> np.ndarray:
        """For each measure the share of the reference that lies below the value, (M,) in [0, 1]; of equal ones half counts."""
        num_quantiles = self.quantiles.shape[1]
        value = np.array([measures[name] for name in self.names])[:, None]
        below, up_to = (self.quantiles < value - _SLACK).sum(1), (self.quantiles <= value + _SLACK).sum(1)
        return (below + up_to) / (2 * num_quantiles)


class DriftWindow:
    """How far the newest pictures lie from the reference."""

    def __init__(self, reference: Reference, num_images: int = 256) -> None:
        self.reference = reference
        self._ranks = np.empty((num_images, len(reference.names)))
        self.num_seen = 0

    def add(self, measures: Measures) -> None:
        self._ranks[self.num_seen % len(self._ranks)] = self.reference.ranks(measures)
        self.num_seen += 1

    def drift(self) -> Measures:
        """For each measure a number in [0, 1]: 0 where live values lie as the reference's do, 1 where all lie beyond it on one side.

        It is the rank-biserial correlation, |2 P(live > reference) - 1|, ties counted half. Without drift it stays about
        sqrt(1/num_live + 1/num_reference) / 1.7. Source: Wendt 1972, https://doi.org/10.1002/ejsp.2420020412.
        """
        ranks = self._ranks[: min(self.num_seen, len(self._ranks))]
        if not len(ranks):
            return {}
        return dict(zip(self.reference.names, np.abs(2 * ranks.mean(axis=0) - 1).tolist()))


def write_reference(bundle: Path, segmenter: Segmenter, photos: Iterable[bytes]) -> Path:
    """Writes what `segmenter` sees in image files into its bundle; the file. Raises `models.image.InvalidImage`."""
    spec = segmenter.spec
    images = [preprocess(photo, spec.input_size, spec.fit_rule, NO_LIMITS) for photo in photos]
    measured = []
    for start in range(0, len(images), _BATCH_SIZE):
        batch = images[start : start + _BATCH_SIZE]
        measured += [measure(image, prediction, spec.label_set) for image, prediction in zip(batch, segmenter.predict(batch))]
    reference = Reference.of(measured)
    content = {
        "format": _FORMAT,
        "num_images": reference.num_images,
        "quantiles": {name: [round(value, _DECIMALS) for value in row] for name, row in zip(reference.names, reference.quantiles.tolist())},
    }
    draft = bundle / f".{REFERENCE}"
    draft.write_text(json.dumps(content) + "\n")
    return draft.rename(bundle / REFERENCE)


def read_reference(bundle: Path, label_set: LabelSet) -> Reference | None:
    """The bundle's reference, None where it was made without. Raises `InvalidBundle`."""
    file = bundle / REFERENCE
    if not file.exists():
        return None
    try:
        content = json.loads(file.read_text())
        rows = content["quantiles"]
        reference = Reference(tuple(rows), np.array(list(rows.values()), np.float64), int(content["num_images"]))
        fits = content["format"] == _FORMAT and reference.quantiles.ndim == 2
        fits = fits and {f"share/{name}" for name in label_set.names} <= set(rows)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidBundle(f"{file} is damaged ({error!r}); copy the bundle again") from error
    if not fits:
        raise InvalidBundle(f"{file} is not format {_FORMAT} for the bundle's classes; copy the bundle again")
    return reference
