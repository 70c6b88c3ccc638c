"""COCO instances over one photo: polygons, run lengths, crowds, and photos whose EXIF turns them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from faster_coco_eval import mask as coco_mask

from models.image import orient, stored_and_upright_size
from models.instance_mask import InstanceMask
from models.label_set import IGNORE_INDEX
from pipelines.data.records import InvalidData


@dataclass(frozen=True)
class CocoObject:
    """One annotation: its class index, COCO segmentation (polygons or run lengths), whether it marks a crowd, its id in the file."""

    class_index: int
    segmentation: list | dict
    is_crowd: bool
    id: object = None


@dataclass(frozen=True)
class CocoAnnotation:
    """The objects of one image in the frame of `size`, the (height, width) that the file states, or None."""

    objects: tuple[CocoObject, ...]
    background: int
    size: tuple[int, int] | None

    def class_map(self, image: bytes) -> np.ndarray:
        """Class index per pixel of the upright image, (h, w) uint8; crowds are ignored, smaller objects lie on larger ones.

        Annotations may be in the upright frame, or in the frame of the file before EXIF turns it; the stated size tells
        which, and upright is taken where it fits both. Raises `InvalidData` where it fits neither.
        """
        values = [IGNORE_INDEX if each.is_crowd else each.class_index for each in self.objects]
        return self._upright(image, lambda size: self._paint(np.full(size, self.background, np.uint8), values))

    def instance_map(self, image: bytes) -> np.ndarray:
        """Which object each pixel shows, (h, w) int32, numbered from 1 as they are listed; crowds are 0. Raises as `class_map`."""
        numbers = [0 if each.is_crowd else number for number, each in enumerate(self.objects, 1)]
        return self._upright(image, lambda size: self._paint(np.zeros(size, np.int32), numbers))

    def instances(self, image: bytes) -> list[InstanceMask]:
        """Each object whole, also where another hides it, as people drew it. Raises as `class_map`."""
        return [
            InstanceMask(each.class_index, _encode(self._upright(image, partial(_rasterize, each.segmentation))), is_crowd=each.is_crowd)
            for each in self.objects
        ]

    def frame(self, image: bytes) -> tuple[tuple[int, int], tuple[int, int]]:
        """The (height, width) that the objects are drawn in, and the upright image's. Raises `InvalidData` where they do not fit."""
        stored, upright = stored_and_upright_size(image)
        size = self.size or upright
        if size not in (stored, upright):
            raise InvalidData(
                f"the annotations are for {size[1]} x {size[0]} pixels, the photo has {upright[1]} x {upright[0]}; correct width and height, or the polygons, in the JSON",
                "size-mismatch",
            )
        return size, upright

    def content(self) -> bytes:
        """What decides all maps, as bytes."""
        return repr(self).encode()

    def _upright(self, image: bytes, draw: Callable[[tuple[int, int]], np.ndarray]) -> np.ndarray:
        """What `draw` gives for the annotations' own size, as a person sees it."""
        size, upright = self.frame(image)
        drawn = draw(size)
        return drawn if size == upright else orient(drawn, image)

    def _paint(self, canvas: np.ndarray, values: list[int]) -> np.ndarray:
        """`canvas` with each object's value over it, in an order that leaves smaller objects on larger ones, and these on crowds."""
        codes = [run_lengths(each.segmentation, canvas.shape) for each in self.objects]
        order = sorted(range(len(codes)), key=lambda index: (not self.objects[index].is_crowd, -int(coco_mask.area(codes[index]))))
        for index in order:
            canvas[_decode(codes[index]) > 0] = values[index]
        return canvas


def run_lengths(segmentation: list | dict, size: tuple[int, int]) -> dict:
    """The object's compressed run lengths in a picture of `size` (height, width). Raises `InvalidData`."""
    h, w = size
    if isinstance(segmentation, dict) and list(segmentation.get("size", ())) != [h, w]:
        raise InvalidData(
            f"run lengths are for {segmentation.get('size')}, the image is {[h, w]} (height, width); export them again", "size-mismatch"
        )
    try:
        if isinstance(segmentation, list):
            return coco_mask.merge(coco_mask.frPyObjects(segmentation, h, w))
        return coco_mask.frPyObjects(segmentation, h, w) if isinstance(segmentation["counts"], list) else segmentation
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise InvalidData(f"a segmentation cannot be read ({error}); export it as polygons or run lengths") from error


def _rasterize(segmentation: list | dict, size: tuple[int, int]) -> np.ndarray:
    """The object's pixels, (h, w) uint8, 0 and 1."""
    return _decode(run_lengths(segmentation, size))


def _decode(code: dict) -> np.ndarray:
    try:
        return coco_mask.decode(code)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InvalidData(f"a segmentation cannot be read ({error}); export it as polygons or run lengths") from error


def _encode(region: np.ndarray) -> dict:
    """COCO's compressed run lengths of `region` (h, w) uint8."""
    code = coco_mask.encode(np.asfortranarray(region))
    return {"size": list(region.shape), "counts": code["counts"].decode("ascii")}
