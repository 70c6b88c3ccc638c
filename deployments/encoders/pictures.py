"""Answers of pixels: the class map, the confidence, the photo with classes over it."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image

from deployments.encoders.content import Selection
from deployments.problems import InvalidRequest
from models.mask_png import encode_mask_png
from models.overlay import draw_overlay

_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP)  # one filter: no search for the best
_LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383}  # of the formats


def encode_index(selection: Selection) -> bytes:
    return encode_mask_png(selection.class_map, selection.content.label_set)


def encode_npy(selection: Selection) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(selection.class_map), allow_pickle=False)
    return file.getvalue()


def encode_confidence(selection: Selection) -> bytes:
    return _png(selection.confidence)


def encode_overlay(selection: Selection) -> bytes:
    return _png(cv2.cvtColor(_overlay(selection), cv2.COLOR_RGB2BGR))


def encode_overlay_jpeg(selection: Selection) -> bytes:
    return _lossy(selection, "JPEG", quality=90)


def encode_overlay_webp(selection: Selection) -> bytes:
    return _lossy(selection, "WEBP", quality=80, method=0)  # the slower methods gain next to nothing here


def _overlay(selection: Selection) -> np.ndarray:
    content = selection.content
    region_map = selection.found.region_map if content.prediction.instances else None
    return draw_overlay(content.photo, selection.class_map, content.label_set, region_map=region_map)


def _png(picture: np.ndarray) -> bytes:
    return cv2.imencode(".png", picture, _PNG)[1].tobytes()


def _lossy(selection: Selection, kind: str, **options: int) -> bytes:
    longest, limit = max(selection.class_map.shape), _LONGEST_SIDE[kind]
    if longest > limit:
        raise InvalidRequest(f"the photo has {longest} pixels on a side, {kind} holds at most {limit}; ask for format=overlay")
    file = io.BytesIO()
    Image.fromarray(_overlay(selection)).save(file, kind, **options)
    return file.getvalue()
