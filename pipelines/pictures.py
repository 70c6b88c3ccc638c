"""Pictures that show a person what a model has learnt."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from models.fit import fit_image
from models.image import NO_LIMITS, decode_image
from models.label_set import IGNORE_INDEX, LabelSet
from models.overlay import draw_overlay
from models.restore import restore_class_map
from models.segmenter import Segmenter
from pipelines.data.records import Record

_CELL = (240, 320)
_RULE = 4  # pixels between cells


def prediction_sheet(segmenter: Segmenter, records: Sequence[Record]) -> np.ndarray:
    """A row per record: the photo, what people drew, what the model says; (h, w, 3) uint8."""
    rows = []
    for record in records:
        data, mask = record.read()
        photo = decode_image(data, NO_LIMITS)
        fitted = fit_image(photo, segmenter.spec.input_size, segmenter.spec.fit_rule)
        predicted = restore_class_map(segmenter.predict([fitted])[0])
        cells = [photo, draw_mask(photo, mask, segmenter.spec.label_set), draw_overlay(photo, predicted, segmenter.spec.label_set)]
        rows.append(cv2.hconcat([_cell(cell) for cell in cells]))
    return cv2.vconcat(rows)


def draw_mask(photo: np.ndarray, mask: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """The photo with its true class map over it; ignored pixels are grey."""
    ignored = mask == IGNORE_INDEX
    drawn = draw_overlay(photo, np.where(ignored, label_set.background or 0, mask).astype(np.uint8), label_set)
    drawn[ignored] = 128
    return drawn


def _cell(picture: np.ndarray) -> np.ndarray:
    fitted = fit_image(picture, _CELL, "letterbox").pixels
    return cv2.copyMakeBorder(fitted, 0, _RULE, 0, _RULE, cv2.BORDER_CONSTANT, value=(255, 255, 255))
