"""The Open Inference Protocol, version 2, which the clients of KServe and Triton speak: the same graph behind other paths.

Inputs, one of them: `image`, N encoded files; `pixels`, one decoded picture. Outputs: `mask` and, where asked for, `confidence`.
The request's parameters `classes` and `tiling` and the headers mean what they mean on /v1/segment.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from PIL import Image
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from deployments.access_log import note
from deployments.body import read_body, unless_gone
from deployments.catalog import Catalog
from deployments.formats import CONFIDENCE, NPY
from deployments.graph import check_ready
from deployments.model_source import name_and_number
from deployments.named_model import NamedModel
from deployments.problems import InvalidRequest, UnknownModel
from deployments.query import Query, read_query
from deployments.served_version import ServedVersion
from deployments.stages import Answer
from deployments.tensors import HEADER_LENGTH, InferRequest, OutputTensor, image_files, read_infer_request, rgb_pixels, write_infer_response
from models.image import ImageLimits, ImageTooLarge, InvalidImage, num_pixels

_PLATFORM = "maskworks"
_WISHES = ("classes", "tiling")
_INPUTS = (
    {"name": "image", "datatype": "BYTES", "shape": [-1], "parameters": {"content_type": "base64"}},  # how JSON holds it
    {"name": "pixels", "datatype": "UINT8", "shape": [-1, -1, 3]},
)
_OUTPUTS = tuple({"name": name, "datatype": "UINT8", "shape": [-1, -1, -1]} for name in ("mask", "confidence"))
_READERS: dict[str, Callable[[bytes], np.ndarray]] = {
    "mask": lambda body: np.load(io.BytesIO(body), allow_pickle=False),
    "confidence": lambda body: np.asarray(Image.open(io.BytesIO(body), formats=["PNG"])),
}
_FORMATS = {"mask": NPY, "confidence": CONFIDENCE}
_TRITON_TYPES = {"BYTES": "TYPE_STRING", "UINT8": "TYPE_UINT8"}


@dataclass(frozen=True)
class InferenceProtocol:
    """The endpoints of the protocol. Errors leave as its own `{"error": ...}`, which `problems` sees to."""

    models: Catalog
    answer: Callable[[bytes | np.ndarray, Query, NamedModel, ServedVersion], Awaitable[Answer]]
    """The version's answer, with its place and its line in the metrics."""

    def endpoints(self) -> tuple[tuple[str, Callable, str], ...]:
        """Path, endpoint and method of each."""
        models = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
        return (
            ("/v2", self.server, "GET"),
            ("/v2/health/live", self.live, "GET"),
            ("/v2/health/ready", self.ready, "GET"),
            *((path, self.model, "GET") for path in models),
            *((f"{path}/ready", self.model_ready, "GET") for path in models),
            *((f"{path}/config", self.model_config, "GET") for path in models),
            *((f"{path}/infer", self.infer, "POST") for path in models),
        )

    async def server(self, request: Request) -> Response:
        return JSONResponse({"name": _PLATFORM, "version": "1", "extensions": ["binary_tensor_data", "model_configuration"]})

    async def live(self, request: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(self, request: Request) -> Response:
        _, served = await self.models.take()
        await check_ready(served.graph)
        return JSONResponse({"ready": True})

    async def model(self, request: Request) -> Response:
        model, served = await self._asked(request)
        versions = [_number(served)]
        about = {"name": model.name, "versions": versions, "platform": _PLATFORM, "inputs": _INPUTS, "outputs": _OUTPUTS}
        return JSONResponse(about | {"parameters": {"labels": ",".join(served.label_set.names)}})

    async def model_ready(self, request: Request) -> Response:
        model, served = await self._asked(request)
        await check_ready(served.graph)
        return JSONResponse({"name": model.name, "ready": True})

    async def model_config(self, request: Request) -> Response:
        """Triton's form of the metadata; 0 as the batch size, since its first dimension is not batched over requests."""
        model, _ = await self._asked(request)
        inputs = [_configured(each) | {"optional": True} for each in _INPUTS]
        outputs = [_configured(each) for each in _OUTPUTS]
        return JSONResponse({"name": model.name, "platform": _PLATFORM, "max_batch_size": 0, "input": inputs, "output": outputs})

    async def infer(self, request: Request) -> Response:
        model, served = await self._asked(request)
        limits = model.config
        body = await read_body(request, limits.max_body_bytes, limits.body_timeout_s)
        asked = read_infer_request(body, request.headers.get(HEADER_LENGTH))
        wanted = asked.outputs or {"mask": asked.parameters.get("binary_data_output") is True}
        if unknown := wanted.keys() - _FORMATS.keys():
            raise InvalidRequest(f"output {min(unknown)[:40]!r} is not known; there are {', '.join(_FORMATS)}")
        wishes = {each: str(asked.parameters[each]) for each in _WISHES if each in asked.parameters}
        query = read_query(wishes | {"format": NPY.name}, request.headers, served.label_set, limits.deadline_s)
        model.admission.check(bulk=query.lane == "bulk", deadline=query.deadline)
        images = await asyncio.to_thread(_images, asked, limits.max_images, limits.image_limits)
        outputs = []
        for output, binary in wanted.items():
            answer = partial(self.answer, query=replace(query, format=_FORMATS[output]), model=model, served=served)
            work = _answers(images, answer, _READERS[output], limits.max_batch_size)
            values = await unless_gone(request.receive, work)
            outputs.append(OutputTensor(output, values, binary))
        document = {"model_name": model.name, "model_version": _number(served)} | ({"id": asked.id} if asked.id else {})
        content, headers = await asyncio.to_thread(write_infer_response, document, outputs)
        return Response(content, headers=headers | {"X-Content-Type-Options": "nosniff"})

    async def _asked(self, request: Request) -> tuple[NamedModel, ServedVersion]:
        """The model and the version that the path names; a version that it names must be the one that is served."""
        model, served = await self.models.take(request.path_params["name"])
        asked, number = request.path_params.get("version"), _number(served)
        if asked not in (None, number):
            said = f"version {asked[:80]!r} of model {model.name!r} is not served"
            raise UnknownModel(f"{said}; ask for version {number!r}, or for none")
        note(request, model_version=served.version)
        return model, served


def _number(served: ServedVersion) -> str:
    return name_and_number(served.version)[1]


async def _answers(
    images: list[bytes] | list[np.ndarray],
    answer: Callable[[bytes | np.ndarray], Awaitable[Answer]],
    read: Callable[[bytes], np.ndarray],
    num_at_once: int,
) -> np.ndarray:
    """The arrays of all images, (N, h, w) uint8. The first failure ends them all."""
    turns = asyncio.Semaphore(num_at_once)  # one request fills a batch and leaves the queue to others

    async def array_of(image: bytes | np.ndarray) -> np.ndarray:
        async with turns:
            answered = await answer(image)
            return await asyncio.to_thread(read, answered.body)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(array_of(image)) for image in images]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    arrays = [task.result() for task in tasks]
    if sizes := {each.shape for each in arrays} - {arrays[0].shape}:
        raise InvalidRequest(
            f"images of {arrays[0].shape} and {min(sizes)} pixels do not fit one tensor; send each size in its own request"
        )
    return np.stack(arrays)


def _images(asked: InferRequest, max_images: int, limits: ImageLimits) -> list[bytes] | list[np.ndarray]:
    """The images of a request, files among them not yet decoded. Raises `InvalidRequest`, `InvalidImage`."""
    if len(asked.inputs) != 1 or asked.inputs[0].name not in ("image", "pixels"):
        names = ", ".join(each.name[:40] for each in asked.inputs[:5]) or "none"
        raise InvalidRequest(f"the inputs are {names}; send either image or pixels")
    (tensor,) = asked.inputs
    if tensor.name == "pixels":
        return [rgb_pixels(tensor)]
    images = image_files(tensor, max_images)
    if (total := sum(_num_pixels(index, image, limits) for index, image in enumerate(images))) > limits.max_pixels:
        raise ImageTooLarge(f"the images have {total} pixels together, the limit is {limits.max_pixels}; send fewer in one request")
    return images


def _num_pixels(index: int, image: bytes, limits: ImageLimits) -> int:
    try:
        return num_pixels(image, limits)
    except InvalidImage as error:
        raise type(error)(f"image {index}: {error}") from error


def _configured(tensor: dict) -> dict:
    return {"name": tensor["name"], "data_type": _TRITON_TYPES[tensor["datatype"]], "dims": tensor["shape"]}
