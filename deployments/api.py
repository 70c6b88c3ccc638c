"""The HTTP interface: a table of routes over a graph. Knows no placement."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.resources import files
from urllib.parse import quote

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from deployments.access import cors_middleware, key_middleware
from deployments.access_log import AccessLog, note, request_id_of
from deployments.admission import Admission
from deployments.body import read_images, unless_gone
from deployments.catalog import Catalog
from deployments.config import AppConfig
from deployments.formats import FORMATS
from deployments.front import LimitHeaders
from deployments.graph import check_ready
from deployments.metrics import Metrics
from deployments.named_model import NamedModel
from deployments.openapi import describe
from deployments.problems import AnswerProblems, http_exception_response
from deployments.query import Lane, Query, read_query
from deployments.served_version import ServedVersion
from deployments.several import MEDIA_TYPE as NDJSON
from deployments.several import answer_lines
from deployments.stages import Answer
from deployments.v2 import InferenceProtocol

_AFTER_ANSWER_S = 0.01  # in which an answer is on its way, before a challenger sees the image
_BEHIND_KEYS = ("/v1/", "/v2/models/")  # where there are keys
_DOCS_FILES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
_DOCS_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Maskworks</title>
<link rel="stylesheet" href="docs/swagger-ui.css"><link rel="icon" href="data:,">
</head>
<body>
<div id="docs"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: "openapi.json", dom_id: "#docs", tryItOutEnabled: true, validatorUrl: null})</script>
</body>
</html>
"""


@dataclass(frozen=True)
class Api:
    """The endpoints. Build the application with `create_app`."""

    models: Catalog
    config: AppConfig
    metrics: Metrics = field(default_factory=Metrics)

    async def segment(self, request: Request) -> Response:
        """One image's answer in the asked format; of several images in one form a stream of lines (`several.py`)."""
        start = time.perf_counter()
        model, served = await self.models.take(request.path_params.get("name"))
        limits = model.config
        query = read_query(request.query_params, request.headers, served.label_set, limits.deadline_s)
        images = await read_images(request, limits.max_body_bytes, limits.max_images, limits.body_timeout_s)
        received_s = time.perf_counter() - start
        model.admission.check(bulk=query.lane == "bulk", deadline=query.deadline)
        headers = {"X-Model-Version": quote(served.version, safe="/@ "), "X-Content-Type-Options": "nosniff", "Vary": "Accept"}
        segment = partial(self.answer, query=query, model=model, served=served, received_s=received_s)
        note(request, model_version=served.version, format=query.format.name, lane=query.lane)
        note(request, num_images=len(images), image_bytes=sum(len(each.data) for each in images))
        if len(images) > 1:
            at_once, request_id = limits.max_batch_size, request_id_of(request)
            lines = answer_lines(images, segment, num_at_once=at_once, request_id=request_id, refused=self.metrics.refused)
            return StreamingResponse(lines, headers=headers, media_type=NDJSON)
        answer = await unless_gone(request.receive, segment(images[0].data))
        note(request, size=answer.size, batch_size=answer.batch_size, times_s=answer.times_s)
        headers["X-Batch-Size"] = str(answer.batch_size)
        headers["Server-Timing"] = ", ".join(f"{part};dur={duration_s * 1e3:.2f}" for part, duration_s in answer.times_s.items())
        return Response(answer.body, headers=headers, media_type=answer.media_type)

    async def answer(
        self, image: bytes | np.ndarray, query: Query, model: NamedModel, served: ServedVersion, received_s: float = 0
    ) -> Answer:
        """The answer of that version, counted; its times begin `received_s` ago, where the request began."""
        start = time.perf_counter()
        shadow = self.models.shadow if model is self.models.default and not query.tiled else None
        if shadow and shadow.wants_next():
            query = replace(query, keeps_mask=True)
        with self._place(model.admission, query.lane), served.answering():
            answer = await served.graph.segment(image, query)
        if answer.mask is not None:
            asyncio.get_running_loop().call_later(_AFTER_ANSWER_S, shadow.offer, image, answer.mask, served)
        times_s = {"receive": received_s, **answer.times_s, "total": received_s + time.perf_counter() - start}
        self.metrics.answered(times_s, answer.batch_size, math.prod(answer.size), query.format.name)
        return replace(answer, times_s=times_s)

    @contextmanager
    def _place(self, admission: Admission, lane: Lane) -> Iterator[None]:
        bulk = lane == "bulk"
        try:
            with admission.place(bulk=bulk):
                self.metrics.queue(admission.num_in_lane(bulk=bulk), lane)
                yield
        finally:
            self.metrics.queue(admission.num_in_lane(bulk=bulk), lane)

    async def list_models(self, request: Request) -> Response:
        """All models; the version is null where none is loaded."""
        models = [{"name": model.name, "model_version": model.version} for model in self.models]
        return JSONResponse({"models": models})

    async def model(self, request: Request) -> Response:
        model, served = await self.models.take(request.path_params.get("name"))
        labels = [{"index": label.index, "name": label.name, "color": list(label.color)} for label in served.label_set.labels]
        return JSONResponse(
            {
                "name": model.name,
                "model_version": served.version,
                "labels": labels,
                "background": served.label_set.background,
                "instances": bool(served.spec.architecture.instances),
                "input_size": list(served.spec.input_size),
                "limits": {"max_body_bytes": model.config.max_body_bytes, "max_pixels": model.config.max_pixels},
                "formats": [{"name": each.name, "media_type": each.media_type} for each in FORMATS],
            }
        )

    async def healthz(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        _, served = await self.models.take()
        await check_ready(served.graph)
        return JSONResponse({"status": "ok"})

    async def openapi(self, request: Request) -> Response:
        _, served = await self.models.take()
        return JSONResponse(describe(served.version))


def create_app(api: Api) -> Starlette:
    """The ASGI application."""
    endpoints = (
        ("/v1/segment", api.segment, "POST"),
        ("/v1/model", api.model, "GET"),
        ("/v1/models", api.list_models, "GET"),
        ("/v1/models/{name}", api.model, "GET"),
        ("/v1/models/{name}/segment", api.segment, "POST"),
        ("/healthz", api.healthz, "GET"),
        ("/readyz", api.readyz, "GET"),
        *InferenceProtocol(api.models, api.answer).endpoints(),
        ("/openapi.json", api.openapi, "GET"),
        ("/docs", _docs, "GET"),
        ("/docs/{name}", _docs_file, "GET"),
        ("/", _home, "GET"),
    )
    open_to_all = [Middleware(AnswerProblems), Middleware(LimitHeaders)]
    with_key = [*open_to_all, *key_middleware(api.config)]
    routes = [
        Route(path, endpoint, methods=[method], middleware=with_key if path.startswith(_BEHIND_KEYS) else open_to_all)
        for path, endpoint, method in endpoints
    ]
    middleware = [Middleware(AccessLog, metrics=api.metrics), *cors_middleware(api.config)]
    handlers = {HTTPException: http_exception_response}
    app = Starlette(routes=routes, middleware=middleware, exception_handlers=handlers, lifespan=lambda app: api.models.following())
    app.router.redirect_slashes = False
    return app


async def _home(request: Request) -> Response:
    return RedirectResponse("docs")


async def _docs(request: Request) -> Response:
    return HTMLResponse(_DOCS_PAGE)


async def _docs_file(request: Request) -> Response:
    """Swagger UI's own files, from the package that brings them, so that the page needs no network."""
    name = request.path_params["name"]
    if name not in _DOCS_FILES:
        raise HTTPException(404)
    content = (files("fastapi_offline") / "static" / name).read_bytes()
    return Response(content, media_type=_DOCS_FILES[name], headers={"Cache-Control": "max-age=86400"})
