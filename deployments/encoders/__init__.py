"""Writes an answer in the form that was asked for: one function for each line of the table in `deployments.formats`."""

from __future__ import annotations

from collections.abc import Callable

from deployments.encoders import annotation_tools, listings, pictures
from deployments.encoders.content import Content, Selection
from deployments.query import Query

__all__ = ["ENCODERS", "Content", "encode"]

ENCODERS: dict[str, Callable[[Selection], bytes]] = {
    "json": listings.encode_json,
    "png": pictures.encode_index,
    "overlay": pictures.encode_overlay,
    "overlay_jpeg": pictures.encode_overlay_jpeg,
    "overlay_webp": pictures.encode_overlay_webp,
    "polygons": listings.encode_polygons,
    "geojson": listings.encode_geojson,
    "labelme": annotation_tools.encode_labelme,
    "label_studio": annotation_tools.encode_label_studio,
    "cvat": annotation_tools.encode_cvat,
    "confidence": pictures.encode_confidence,
    "npy": pictures.encode_npy,
}


def encode(query: Query, content: Content) -> bytes:
    """The answer's body. Raises `InvalidRequest` where the format cannot hold this answer."""
    return ENCODERS[query.format.name](Selection(query, content))
