"""Masks that are stored as index PNG files: the annotation that two readers share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from models.image import orient, stored_and_upright_size
from models.label_set import IGNORE_INDEX
from pipelines.data.records import InvalidData

_INDEX_MODES = ("L", "P", "1")
_COLOUR_MODES = ("RGB", "RGBA", "LA")


@dataclass(frozen=True)
class MaskFile:
    """An index PNG over the image; pixel value minus `first_value` is the class index, `IGNORE_INDEX` stays."""

    path: Path
    num_classes: int
    first_value: int = 0
    grey_as_index: bool = False
    """A colour picture whose channels are all equal is read as one of them."""
    white_as_first_class: bool = False
    """255 is class 1, not ignored."""

    def class_map(self, image: bytes) -> np.ndarray:
        """The class index per pixel of the upright image, (h, w) uint8. Raises `InvalidData` with the file's name.

        A mask of the size that the image has before EXIF turns it was drawn over that, and is turned along.
        """
        values = self._values()
        stored, upright = stored_and_upright_size(image)
        if values.shape not in (stored, upright):
            raise InvalidData(
                f"{self.path.name} is {values.shape[1]} x {values.shape[0]}, its image {upright[1]} x {upright[0]}; export the mask at the image's size",
                "size-mismatch",
            )
        present = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
        self._check(present)
        if self.white_as_first_class:
            indices = np.where(values == IGNORE_INDEX, 1, values)
        else:
            indices = np.where(values == IGNORE_INDEX, IGNORE_INDEX, values - self.first_value)
        indices = indices.astype(np.uint8)
        return indices if values.shape == upright else orient(indices, image)

    def instance_map(self, image: bytes) -> None:
        """None: a class map does not tell two touching objects apart."""

    def instances(self, image: bytes) -> None:
        """None, as for `instance_map`."""

    def content(self) -> bytes:
        """What decides the class map, as bytes."""
        return repr((self.num_classes, self.first_value, self.grey_as_index, self.white_as_first_class)).encode() + self.path.read_bytes()

    def size(self) -> tuple[int, int]:
        """(height, width) by the header. Raises `InvalidData`."""
        with self._open() as image:
            return image.height, image.width

    def _open(self) -> Image.Image:
        try:
            return Image.open(self.path, formats=("PNG",))
        except FileNotFoundError as error:
            raise InvalidData(f"{self.path.name} does not exist; bring the mask, or remove the image", "missing-pair") from error
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InvalidData(f"{self.path.name} cannot be read as PNG ({error}); export the mask again") from error

    def _values(self) -> np.ndarray:
        with self._open() as image:
            try:
                if image.mode in _INDEX_MODES:
                    return np.array(image, np.uint8)
                channels = np.array(image) if image.mode in _COLOUR_MODES else None
            except (OSError, SyntaxError, ValueError) as error:
                raise InvalidData(f"{self.path.name} cannot be read as PNG ({error}); export the mask again") from error
            if self.grey_as_index and is_grey(channels):
                return np.ascontiguousarray(channels[..., 0])
            raise InvalidData(
                f"{self.path.name} is a {image.mode} picture; a mask has one channel of class indices: convert its colours to indices",
                "colour-mask",
            )

    def _check(self, present: np.ndarray) -> None:
        if set(present.tolist()) == {0, IGNORE_INDEX} and not self.white_as_first_class:
            raise InvalidData(
                f"{self.path.name} holds only 0 and 255, and 255 means ignored; write the class's index instead of 255", "binary-mask"
            )
        last = self.first_value + self.num_classes - 1
        wrong = [int(value) for value in present if not self.first_value <= value <= last and value != IGNORE_INDEX]
        if wrong:
            raise InvalidData(
                f"{self.path.name} holds the values {wrong[:5]}; classes are {self.first_value} to {last}, {IGNORE_INDEX} is ignored: export indices, or complete the label list",
                "unknown-value",
            )


def is_grey(channels: np.ndarray | None) -> bool:
    """Whether the colour channels of a picture (h, w, 2 to 4) uint8 are all equal."""
    if channels is None:
        return False
    colours = channels[..., :3] if channels.shape[-1] >= 3 else channels[..., :1]
    return bool((colours == colours[..., :1]).all())
