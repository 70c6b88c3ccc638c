"""How an image of any size fits the model's input, and where in that input it lies. `restore.py` is the inverse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from models.image import DEFAULT_LIMITS, ImageLimits, as_image
from models.label_set import IGNORE_INDEX

FitRule = Literal["letterbox", "stretch"]
PAD_COLOR = (124, 116, 104)  # ImageNet's mean colour: zero after normalisation


@dataclass(frozen=True)
class Content:
    """The rectangle of the model's input that the image fills, in pixels; the rest is padding."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


@dataclass(frozen=True)
class InputImage:
    """An image as the model takes it: `pixels` (H, W, 3) uint8, its `content`, and the (height, width) it came with."""

    pixels: np.ndarray
    content: Content
    original_size: tuple[int, int]
    is_tile: bool = False
    """A part of a larger image; what the network says of it is to be blended with its neighbours (`models/tiling.py`)."""


def content_of(original_size: tuple[int, int], input_size: tuple[int, int], rule: FitRule) -> Content:
    """Where an image of `original_size` lies in `input_size` (both height, width).

    `letterbox` keeps the shape of things and centres the image; `stretch` fills the input. At least one pixel each way.
    """
    (h, w), (H, W) = original_size, input_size
    if rule == "stretch":
        return Content(0, 0, H, W)
    scale = min(H / h, W / w)
    height, width = max(1, min(H, round(h * scale))), max(1, min(W, round(w * scale)))
    return Content((H - height) // 2, (W - width) // 2, height, width)


def fit_image(image: np.ndarray, input_size: tuple[int, int], rule: FitRule) -> InputImage:
    """`image` (h, w, 3) uint8 resized into `input_size` (height, width), padded with the mean colour."""
    content = content_of(image.shape[:2], input_size, rule)
    shrinks = content.height < image.shape[0] or content.width < image.shape[1]
    resized = cv2.resize(image, (content.width, content.height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    pixels = np.empty((*input_size, 3), np.uint8)
    pixels[:] = PAD_COLOR
    pixels[content.slices] = resized
    return InputImage(pixels, content, image.shape[:2])


def fit_mask(mask: np.ndarray, input_size: tuple[int, int], rule: FitRule, *, padding: int = IGNORE_INDEX) -> np.ndarray:
    """`mask` (h, w) uint8 or int16 sampled at the cells of `fit_image`, (H, W) of the same type."""
    content = content_of(mask.shape, input_size, rule)
    fitted = np.full(input_size, padding, mask.dtype)
    size = (content.width, content.height)
    fitted[content.slices] = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)
    return fitted


def preprocess(data: bytes | np.ndarray, input_size: tuple[int, int], rule: FitRule, limits: ImageLimits = DEFAULT_LIMITS) -> InputImage:
    """An image, a file's bytes or decoded (h, w, 3) uint8 RGB, as the model takes it: the one way in for training and serving.

    Raises `models.image.InvalidImage` and its `ImageTooLarge`.
    """
    return fit_image(as_image(data, limits), input_size, rule)
