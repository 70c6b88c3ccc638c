"""Pictures for people: the photo with the classes' colours, outlines and names over it."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from models.label_set import LabelSet

_SMALLEST_NAMED = 0.002  # of the picture's area; the names of smaller regions would hide the picture


def draw_overlay(photo: np.ndarray, class_map: np.ndarray, label_set: LabelSet, *, opacity: float = 0.45) -> np.ndarray:
    """The photo (h, w, 3) uint8 RGB with every class but background tinted, outlined and named; a new array."""
    palette = np.array([label.color for label in label_set.labels], np.float32)
    alpha = np.full(len(label_set), opacity, np.float32)
    if label_set.background is not None:
        alpha[label_set.background] = 0
    picture = _blend(photo, palette[class_map], alpha[class_map])
    contours = {index: _outlines(class_map == index) for index in label_set.foreground}
    thickness = max(1, round(min(class_map.shape) / 240))
    for index, outlines in contours.items():
        cv2.drawContours(picture, outlines, -1, label_set.labels[index].color, thickness)
    return _write_names(picture, contours, label_set)


def _blend(photo: np.ndarray, tint: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.rint(photo + (tint - photo) * alpha[..., None]).astype(np.uint8)


def _outlines(region: np.ndarray) -> list[np.ndarray]:
    return list(cv2.findContours(region.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0])


def _write_names(picture: np.ndarray, contours: dict[int, list[np.ndarray]], label_set: LabelSet) -> np.ndarray:
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=max(10, min(picture.shape[:2]) // 24))
    for index, outlines in contours.items():
        label = label_set.labels[index]
        for outline in outlines:
            x, y, width, height = cv2.boundingRect(outline)
            if width * height >= _SMALLEST_NAMED * picture.shape[0] * picture.shape[1]:
                _write_name(draw, label.name, (x + width / 2, y + height / 2), font, label.color)
    return np.array(image)


def _write_name(draw: ImageDraw.ImageDraw, name: str, center: tuple[float, float], font: ImageFont.FreeTypeFont, color: tuple) -> None:
    left, top, right, bottom = draw.textbbox(center, name, font=font, anchor="mm")
    draw.rectangle((left - 3, top - 2, right + 3, bottom + 2), fill=color)
    dark = sum(weight * value for weight, value in zip((0.299, 0.587, 0.114), color)) < 140
    draw.text(center, name, font=font, anchor="mm", fill="white" if dark else "black")
