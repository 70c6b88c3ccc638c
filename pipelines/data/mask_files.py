"""Masks that are stored as index PNG files: the annotation that two readers share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from models.image import stored_and_upright_size
from models.label_set import IGNORE_INDEX
from pipelines.data.records import InvalidData

_INDEX_MODES = ("L", "P", "1")


@dataclass(frozen=True)
class MaskFile:
    """An index PNG over the upright image; pixel value minus `first_value` is the class index, `IGNORE_INDEX` stays."""

    path: Path
    num_classes: int
    first_value: int = 0

    def class_map(self, image: bytes) -> np.ndarray:
        """The class index per pixel, (h, w) uint8. Raises `InvalidData` with the file's name."""
        values = self._values()
        _, size = stored_and_upright_size(image)
        if values.shape != size:
            raise InvalidData(
                f"{self.path.name} is {values.shape[1]} x {values.shape[0]}, its image {size[1]} x {size[0]}; export the mask at the image's size"
            )
        self._check(np.unique(values))
        return np.where(values == IGNORE_INDEX, IGNORE_INDEX, values - self.first_value).astype(np.uint8)

    def instance_map(self, image: bytes) -> None:
        """None: a class map does not tell two touching objects apart."""

    def instances(self, image: bytes) -> None:
        """None, as for `instance_map`."""

    def _values(self) -> np.ndarray:
        try:
            with Image.open(self.path, formats=("PNG",)) as image:
                if image.mode not in _INDEX_MODES:
                    raise InvalidData(
                        f"{self.path.name} is a {image.mode} picture; a mask has one channel of class indices: convert its colours to indices"
                    )
                return np.array(image, np.uint8)
        except (OSError, SyntaxError) as error:
            raise InvalidData(f"{self.path.name} cannot be read as PNG ({error}); export the mask again") from error

    def _check(self, present: np.ndarray) -> None:
        last = self.first_value + self.num_classes - 1
        wrong = [int(value) for value in present if not self.first_value <= value <= last and value != IGNORE_INDEX]
        if wrong:
            raise InvalidData(
                f"{self.path.name} holds the values {wrong[:5]}; classes are {self.first_value} to {last}, {IGNORE_INDEX} is ignored: export indices, or complete the label list"
            )
        if set(present.tolist()) == {0, IGNORE_INDEX}:
            raise InvalidData(f"{self.path.name} holds only 0 and 255, and 255 means ignored; write the class's index instead of 255")
