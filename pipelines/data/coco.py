"""COCO instances as semantic masks: polygons, run lengths, crowds, and photos whose EXIF turns them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from faster_coco_eval import mask as coco_mask

from models.image import orient, stored_and_upright_size
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
        size, upright = self.frame(image)
        drawn = self._draw(size)
        return drawn if size == upright else orient(drawn, image)

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
        return repr(self).encode()

    def _draw(self, size: tuple[int, int]) -> np.ndarray:
        class_map = np.full(size, self.background, np.uint8)
        regions = [
            (_rasterize(each.segmentation, size), IGNORE_INDEX if each.is_crowd else each.class_index, each) for each in self.objects
        ]
        for region, value, _ in sorted(regions, key=lambda entry: (not entry[2].is_crowd, -int(entry[0].sum()))):
            class_map[region] = value
        return class_map


def _rasterize(segmentation: list | dict, size: tuple[int, int]) -> np.ndarray:
    """The object's pixels, (h, w) bool."""
    try:
        return coco_mask.decode(run_lengths(segmentation, size)).astype(bool)
    except (RuntimeError, ValueError) as error:
        raise InvalidData(f"a segmentation cannot be read ({error}); export it as polygons or run lengths") from error


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
