"""What lies before and after the model as plain objects: synchronous, picklable in and out, with no Ray.

    bytes --Preprocessor--> Prepared --BatchedModel--> Predicted --Postprocessor--> Answer

`model_stage.py` has the one in the middle, apart because it needs torch, which a process for the others can do without.
Durations travel along in `times_s`, each under the name of what took it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import cv2
import numpy as np

from deployments.encoders import Content, encode
from deployments.query import Query
from models.fit import InputImage, fit_image, preprocess
from models.image import ImageLimits, as_image
from models.prediction import Prediction
from models.restore import restore_class_map
from models.spec import SegmenterSpec
from models.tiling import TiledImage, cut_tiles, plan_tiles


@dataclass(frozen=True)
class Prepared:
    image: InputImage | TiledImage
    times_s: dict[str, float]


@dataclass(frozen=True)
class Predicted:
    prediction: Prediction
    batch_size: int
    times_s: dict[str, float]


@dataclass(frozen=True)
class Answer:
    body: bytes
    media_type: str
    size: tuple[int, int]
    """The photo's (height, width) as a person sees it."""
    batch_size: int
    times_s: dict[str, float]
    mask: np.ndarray | None = None
    """The class map (h, w) uint8, where the query asks for it."""


class Preprocessor:
    """A file's bytes or decoded pixels in, the model's input out; what it refuses never reaches a batch. Safe for threads."""

    def __init__(self, spec: SegmenterSpec, limits: ImageLimits, max_tiles: int = 16) -> None:
        self.spec, self.limits, self.max_tiles = spec, limits, max_tiles
        cv2.setNumThreads(1)  # requests run side by side; threads within one would only fight

    def __call__(self, data: bytes | np.ndarray, query: Query) -> Prepared:
        """Raises `models.image.InvalidImage` and its `ImageTooLarge`, `DeadlinePassed`."""
        query.check_deadline()
        start = time.perf_counter()
        image = self._tile(data) if query.tiled else preprocess(data, self.spec.input_size, self.spec.fit_rule, self.limits)
        return Prepared(image, {"decode": time.perf_counter() - start})

    def _tile(self, data: bytes | np.ndarray) -> InputImage | TiledImage:
        image = as_image(data, self.limits)
        plan = plan_tiles(image.shape[:2], self.spec.input_size, self.max_tiles)
        if len(plan.corners) == 1:
            return fit_image(image, self.spec.input_size, self.spec.fit_rule)
        return cut_tiles(image, plan, self.spec.input_size)


class Postprocessor:
    """A prediction in, the answer in the asked format out, at the photo's own size. Safe for threads."""

    def __init__(self, spec: SegmenterSpec, limits: ImageLimits, model_version: str) -> None:
        self.spec, self.limits, self.model_version = spec, limits, model_version
        cv2.setNumThreads(1)

    def __call__(self, predicted: Predicted, query: Query, photo: bytes | np.ndarray | None) -> Answer:
        """`photo` is the request's image for the formats that draw on it (`Format.needs_photo`), else None. Raises `DeadlinePassed`."""
        query.check_deadline()
        start = time.perf_counter()
        class_map = restore_class_map(predicted.prediction)
        restored = time.perf_counter()
        pixels = None if photo is None else as_image(photo, self.limits)
        body = encode(query, Content(class_map, predicted.prediction, self.spec.label_set, self.model_version, pixels))
        times_s = predicted.times_s | {"restore": restored - start, "encode": time.perf_counter() - restored}
        return Answer(
            body, query.format.media_type, class_map.shape, predicted.batch_size, times_s, class_map if query.keeps_mask else None
        )
