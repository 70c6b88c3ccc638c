"""The paths of the Open Inference Protocol, as OpenAPI describes them."""

from __future__ import annotations

from deployments.problems import PROBLEMS

_ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/InferenceError"}}}
_ANY = {"application/json": {"schema": {"type": "object"}}}
_MODELS = {"/v2/models/{name}": ("name",), "/v2/models/{name}/versions/{version}": ("name", "version")}
_INFER = (
    "One input: `image`, BYTES of shape [N], the files as they are, in JSON as base64; or `pixels`, UINT8 of shape [height, width, 3], "
    "a decoded RGB picture. Outputs, UINT8 of shape [N, height, width]: `mask`, the class indices, and, where asked for, `confidence`, "
    "the winning class's probability times 255, for which the model runs again. Tensors may travel as raw bytes behind the JSON "
    "(Inference-Header-Content-Length, binary_data_size, binary_data, binary_data_output). The request's parameters may hold `classes` "
    "and `tiling` of /v1/segment."
)
SCHEMAS = {"InferenceError": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}}


def v2_paths() -> dict:
    """Path items by path."""
    paths = {
        "/v2": {"get": _operation("v2_server", "The server's name and extensions")},
        "/v2/health/live": {"get": _operation("v2_live", "Whether the process lives")},
        "/v2/health/ready": {"get": _operation("v2_ready", "Whether the whole graph answers")},
    }
    for path, names in _MODELS.items():
        suffix = "" if len(names) == 1 else "_version"
        parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
        paths |= {
            path: {"parameters": parameters, "get": _operation(f"v2_model{suffix}", "The model's inputs and outputs")},
            f"{path}/ready": {"parameters": parameters, "get": _operation(f"v2_model{suffix}_ready", "Whether the model answers")},
            f"{path}/config": {"parameters": parameters, "get": _operation(f"v2_model{suffix}_config", "The same in Triton's form")},
            f"{path}/infer": {"parameters": parameters, "post": _infer(f"v2_model{suffix}_infer")},
        }
    return paths


def _operation(operation: str, summary: str) -> dict:
    refusals = {str(status): {"description": "Refused.", "content": _ERROR} for status in (404, 503)}
    return {"operationId": operation, "summary": summary, "responses": {"200": {"description": summary + ".", "content": _ANY}} | refusals}


def _infer(operation: str) -> dict:
    statuses = sorted({problem.status for _, problem in PROBLEMS} | {500})
    content = _ANY | {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return {
        "operationId": operation,
        "summary": "Segment photos, by the Open Inference Protocol",
        "description": _INFER,
        "requestBody": {"required": True, "content": content},
        "responses": {"200": {"description": "The outputs.", "content": content}}
        | {str(status): {"description": "Refused.", "content": _ERROR} for status in statuses},
    }
