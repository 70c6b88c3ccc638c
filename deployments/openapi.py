"""The interface's own description, OpenAPI 3.1, made from the tables that it is answered from."""

from __future__ import annotations

from deployments.formats import FORMATS, JSON
from deployments.openapi_v2 import SCHEMAS as V2_SCHEMAS
from deployments.openapi_v2 import v2_paths
from deployments.problems import MEDIA_TYPE, PROBLEMS

_PIXEL_BOX = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 4, "maxItems": 4}
_SIZE = {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 2, "maxItems": 2, "description": "[height, width]"}
_INDEX = {"type": "integer", "minimum": 0, "maximum": 254}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_IMAGE = {"type": "string", "format": "binary"}


def _object(description: str, **properties: dict) -> dict:
    return {"type": "object", "description": description, "properties": properties, "required": list(properties)}


def _list(schema: dict) -> dict:
    return {"type": "array", "items": schema}


SCHEMAS = {
    "Segmentation": _object(
        "What is where in the photo, in pixels of the photo as a person sees it (EXIF orientation applied).",
        model_version={"type": "string"},
        size=_SIZE,
        objects=_list({"$ref": "#/components/schemas/SegmentedObject"}),
        classes=_list(_object("A class's share of the pixels.", index=_INDEX, name={"type": "string"}, share=_SHARE)),
    ),
    "SegmentedObject": _object(
        "A connected region of one class; background is not listed.",
        **{"class": {"type": "string"}},
        class_index=_INDEX,
        score={**_SHARE, "description": "Mean confidence of its pixels."},
        box={**_PIXEL_BOX, "description": "[x, y, width, height]"},
        area={"type": "integer", "minimum": 1, "description": "In pixels."},
        segmentation=_object("COCO's compressed run-length encoding.", size=_SIZE, counts={"type": "string"}),
    ),
    "Model": _object(
        "The model that answers and what it takes.",
        model_version={"type": "string"},
        labels=_list(
            _object(
                "A pixel of the index PNG with the value `index` is of this class; `color` is [red, green, blue].",
                index=_INDEX,
                name={"type": "string"},
                color={"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}, "minItems": 3, "maxItems": 3},
            )
        ),
        background={"type": ["integer", "null"], "description": "The index of the class that means none of the others."},
        input_size={**_SIZE, "description": "[height, width] of what the network sees; photos may have any size."},
        limits=_object("What is refused before decoding.", max_body_bytes={"type": "integer"}, max_pixels={"type": "integer"}),
        formats=_list(_object("A form of the answer.", name={"type": "string"}, media_type={"type": "string"})),
    ),
    "Status": _object("The state of the server.", status={"type": "string", "const": "ok"}),
    "Problem": _object(
        "Problem details, RFC 9457.",
        type={"type": "string", "examples": [f"urn:maskworks:problem:{PROBLEMS[0][1].name}"]},
        title={"type": "string"},
        status={"type": "integer"},
        detail={"type": "string", "description": "What is wrong, the rule, and what to do."},
        request_id={"type": ["string", "null"]},
    ),
}

_KEYS = {  # for /v1, where the operator asks for one
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_HEADERS = {
    "X-Model-Version": {"description": "The model version that made the answer.", "schema": {"type": "string"}},
    "X-Batch-Size": {"description": "How many requests shared the forward pass.", "schema": {"type": "integer"}},
    "Server-Timing": {"description": "Where the time went: each part and the total, in milliseconds.", "schema": {"type": "string"}},
}


def describe(model_version: str) -> dict:
    """The OpenAPI document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Maskworks",
            "version": "1",
            "summary": "Image segmentation: what is where in a photo.",
            "description": f"Served model: `{model_version}`.",
        },
        "paths": {
            "/v1/segment": {"post": _segment()},
            "/v1/model": {"get": _get("model", "The served model, its classes, limits and formats", "Model")},
            "/healthz": {"get": _get("health", "Whether the process lives", "Status")},
            "/readyz": {"get": _get("readiness", "Whether the whole graph answers", "Status")},
            **v2_paths(),
        },
        "components": {"schemas": SCHEMAS | V2_SCHEMAS, "securitySchemes": _KEYS},
        "security": [{}, *({name: []} for name in _KEYS)],
    }


def _segment() -> dict:
    answers = {each.media_type: {"schema": _IMAGE} for each in FORMATS}
    answers[JSON.media_type] = {"schema": {"$ref": "#/components/schemas/Segmentation"}}
    form = {"type": "object", "properties": {"image": _IMAGE}, "required": ["image"]}
    bodies = {"multipart/form-data": {"schema": form}, "image/*": {"schema": _IMAGE}, "application/octet-stream": {"schema": _IMAGE}}
    statuses = sorted({problem.status for _, problem in PROBLEMS} | {500})
    return {
        "operationId": "segment",
        "summary": "Segment a photo",
        "description": "\n".join(f"- `{each.name}` ({each.media_type}): {each.summary}" for each in FORMATS),
        "parameters": [
            {
                "name": "format",
                "in": "query",
                "description": "The form of the answer; overrides the Accept header.",
                "schema": {"type": "string", "enum": [each.name for each in FORMATS]},
            }
        ],
        "requestBody": {
            "required": True,
            "description": "JPEG, PNG, WebP, GIF or BMP: the file itself, or a form with one file in a field of any name.",
            "content": bodies,
        },
        "responses": {"200": {"description": "The answer in the asked form.", "headers": _HEADERS, "content": answers}}
        | {str(status): _problem(status) for status in statuses},
    }


def _get(operation: str, summary: str, schema: str) -> dict:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    responses = {"200": {"description": summary + ".", "content": content}, "503": _problem(503)}
    return {"operationId": operation, "summary": summary, "responses": responses}


def _problem(status: int) -> dict:
    titles = sorted({problem.title for _, problem in PROBLEMS if problem.status == status}) or ["Internal error"]
    return {"description": ", or: ".join(titles) + ".", "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
