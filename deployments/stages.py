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
from models.fit import InputImage, preprocess
from models.image import ImageLimits, as_image
from models.prediction import Prediction
from models.restore import restore_class_map
from models.spec import SegmenterSpec


@dataclass(frozen=True)
class Prepared:
    image: InputImage
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
    batch_size: int
    times_s: dict[str, float]


class Preprocessor:
    """A file's bytes or decoded pixels in, the model's input out; what it refuses never reaches a batch. Safe for threads."""

    def __init__(self, spec: SegmenterSpec, limits: ImageLimits) -> None:
        self.spec, self.limits = spec, limits
        cv2.setNumThreads(1)  # requests run side by side; threads within one would only fight

    def __call__(self, data: bytes | np.ndarray) -> Prepared:
        """Raises `models.image.InvalidImage` and its `ImageTooLarge`."""
        start = time.perf_counter()
        image = preprocess(data, self.spec.input_size, self.spec.fit_rule, self.limits)
        return Prepared(image, {"decode": time.perf_counter() - start})


class Postprocessor:
    """A prediction in, the answer in the asked format out, at the photo's own size. Safe for threads."""

    def __init__(self, spec: SegmenterSpec, limits: ImageLimits, model_version: str) -> None:
        self.spec, self.limits, self.model_version = spec, limits, model_version
        cv2.setNumThreads(1)

    def __call__(self, predicted: Predicted, query: Query, photo: bytes | np.ndarray | None) -> Answer:
        """`photo` is the request's image for the formats that draw on it (`Format.needs_photo`), else None."""
        start = time.perf_counter()
        class_map = restore_class_map(predicted.prediction)
        restored = time.perf_counter()
        pixels = None if photo is None else as_image(photo, self.limits)
        body = encode(query, Content(class_map, predicted.prediction, self.spec.label_set, self.model_version, pixels))
        times_s = predicted.times_s | {"restore": restored - start, "encode": time.perf_counter() - restored}
        return Answer(body, query.format.media_type, predicted.batch_size, times_s)
