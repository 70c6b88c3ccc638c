"""Pictures that show a person what a model has learnt, and where it errs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from models.boundary import band_width, edges, near
from models.fit import fit_image, fit_mask
from models.image import NO_LIMITS, decode_image
from models.label_set import IGNORE_INDEX, LabelSet
from models.overlay import draw_overlay
from models.segmenter import Segmenter
from pipelines.counting import predict_class_map
from pipelines.data.records import Record

_CELL = (300, 400)
_RULE = 4  # pixels between cells
_TITLE_HEIGHT = 24
# Of the edges; told apart by colour-blind people.
_FOUND, _FALSE, _MISSED = (255, 255, 255), (255, 120, 0), (60, 170, 255)
_LEGEND = (("edges:  found", _FOUND), ("false", _FALSE), ("missed", _MISSED))


@dataclass(frozen=True)
class Comparison:
    """A photo (h, w, 3) uint8 with what people and a model say of it, both (h, w) uint8, and a line of text."""

    title: str
    photo: np.ndarray
    mask: np.ndarray
    predicted: np.ndarray

    @classmethod
    def of(cls, record: Record, predicted: np.ndarray, title: str) -> Comparison:
        """The comparison of a record with the class map that a model predicts for it."""
        data, mask = record.read()
        return cls(title, decode_image(data, NO_LIMITS), mask, predicted)

    def shrunk(self) -> Comparison:
        """The same at the size of a cell, so that what is drawn over it stays readable."""
        fitted = fit_image(self.photo, _CELL, "letterbox")
        mask, predicted = (fit_mask(each, _CELL, "letterbox")[fitted.content.slices] for each in (self.mask, self.predicted))
        return Comparison(self.title, np.ascontiguousarray(fitted.pixels[fitted.content.slices]), mask.copy(), predicted.copy())


def prediction_sheet(segmenter: Segmenter, records: Sequence[Record]) -> np.ndarray:
    """A row per record: the photo, what people drew, what the model says; (h, w, 3) uint8."""
    label_set = segmenter.spec.label_set
    compared = [Comparison.of(record, predict_class_map(segmenter, record), "").shrunk() for record in records]
    return cv2.vconcat([cv2.hconcat([_cell(cell) for cell in _three_cells(each, label_set)]) for each in compared])


def error_sheet(comparisons: Sequence[Comparison], label_set: LabelSet) -> np.ndarray:
    """A titled row per comparison: the photo, what people drew, what the model says, and which edges are wrong; (h, w, 3) uint8."""
    rows = []
    for comparison in comparisons:
        shrunk = comparison.shrunk()
        cells = [*_three_cells(shrunk, label_set), draw_edge_errors(shrunk, label_set)]
        row = cv2.hconcat([_cell(cell) for cell in cells])
        rows += [_title(comparison.title, row.shape[1]), row]
    return cv2.vconcat(rows)


def draw_mask(photo: np.ndarray, mask: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """The photo with its true class map over it; ignored pixels are grey."""
    ignored = mask == IGNORE_INDEX
    drawn = draw_overlay(photo, np.where(ignored, label_set.background or 0, mask).astype(np.uint8), label_set)
    drawn[ignored] = 128
    return drawn


def draw_edge_errors(compared: Comparison, label_set: LabelSet) -> np.ndarray:
    """The photo, dark and grey, with the edges of all classes but background: found, false and missed ones, a colour each.

    An edge is found where one of the same class is in the mask, as near as boundary IoU allows.
    """
    grey = cv2.cvtColor(compared.photo, cv2.COLOR_RGB2GRAY) // 2
    picture = cv2.merge([grey] * 3)
    ignored = compared.mask == IGNORE_INDEX
    predicted = np.where(ignored, IGNORE_INDEX, compared.predicted).astype(np.uint8)
    distance = band_width(grey.shape)
    for index in label_set.foreground:
        true, claimed = (edges(each) & (each == index) for each in (compared.mask, predicted))
        is_found = claimed.astype(bool) & near(true, distance)
        for places, color in (
            (is_found, _FOUND),
            (claimed.astype(bool) & ~is_found, _FALSE),
            (true.astype(bool) & ~near(claimed, distance), _MISSED),
        ):
            picture[places] = color
    return picture


def _three_cells(compared: Comparison, label_set: LabelSet) -> list[np.ndarray]:
    photo = compared.photo
    return [photo, draw_mask(photo, compared.mask, label_set), draw_overlay(photo, compared.predicted, label_set)]


def _cell(picture: np.ndarray) -> np.ndarray:
    fitted = fit_image(picture, _CELL, "letterbox").pixels
    return cv2.copyMakeBorder(fitted, 0, _RULE, 0, _RULE, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def _title(text: str, width: int) -> np.ndarray:
    line = Image.new("RGB", (width, _TITLE_HEIGHT), (30, 30, 30))
    draw, font = ImageDraw.Draw(line), ImageFont.load_default(size=_TITLE_HEIGHT * 2 // 3)
    draw.text((6, 3), text, font=font, fill="white")
    x = width - _CELL[1]
    for name, color in _LEGEND:
        draw.text((x, 3), name, font=font, fill=color)
        x += int(font.getlength(name)) + 16
    return np.array(line)
