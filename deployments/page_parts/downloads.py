"""The answer as files, in every format of the service."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import streamlit as st

from deployments.client import Answer, suffix_of
from deployments.page_parts.photos import Photo, Source

TITLES = {  # of formats; the service may have others
    "overlay": "Picture with overlay, PNG",
    "overlay_jpeg": "Picture with overlay, JPEG",
    "overlay_webp": "Picture with overlay, WebP",
    "confidence": "Confidence, grey PNG",
    "png": "Mask, index PNG",
    "npy": "Mask, NumPy",
    "json": "Objects, JSON with COCO run lengths",
    "polygons": "Objects, JSON with polygons",
    "geojson": "GeoJSON",
    "labelme": "For LabelMe",
    "label_studio": "For Label Studio",
    "cvat": "For CVAT",
}


def offer_downloads(source: Source, model: dict, segment: Callable[[str], Answer]) -> None:
    """A button for each format of `model`. Only a click makes the file, with `segment`, at the photo's full size."""
    known = list(TITLES)
    formats = sorted(model["formats"], key=lambda each: known.index(each["name"]) if each["name"] in known else len(known))
    with st.container(horizontal=True, gap="small"):
        for each in formats:
            st.download_button(
                TITLES.get(each["name"], each["name"]),
                partial(_file, segment, each["name"]),
                file_name=f"{Path(source.name).stem}-{each['name']}{suffix_of(each['name'])}",
                mime=each["media_type"],
                on_click="ignore",
                key=f"download {each['name']}",
            )


def _file(segment: Callable[[str], Answer], format: str) -> bytes:
    return segment(format).body


def offer_counts(photos: Iterable[Photo], least_score: float) -> None:
    """A button for the shopping list: how many of each class in each photo, and their share of its area."""
    file = io.StringIO()
    table = csv.writer(file)
    table.writerow(["photo", "class", "count", "share"])
    for photo in photos:
        objects, area = photo.objects(least_score), math.prod(photo.answer["size"])
        for name, count in Counter(each["class"] for each in objects).most_common():
            share = sum(each["area"] for each in objects if each["class"] == name) / area
            table.writerow([photo.source.name, name, count, f"{share:.4f}"])
    st.download_button("Counts, CSV", file.getvalue(), "counts.csv", "text/csv", on_click="ignore", type="primary")
