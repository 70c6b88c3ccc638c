"""JSON Schemas of the answers that are JSON."""

from __future__ import annotations


def object_of(description: str, **properties: dict) -> dict:
    return {"type": "object", "description": description, "properties": properties, "required": list(properties)}


def list_of(schema: dict) -> dict:
    return {"type": "array", "items": schema}


def _tuple_of(schema: dict, length: int) -> dict:
    return {"type": "array", "items": schema, "minItems": length, "maxItems": length}


_STRING = {"type": "string"}
_PLACE = {"type": "integer", "minimum": 0}
_COUNT = {"type": "integer", "minimum": 1}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_CORNER = _tuple_of(_PLACE, 2)
SIZE = {**_tuple_of(_COUNT, 2), "description": "[height, width]"}
INDEX = {"type": "integer", "minimum": 0, "maximum": 254}

_RUN_LENGTHS = object_of("COCO's compressed run-length encoding.", size=SIZE, counts=_STRING)
_POLYGONS = {
    **list_of(list_of({**list_of(_CORNER), "minItems": 4})),
    "description": "Polygons, which meet at corners of pixels at most. A polygon is a list of rings: the exterior, then its holes. "
    "A ring is a list of corners [x, y] in pixels, not repeated at the end; pixel (x, y) is the square from [x, y] to [x + 1, y + 1]. "
    "Filling gives exactly the object's pixels.",
}


def _segmented_object(segmentation: dict) -> dict:
    return object_of(
        "A connected region of one class; background is not listed.",
        **{"class": _STRING},
        class_index=INDEX,
        score={**_SHARE, "description": "Mean confidence of its pixels."},
        box={**_tuple_of(_PLACE, 4), "description": "[x, y, width, height]"},
        area={**_COUNT, "description": "In pixels."},
        segmentation=segmentation,
    )


def _segmentation(objects: str) -> dict:
    return object_of(
        "What is where in the photo, in pixels of the photo as a person sees it (EXIF orientation applied).",
        model_version=_STRING,
        size=SIZE,
        objects=list_of({"$ref": f"#/components/schemas/{objects}"}),
        classes=list_of(object_of("A class's share of the pixels.", index=INDEX, name=_STRING, share=_SHARE)),
    )


_FEATURE = object_of(
    "An object.",
    type={"const": "Feature"},
    id=_COUNT,
    geometry=object_of("Rings are closed.", type={"enum": ["Polygon", "MultiPolygon"]}, coordinates={"type": "array"}),
    properties=object_of("As in `Segmentation`.", id=_COUNT, **{"class": _STRING}, class_index=INDEX, score=_SHARE, area=_COUNT),
)
_SHAPE = object_of(
    "An object.",
    label=_STRING,
    points={**_tuple_of(_CORNER, 2), "description": "The first and the last pixel of its box."},
    shape_type={"const": "mask"},
    mask={**_STRING, "contentEncoding": "base64", "contentMediaType": "image/png"},
)
_BRUSH = object_of(
    "An object.",
    id=_STRING,
    type={"const": "brushlabels"},
    original_width=_COUNT,
    original_height=_COUNT,
    score=_SHARE,
    value=object_of(
        "Its mask.",
        format={"const": "rle"},
        rle=list_of({"type": "integer", "minimum": 0, "maximum": 255}),
        brushlabels=_tuple_of(_STRING, 1),
    ),
)

ANSWER_SCHEMAS = {
    "Segmentation": _segmentation("SegmentedObject"),
    "SegmentedObject": _segmented_object(_RUN_LENGTHS),
    "PolygonSegmentation": _segmentation("PolygonObject"),
    "PolygonObject": _segmented_object(_POLYGONS),
    "FeatureCollection": object_of(
        "GeoJSON (RFC 7946), but coordinates are pixels of the photo, x to the right and y down, not degrees.",
        type={"const": "FeatureCollection"},
        model_version=_STRING,
        size=SIZE,
        features=list_of(_FEATURE),
    ),
    "LabelMe": object_of(
        "A file that LabelMe opens where the photo lies beside it.",
        version=_STRING,
        shapes=list_of(_SHAPE),
        imagePath=_STRING,
        imageData={"type": "null"},
        imageHeight=_COUNT,
        imageWidth=_COUNT,
    ),
    "LabelStudio": list_of(
        object_of(
            "A task for Label Studio's template for masks: an image `image`, brush labels `tag`.",
            data=object_of("What is labelled.", image=_STRING),
            predictions=list_of(object_of("The answer.", model_version=_STRING, result=list_of(_BRUSH))),
        )
    ),
}

# by the names of formats
FORMAT_SCHEMAS = {
    "json": "Segmentation",
    "polygons": "PolygonSegmentation",
    "geojson": "FeatureCollection",
    "labelme": "LabelMe",
    "label_studio": "LabelStudio",
}
