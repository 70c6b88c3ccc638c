"""A large image in overlapping tiles of the model's input size, and what the network says of them blended back into one prediction.

The image is made smaller only as far as it takes to need no more than a given number of tiles; that bounds time and memory
whatever the image's size: the blend takes 4 bytes for each class and each cell of the tiles.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from models.fit import PAD_COLOR, Content, InputImage
from models.label_set import LabelSet
from models.prediction import Prediction, interpret

_OVERLAP = 0.25  # of a tile's side, at least
_STEP = 0.97  # by which the image is made smaller until few enough tiles cover it


@dataclass(frozen=True)
class TilePlan:
    """Where tiles of `tile_size` lie on an image resized to `canvas_size` (both height, width): the product of both lists."""

    canvas_size: tuple[int, int]
    tile_size: tuple[int, int]
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    @property
    def corners(self) -> list[tuple[int, int]]:
        """(top, left) of each tile, row by row."""
        return [(top, left) for top in self.tops for left in self.lefts]


@dataclass(frozen=True)
class TiledImage:
    """An image as the model takes it in pieces: `tiles` in the order of the plan's corners."""

    plan: TilePlan
    tiles: tuple[InputImage, ...]
    original_size: tuple[int, int]


def plan_tiles(original_size: tuple[int, int], input_size: tuple[int, int], max_tiles: int) -> TilePlan:
    """The plan at the largest scale, at most 1, that needs at most `max_tiles`; one tile where the image fits the input."""
    scale = 1.0
    while True:
        canvas = tuple(max(1, round(side * scale)) for side in original_size)
        tile = tuple(min(pair) for pair in zip(canvas, input_size))
        tops, lefts = (_starts(*pair) for pair in zip(canvas, tile))
        if len(tops) * len(lefts) <= max_tiles:
            return TilePlan(canvas, tile, tops, lefts)
        scale *= _STEP


def cut_tiles(image: np.ndarray, plan: TilePlan, input_size: tuple[int, int]) -> TiledImage:
    """The tiles of `image` (h, w, 3) uint8, each padded to `input_size` where the image is narrower than that."""
    height, width = plan.canvas_size
    canvas = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)  # a copy where the size is the same
    (h, w), (H, W) = plan.tile_size, input_size
    content = Content((H - h) // 2, (W - w) // 2, h, w)
    tiles = []
    for top, left in plan.corners:
        pixels = np.empty((H, W, 3), np.uint8)
        pixels[:] = PAD_COLOR
        pixels[content.slices] = canvas[top : top + h, left : left + w]
        tiles.append(InputImage(pixels, content, plan.tile_size, is_tile=True))
    return TiledImage(plan, tuple(tiles), image.shape[:2])


def blend_tiles(plan: TilePlan, outputs: Iterable[np.ndarray], original_size: tuple[int, int], label_set: LabelSet) -> Prediction:
    """The prediction for the whole image from what `Segmenter.predict` gave for each tile, in the order of `plan.corners`.

    Where tiles overlap, each counts the more the farther the pixel is from that tile's edge. An object that no tile shows whole
    may become several.
    """
    h, w = plan.tile_size
    window = np.outer(_hat(h), _hat(w))
    total = None
    weight = np.zeros(plan.canvas_size, np.float32)
    for (top, left), tile in zip(plan.corners, outputs, strict=True):
        if total is None:
            total = np.zeros((len(tile), *plan.canvas_size), np.float32)
        place = slice(top, top + h), slice(left, left + w)
        total[:, *place] += tile * window
        weight[place] += window
    blended = np.divide(total, weight, out=total).astype(np.float16)
    probabilities = blended[: len(label_set)]
    confidence = np.rint(probabilities.max(axis=0).astype(np.float32) * 255).astype(np.uint8)
    return interpret(blended, probabilities.argmax(axis=0).astype(np.uint8), confidence, label_set, original_size)


def _starts(length: int, tile: int) -> tuple[int, ...]:
    """Evenly spread first pixels of tiles that cover `length` with at least `_OVERLAP`."""
    stride = max(1, int(tile * (1 - _OVERLAP)))
    num_tiles = 1 + -(-(length - tile) // stride)
    return tuple(round(start) for start in np.linspace(0, length - tile, num_tiles).tolist())


def _hat(length: int) -> np.ndarray:
    """Weights (length,) float32 that fall from the middle to both ends and stay above zero."""
    distance = np.minimum(np.arange(length), np.arange(length)[::-1]) + 0.5
    return (distance / distance.max()).astype(np.float32)
