"""Class maps as PNG files whose palette shows the classes' colours."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from models.label_set import LabelSet


def encode_mask_png(class_map: np.ndarray, label_set: LabelSet) -> bytes:
    """An index PNG of `class_map` (h, w) uint8: a pixel's value is the class's index, 1, 2, 4 or 8 bits deep."""
    image = Image.fromarray(class_map, "P")
    image.putpalette(bytes(value for label in label_set.labels for value in label.color))
    bits = next(bits for bits in (1, 2, 4, 8) if len(label_set) <= 2**bits)
    file = io.BytesIO()
    image.save(file, "PNG", bits=bits, compress_level=3)
    return file.getvalue()
