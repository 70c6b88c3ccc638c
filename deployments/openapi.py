"""The interface's own description, OpenAPI 3.1, made from the tables that it is answered from."""

from __future__ import annotations

from deployments.answer_schemas import ANSWER_SCHEMAS, FORMAT_SCHEMAS, INDEX, SIZE, list_of, object_of
from deployments.formats import FORMATS
from deployments.openapi_v2 import SCHEMAS as V2_SCHEMAS
from deployments.openapi_v2 import v2_paths
from deployments.problems import MEDIA_TYPE, PROBLEMS
from deployments.query import DEADLINE_HEADER, LANE_HEADER

_IMAGE = {"type": "string", "format": "binary"}

SCHEMAS = ANSWER_SCHEMAS | {
    "Model": object_of(
        "The model that answers and what it takes.",
        name={"type": "string"},
        model_version={"type": "string"},
        labels=list_of(
            object_of(
                "A pixel of the index PNG with the value `index` is of this class; `color` is [red, green, blue].",
                index=INDEX,
                name={"type": "string"},
                color={"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}, "minItems": 3, "maxItems": 3},
            )
        ),
        background={"type": ["integer", "null"], "description": "The index of the class that means none of the others."},
        instances={"type": "boolean", "description": "Whether touching objects of one class are told apart."},
        input_size={**SIZE, "description": "[height, width] of what the network sees; photos may have any size."},
        limits=object_of("What is refused before decoding.", max_body_bytes={"type": "integer"}, max_pixels={"type": "integer"}),
        formats=list_of(object_of("A form of the answer.", name={"type": "string"}, media_type={"type": "string"})),
    ),
    "Models": object_of(
        "The models of the service, the default one first.",
        models=list_of(
            object_of(
                "One of them.",
                name={"type": "string"},
                model_version={"type": ["string", "null"], "description": "Null where it is loaded when first asked for."},
            )
        ),
    ),
    "Status": object_of("The state of the server.", status={"type": "string", "const": "ok"}),
    "Problem": object_of(
        "Problem details, RFC 9457.",
        type={"type": "string", "examples": [f"urn:maskworks:problem:{PROBLEMS[0][1].name}"]},
        title={"type": "string"},
        status={"type": "integer"},
        detail={"type": "string", "description": "What is wrong, the rule, and what to do."},
        request_id={"type": ["string", "null"]},
    ),
}

_KEYS = {  # for /v1 and /v2/models, where the operator asks for one
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_HEADERS = {
    "X-Model-Version": {"description": "The model version that made the answer.", "schema": {"type": "string"}},
    "X-Batch-Size": {"description": "How many requests shared the forward pass.", "schema": {"type": "integer"}},
    "Server-Timing": {"description": "Where the time went: each part and the total, in milliseconds.", "schema": {"type": "string"}},
}


# name, where, what it says, its schema
_PARAMETERS = (
    (
        "format",
        "query",
        "The form of the answer; overrides the Accept header.",
        {"type": "string", "enum": [each.name for each in FORMATS]},
    ),
    (
        "classes",
        "query",
        "Names of the classes to answer with, separated by commas; the pixels of others become background, or 255 without background.",
        {"type": "string", "examples": ["cat,dog"]},
    ),
    (
        "min_score",
        "query",
        "Objects with a lower score are left out; their pixels become background, or 255 without background.",
        {"type": "number", "minimum": 0, "maximum": 1, "default": 0},
    ),
    (
        "tiling",
        "query",
        "`auto`: a photo much larger than the model's input is looked at in overlapping pieces, which finds smaller things and takes longer.",
        {"type": "string", "enum": ["off", "auto"], "default": "off"},
    ),
    (
        "name",
        "query",
        "What the formats for annotation tools call the photo.",
        {"type": "string", "minLength": 1, "maxLength": 255, "default": "image"},
    ),
    (
        DEADLINE_HEADER,
        "header",
        "Milliseconds after which the answer is of no use; work that has not reached the model by then is dropped. "
        "The server's own limit holds where it is shorter.",
        {"type": "number", "exclusiveMinimum": 0},
    ),
    (
        LANE_HEADER,
        "header",
        "`bulk` waits behind `interactive`.",
        {"type": "string", "enum": ["interactive", "bulk"], "default": "interactive"},
    ),
)


_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}


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
            "/v1/segment": {"post": _segment("segment")},
            "/v1/model": {"get": _get("model", "The served model, its classes, limits and formats", "Model")},
            "/v1/models": {"get": _get("models", "All models of the service", "Models")},
            "/v1/models/{name}": {"parameters": [_NAME], "get": _get("named_model", "One model, its classes, limits and formats", "Model")},
            "/v1/models/{name}/segment": {"parameters": [_NAME], "post": _segment("segment_by_model")},
            "/healthz": {"get": _get("health", "Whether the process lives", "Status")},
            "/readyz": {"get": _get("readiness", "Whether the whole graph answers", "Status")},
            **v2_paths(),
        },
        "components": {"schemas": SCHEMAS | V2_SCHEMAS, "securitySchemes": _KEYS},
        "security": [{}, *({name: []} for name in _KEYS)],
    }


def _segment(operation: str) -> dict:
    form = {"type": "object", "properties": {"image": _IMAGE}, "required": ["image"]}
    bodies = {"multipart/form-data": {"schema": form}, "image/*": {"schema": _IMAGE}, "application/octet-stream": {"schema": _IMAGE}}
    statuses = sorted({problem.status for _, problem in PROBLEMS} | {500})
    return {
        "operationId": operation,
        "summary": "Segment a photo",
        "description": "\n".join(f"- `{each.name}` ({each.media_type}): {each.summary}" for each in FORMATS),
        "parameters": [
            {"name": name, "in": place, "description": description, "schema": schema} for name, place, description, schema in _PARAMETERS
        ],
        "requestBody": {
            "required": True,
            "description": "JPEG, PNG, WebP, GIF or BMP: the file itself, or a form with one file in a field of any name.",
            "content": bodies,
        },
        "responses": {"200": {"description": "The answer in the asked form.", "headers": _HEADERS, "content": _answers()}}
        | {str(status): _problem(status) for status in statuses},
    }


def _answers() -> dict:
    """Each media type with the schemas of the formats that have it."""
    answers: dict[str, list[dict]] = {}
    for each in FORMATS:
        schema = {"$ref": f"#/components/schemas/{FORMAT_SCHEMAS[each.name]}"} if each.name in FORMAT_SCHEMAS else _IMAGE
        schemas = answers.setdefault(each.media_type, [])
        if schema not in schemas:
            schemas.append(schema)
    return {name: {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}} for name, schemas in answers.items()}


def _get(operation: str, summary: str, schema: str) -> dict:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    responses = {"200": {"description": summary + ".", "content": content}, "503": _problem(503)}
    return {"operationId": operation, "summary": summary, "responses": responses}


def _problem(status: int) -> dict:
    titles = sorted({problem.title for _, problem in PROBLEMS if problem.status == status}) or ["Internal error"]
    return {"description": ", or: ".join(titles) + ".", "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
