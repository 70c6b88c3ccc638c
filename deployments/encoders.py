"""Writes an answer in the form that was asked for."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from deployments.query import Query
from models.label_set import LabelSet
from models.mask_png import encode_mask_png
from models.objects import find_objects
from models.overlay import draw_overlay
from models.prediction import Prediction
from models.restore import restore_confidence


@dataclass(frozen=True)
class Content:
    """What an answer is made of. Shapes: class_map (h, w) uint8; photo (h, w, 3) uint8 RGB, None where none is drawn on."""

    class_map: np.ndarray
    prediction: Prediction
    label_set: LabelSet
    model_version: str
    photo: np.ndarray | None


def encode(query: Query, content: Content) -> bytes:
    """The answer's body."""
    return _ENCODERS[query.format.name](content)


def _encode_json(content: Content) -> bytes:
    labels = content.label_set.labels
    num_pixels = np.bincount(content.class_map.ravel(), minlength=len(labels))
    objects = find_objects(content.class_map, restore_confidence(content.prediction), content.label_set)
    answer = {
        "model_version": content.model_version,
        "size": list(content.class_map.shape),
        "objects": [
            {
                "class": labels[each.class_index].name,
                "class_index": each.class_index,
                "score": each.score,
                "box": list(each.box),
                "area": each.area,
                "segmentation": each.rle,
            }
            for each in objects
        ],
        "classes": [
            {"index": label.index, "name": label.name, "share": round(int(num_pixels[label.index]) / content.class_map.size, 6)}
            for label in labels
        ],
    }
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()


def _encode_mask(content: Content) -> bytes:
    return encode_mask_png(content.class_map, content.label_set)


def _encode_overlay(content: Content) -> bytes:
    file = io.BytesIO()
    picture = draw_overlay(content.photo, content.class_map, content.label_set)
    Image.fromarray(picture).save(file, "PNG", compress_level=3)
    return file.getvalue()


def _encode_npy(content: Content) -> bytes:
    file = io.BytesIO()
    np.save(file, content.class_map, allow_pickle=False)
    return file.getvalue()


def _encode_confidence(content: Content) -> bytes:
    file = io.BytesIO()
    Image.fromarray(restore_confidence(content.prediction)).save(file, "PNG", compress_level=3)
    return file.getvalue()


_ENCODERS: dict[str, Callable[[Content], bytes]] = {
    "json": _encode_json,
    "png": _encode_mask,
    "overlay": _encode_overlay,
    "npy": _encode_npy,
    "confidence": _encode_confidence,
}
