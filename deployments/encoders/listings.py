"""Answers that list objects: with COCO run lengths, with polygons, as GeoJSON."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np

from deployments.encoders.content import Selection
from models.label_set import IGNORE_INDEX
from models.outlines import Polygon, find_polygons
from models.run_lengths import coco_run_lengths


def encode_json(selection: Selection) -> bytes:
    found = selection.found
    return _list_objects(selection, coco_run_lengths(found.region_map, len(found.objects)))


def encode_polygons(selection: Selection) -> bytes:
    found = find_polygons(selection.found)
    return _list_objects(selection, ([[ring.tolist() for ring in polygon] for polygon in polygons] for polygons in found))


def encode_geojson(selection: Selection) -> bytes:
    found = selection.found
    features = [
        {
            "type": "Feature",
            "id": number,
            "geometry": _geometry(polygons),
            "properties": {
                "id": number,
                "class": selection.label(each).name,
                "class_index": each.class_index,
                "score": each.score,
                "area": each.area,
            },
        }
        for number, (each, polygons) in enumerate(zip(found.objects, find_polygons(found)), 1)
    ]
    return dump_json(
        {
            "type": "FeatureCollection",
            "model_version": selection.content.model_version,
            "size": list(selection.class_map.shape),
            "features": features,
        }
    )


def dump_json(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _list_objects(selection: Selection, segmentations: Iterable[object]) -> bytes:
    class_map, labels = selection.class_map, selection.content.label_set.labels
    num_pixels = np.bincount(class_map.ravel(), minlength=IGNORE_INDEX + 1).tolist()
    objects = [
        {
            "class": selection.label(each).name,
            "class_index": each.class_index,
            "score": each.score,
            "box": list(each.box),
            "area": each.area,
            "segmentation": segmentation,
        }
        for each, segmentation in zip(selection.found.objects, segmentations)
    ]
    return dump_json(
        {
            "model_version": selection.content.model_version,
            "size": list(class_map.shape),
            "objects": objects,
            "classes": [
                {"index": label.index, "name": label.name, "share": round(num_pixels[label.index] / class_map.size, 6)} for label in labels
            ],
        }
    )


def _geometry(polygons: list[Polygon]) -> dict:
    closed = [[[*corners, corners[0]] for corners in (ring.tolist() for ring in polygon)] for polygon in polygons]
    if len(closed) == 1:
        return {"type": "Polygon", "coordinates": closed[0]}
    return {"type": "MultiPolygon", "coordinates": closed}
