"""Tensors as the Open Inference Protocol carries them over HTTP: a JSON document and, behind it, tensors as raw bytes.

Source: KServe's `specification/protocol/inference_rest.md`, Triton's `docs/protocol/extension_binary_data.md`.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from deployments.problems import InvalidRequest

HEADER_LENGTH = "Inference-Header-Content-Length"
_MAX_JSON_VALUES = 2**19  # in a request; they become Python objects, which takes memory, and time of the event loop
_LENGTH_BYTES = 4
_DIGITS = np.frombuffer(b"".join(b"%3d," % value for value in range(256)), np.uint32)  # each uint8 in JSON, padded to four bytes


class _Parameters(BaseModel):
    """Those of a tensor. Shared memory belongs to callers on the server's own machine, so it is not to be had."""

    binary_data_size: Annotated[int, Field(ge=0)] | None = None
    binary_data: bool | None = None
    shared_memory_region: None = None
    classification: None = None


class _Input(BaseModel):
    name: str
    datatype: str
    shape: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(max_length=8)]
    parameters: _Parameters = _Parameters()
    data: list[Any] | None = None


class _Output(BaseModel):
    name: str
    parameters: _Parameters = _Parameters()


class _Document(BaseModel):
    id: str = ""
    parameters: dict[str, Any] = {}
    inputs: list[_Input]
    outputs: list[_Output] = []


@dataclass(frozen=True)
class InputTensor:
    """A tensor of a request: its values as the JSON has them, or the raw bytes that came behind it."""

    name: str
    datatype: str
    shape: list[int]
    values: list[Any] | memoryview

    def __str__(self) -> str:
        return f"input {self.name[:40]!r} with datatype {self.datatype[:20]!r} and shape {self.shape}"


@dataclass(frozen=True)
class InferRequest:
    """`outputs` are the names asked for, each with whether as raw bytes; empty where the caller leaves it to the server."""

    id: str
    parameters: dict[str, Any]
    inputs: list[InputTensor]
    outputs: dict[str, bool]


@dataclass(frozen=True)
class OutputTensor:
    """`values` are uint8, of any shape; `binary` sends them as raw bytes."""

    name: str
    values: np.ndarray
    binary: bool


def read_infer_request(body: bytes, header_length: str | None) -> InferRequest:
    """The request with its tensors, none of them looked at; `header_length` is the header's value. Raises `InvalidRequest`."""
    num_bytes = _json_length(header_length, len(body))
    json_part = body[:num_bytes]
    if (num_values := sum(map(json_part.count, (b",", b"[", b"{")))) > _MAX_JSON_VALUES:
        raise InvalidRequest(f"the JSON has {num_values} values, the limit is {_MAX_JSON_VALUES}; send tensors as binary data")
    try:
        document = _Document.model_validate_json(json_part)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))[:80] or "the document"
        raise InvalidRequest(f"the request's JSON is not the protocol's, {place}: {first['msg'][:200]}; correct it") from error
    inputs = _with_raw_bytes(document.inputs, memoryview(body)[num_bytes:])
    by_default = document.parameters.get("binary_data_output") is True
    outputs = {each.name: by_default if each.parameters.binary_data is None else each.parameters.binary_data for each in document.outputs}
    return InferRequest(document.id, document.parameters, inputs, outputs)


def image_files(tensor: InputTensor, max_images: int) -> list[bytes]:
    """The elements of a BYTES tensor of shape [N]; in JSON they are base64. Raises `InvalidRequest`."""
    if tensor.datatype != "BYTES" or len(tensor.shape) != 1 or not 1 <= tensor.shape[0] <= max_images:
        raise InvalidRequest(f"{tensor} is not read; send image files as BYTES of shape [N], N from 1 to {max_images}")
    return _from_base64(tensor) if isinstance(tensor.values, list) else _split(tensor)


def rgb_pixels(tensor: InputTensor) -> np.ndarray:
    """The picture of a UINT8 tensor of shape [h, w, 3] or [1, h, w, 3], as (h, w, 3) uint8. Raises `InvalidRequest`."""
    shape = tensor.shape[1:] if len(tensor.shape) == 4 and tensor.shape[0] == 1 else tensor.shape
    if tensor.datatype != "UINT8" or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise InvalidRequest(f"{tensor} is not read; send one RGB picture as UINT8 of shape [height, width, 3] or [1, height, width, 3]")
    values = _from_numbers(tensor) if isinstance(tensor.values, list) else tensor.values
    if len(values) != math.prod(shape):
        raise InvalidRequest(f"{tensor} has {len(values)} values; send height x width x 3 of them")
    return np.frombuffer(values, np.uint8).reshape(shape)


def write_infer_response(document: dict, outputs: Sequence[OutputTensor]) -> tuple[bytes, dict[str, str]]:
    """The body that holds `document` and the outputs, and the headers that say how."""
    head = json.dumps(document).encode().removesuffix(b"}") + b', "outputs": [' + b", ".join(map(_described, outputs)) + b"]}"
    raw = [each.values.tobytes() for each in outputs if each.binary]
    if not raw:
        return head, {"Content-Type": "application/json"}
    return b"".join([head, *raw]), {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}


def _json_length(header_length: str | None, num_bytes: int) -> int:
    if header_length is None:
        return num_bytes
    if not (header_length.isascii() and header_length.isdecimal() and len(header_length) < 20 and int(header_length) <= num_bytes):
        raise InvalidRequest(
            f"{HEADER_LENGTH} {header_length[:40]!r} is not the length of the JSON in the body of {num_bytes} bytes; correct it"
        )
    return int(header_length)


def _with_raw_bytes(inputs: list[_Input], raw: memoryview) -> list[InputTensor]:
    tensors, start = [], 0
    for each in inputs:
        size = each.parameters.binary_data_size
        if (size is None) == (each.data is None):
            raise InvalidRequest(f"input {each.name[:40]!r} needs either data or binary_data_size; give one of them")
        values = each.data if size is None else raw[start : start + size]
        tensors.append(InputTensor(each.name, each.datatype, each.shape, values))
        start += size or 0
    if start != len(raw):
        raise InvalidRequest(f"the inputs' binary_data_size add up to {start} bytes, and {len(raw)} follow the JSON; let them agree")
    return tensors


def _split(tensor: InputTensor) -> list[bytes]:
    """The elements of a BYTES tensor, each behind its length in four bytes."""
    elements, rest, num_bytes = [], tensor.values, 0
    for _ in range(tensor.shape[0]):
        size = int.from_bytes(rest[:_LENGTH_BYTES], "little")
        elements.append(bytes(rest[_LENGTH_BYTES:][:size]))
        rest = rest[_LENGTH_BYTES + size :]
        num_bytes += _LENGTH_BYTES + size
    if num_bytes != len(tensor.values):
        raise InvalidRequest(
            f"{tensor} has {len(tensor.values)} bytes, its elements {num_bytes}; put each one's length in four bytes before it"
        )
    return elements


def _from_base64(tensor: InputTensor) -> list[bytes]:
    if len(tensor.values) != tensor.shape[0]:
        raise InvalidRequest(f"{tensor} has {len(tensor.values)} elements; let the shape be their number")
    try:
        return [base64.b64decode(text, validate=True) for text in tensor.values]
    except (ValueError, TypeError) as error:
        raise InvalidRequest(f"{tensor} is not a list of base64 texts; encode each file so, or send binary data") from error


def _from_numbers(tensor: InputTensor) -> bytes:
    values = tensor.values
    try:
        while values and isinstance(values[0], list):  # flat or nested, the protocol takes both
            values = list(chain.from_iterable(values))
        return bytes(values)
    except (ValueError, TypeError) as error:
        raise InvalidRequest(f"{tensor} is not made of whole numbers from 0 to 255; send such, or binary data") from error


def _described(output: OutputTensor) -> bytes:
    about = {"name": output.name, "datatype": "UINT8", "shape": list(output.values.shape)}
    if output.binary:
        return json.dumps(about | {"parameters": {"binary_data_size": output.values.nbytes}}).encode()
    data = _DIGITS[output.values.ravel()].tobytes().removesuffix(b",")
    return json.dumps(about).encode().removesuffix(b"}") + b', "data": [' + data + b"]}"
