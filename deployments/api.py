"""The HTTP interface: a table of routes over a graph. Knows no placement."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Any, TypeVar
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive

from deployments.access import cors_middleware, key_middleware
from deployments.admission import Admission
from deployments.body import read_images
from deployments.config import AppConfig
from deployments.formats import FORMATS
from deployments.front import LimitHeaders
from deployments.graph import Graph
from deployments.openapi import describe
from deployments.problems import AnswerProblems, NotReady, http_exception_response, request_id_of
from deployments.query import Query, read_query
from deployments.several import MEDIA_TYPE as NDJSON
from deployments.several import answer_lines
from deployments.stages import Answer
from models.spec import SegmenterSpec

T = TypeVar("T")
_READY_WITHIN_S = 5
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

    graph: Graph
    spec: SegmenterSpec
    model_version: str
    config: AppConfig
    admission: Admission

    async def segment(self, request: Request) -> Response:
        """One image's answer in the asked format; of several images in one form a stream of lines (`several.py`)."""
        start = time.perf_counter()
        query = read_query(request.query_params, request.headers, self.spec.label_set, self.config.deadline_s)
        images = await read_images(request, self.config.max_body_bytes, self.config.max_images, self.config.body_timeout_s)
        received_s = time.perf_counter() - start
        self.admission.check(bulk=query.lane == "bulk", deadline=query.deadline)
        headers = {"X-Model-Version": quote(self.model_version, safe="/@ "), "X-Content-Type-Options": "nosniff", "Vary": "Accept"}
        if len(images) > 1:
            segment = partial(self._segment, query=query)
            lines = answer_lines(images, segment, num_at_once=self.config.max_batch_size, request_id=request_id_of(request))
            return StreamingResponse(lines, headers=headers, media_type=NDJSON)
        answer = await unless_gone(request.receive, self._segment(images[0].data, query))
        headers["X-Batch-Size"] = str(answer.batch_size)
        headers["Server-Timing"] = _server_timing({"receive": received_s} | dict(answer.times_s), time.perf_counter() - start)
        return Response(answer.body, headers=headers, media_type=answer.media_type)

    async def _segment(self, data: bytes, query: Query) -> Answer:
        with self.admission.place(bulk=query.lane == "bulk"):
            return await self.graph.segment(data, query)

    async def model(self, request: Request) -> Response:
        labels = [{"index": label.index, "name": label.name, "color": list(label.color)} for label in self.spec.label_set.labels]
        return JSONResponse(
            {
                "model_version": self.model_version,
                "labels": labels,
                "background": self.spec.label_set.background,
                "input_size": list(self.spec.input_size),
                "limits": {"max_body_bytes": self.config.max_body_bytes, "max_pixels": self.config.max_pixels},
                "formats": [{"name": each.name, "media_type": each.media_type} for each in FORMATS],
            }
        )

    async def healthz(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        try:
            async with asyncio.timeout(_READY_WITHIN_S):
                await self.graph.check()
        except Exception as error:
            raise NotReady(f"a stage did not answer within {_READY_WITHIN_S} s ({type(error).__name__}); try again") from error
        return JSONResponse({"status": "ok"})

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(describe(self.model_version))


def create_app(api: Api) -> Starlette:
    """The ASGI application."""
    endpoints = (
        ("/v1/segment", api.segment, "POST"),
        ("/v1/model", api.model, "GET"),
        ("/healthz", api.healthz, "GET"),
        ("/readyz", api.readyz, "GET"),
        ("/openapi.json", api.openapi, "GET"),
        ("/docs", _docs, "GET"),
        ("/docs/{name}", _docs_file, "GET"),
        ("/", _home, "GET"),
    )
    open_to_all = [Middleware(AnswerProblems), Middleware(LimitHeaders)]
    with_key = [*open_to_all, *key_middleware(api.config)]
    routes = [
        Route(path, endpoint, methods=[method], middleware=with_key if path.startswith("/v1/") else open_to_all)
        for path, endpoint, method in endpoints
    ]
    app = Starlette(routes=routes, middleware=cors_middleware(api.config), exception_handlers={HTTPException: http_exception_response})
    app.router.redirect_slashes = False
    return app


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns; where the caller leaves before, `work` is cancelled. To be called once the body has been read."""
    task, gone = asyncio.create_task(work), asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _server_timing(times_s: Mapping[str, float], total_s: float) -> str:
    """The header: each part in milliseconds, `handover` for what lies between them, and the total."""
    parts = {**times_s, "handover": total_s - sum(times_s.values()), "total": total_s}
    return ", ".join(f"{name};dur={duration_s * 1e3:.2f}" for name, duration_s in parts.items())


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
