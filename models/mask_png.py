"""Class maps as PNG files whose palette shows the classes' colours."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from models.label_set import IGNORE_INDEX, LabelSet


def encode_mask_png(class_map: np.ndarray, label_set: LabelSet) -> bytes:
    """An index PNG of `class_map` (h, w) uint8: a pixel's value is the class's index, 1, 2, 4 or 8 bits deep.

    Where pixels have no class (`IGNORE_INDEX`), it is 8 bits deep, and they are black.
    """
    num_values = IGNORE_INDEX + 1 if class_map.max() == IGNORE_INDEX else len(label_set)
    colors = bytes(value for label in label_set.labels for value in label.color)
    image = Image.fromarray(class_map, "P")
    image.putpalette(colors.ljust(3 * num_values, b"\0"))
    bits = next(bits for bits in (1, 2, 4, 8) if num_values <= 2**bits)
    file = io.BytesIO()
    image.save(file, "PNG", bits=bits, compress_level=3)
    return file.getvalue()
