"""Errors as a caller sees them: the one table from exceptions to HTTP, as problem details (RFC 9457)."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from http import HTTPStatus

from ray.exceptions import ObjectLostError, RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.access_log import note, request_id_of
from deployments.admission import DeadlinePassed, Overloaded, Refused
from models.image import ImageTooLarge, InvalidImage

MEDIA_TYPE = "application/problem+json"
_TYPE = "urn:maskworks:problem:"
logger = logging.getLogger("ray.serve")


class InvalidRequest(ValueError):
    """A request that says something that the interface does not know."""


class UnknownModel(InvalidRequest):
    """A model, or a version of it, that is not the served one."""


class BodyTooLarge(InvalidRequest):
    """A body over the limit, by its own word or by what came."""


class BodyTooSlow(InvalidRequest):
    """A body that did not arrive in time."""


class HeadersTooLarge(InvalidRequest):
    """More headers than any caller has a use for."""


class Unauthorized(InvalidRequest):
    """No key, or one that is not known."""


class TooManyRequests(Refused):
    """A key over its rate."""


class UnsupportedMediaType(InvalidRequest):
    """A body that is not declared as an image or a form."""


class NotAcceptable(InvalidRequest):
    """An Accept header that no format satisfies."""


class NotReady(RuntimeError):
    """A stage of the graph does not answer."""


@dataclass(frozen=True)
class Problem:
    """`detail` None: the exception's own words, which were written for the caller."""

    status: int
    name: str
    title: str
    detail: str | None = None


_BUSY = "The server cannot take the request now; try again in a second."
_LOST = "The request ended before its body did; send it again."
INTERNAL = Problem(500, "internal", "Internal error", "The server failed. Its log has the reason under this request id.")

# The first line whose type matches counts.
PROBLEMS: tuple[tuple[type[BaseException], Problem], ...] = (
    (ImageTooLarge, Problem(413, "image-too-large", "Image too large")),
    (InvalidImage, Problem(400, "invalid-image", "Invalid image")),
    (UnknownModel, Problem(404, "unknown-model", "Unknown model")),
    (BodyTooLarge, Problem(413, "body-too-large", "Body too large")),
    (BodyTooSlow, Problem(408, "body-too-slow", "Body too slow")),
    (HeadersTooLarge, Problem(431, "headers-too-large", "Headers too large")),
    (Unauthorized, Problem(401, "unauthorized", "Unauthorized")),
    (TooManyRequests, Problem(429, "too-many-requests", "Too many requests")),
    (UnsupportedMediaType, Problem(415, "unsupported-media-type", "Unsupported media type")),
    (NotAcceptable, Problem(406, "not-acceptable", "Not acceptable")),
    (InvalidRequest, Problem(400, "invalid-request", "Invalid request")),
    (ClientDisconnect, Problem(400, "incomplete-body", "Incomplete body", _LOST)),
    (NotReady, Problem(503, "not-ready", "Not ready")),
    (Overloaded, Problem(503, "overloaded", "Overloaded")),
    (DeadlinePassed, Problem(503, "deadline-passed", "Deadline passed")),
    (BackPressureError, Problem(503, "overloaded", "Overloaded", _BUSY)),
    (RayServeException, Problem(503, "unavailable", "Unavailable", _BUSY)),
    (RayActorError, Problem(503, "unavailable", "Unavailable", _BUSY)),
    (ObjectLostError, Problem(503, "unavailable", "Unavailable", _BUSY)),
    (MemoryError, Problem(503, "out-of-memory", "Out of memory", _BUSY)),
)


def problem_of(error: BaseException) -> tuple[Problem, str]:
    """The table's line for `error` and the sentence for the caller; what the table does not know is an internal error."""
    cause = error.cause if isinstance(error, RayTaskError) and error.cause is not None else error
    for kind, problem in PROBLEMS:
        if isinstance(cause, kind):
            return problem, problem.detail or str(cause)
    return INTERNAL, INTERNAL.detail


def problem_response(request: Request, error: BaseException) -> Response:
    """The answer to a request that ended in `error`."""
    document = problem_document(error, request_id_of(request))
    return _response(request, document, _headers(document["status"], error))


def _headers(status: int, error: BaseException) -> dict[str, str]:
    if status == 401:
        return {"WWW-Authenticate": 'Bearer realm="maskworks"'}
    return {"Retry-After": str(_retry_after_s(error))} if status in (429, 503) else {}


async def http_exception_response(request: Request, error: HTTPException) -> Response:
    """The framework's own refusals, such as 404 and 405, in the same form."""
    phrase = HTTPStatus(error.status_code).phrase
    name = phrase.lower().replace(" ", "-")
    detail = f"{request.method} {request.url.path[:200]}: {phrase.lower()}; GET /openapi.json lists what there is."
    document = _document(Problem(error.status_code, name, phrase), detail, request_id_of(request))
    return _response(request, document, dict(error.headers or {}))


class AnswerProblems:
    """Middleware of a route: whatever its endpoint raises leaves as a problem document."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except Exception as error:
            response = problem_response(Request(scope), error)
            await response(scope, receive, send)


def problem_document(error: BaseException, request_id: str | None) -> dict:
    """`error` as a problem document; internal errors are logged in full under the request's id."""
    problem, detail = problem_of(error)
    if problem is INTERNAL:
        logger.error("request %s failed", request_id, exc_info=error)
    return _document(problem, detail, request_id)


def _document(problem: Problem, detail: str, request_id: str | None) -> dict:
    return {
        "type": _TYPE + problem.name,
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
        "request_id": request_id,
    }


def name_of(document: dict) -> str:
    """The problem's name, which is one of a fixed few."""
    return document["type"].removeprefix(_TYPE)


def _response(request: Request, document: dict, headers: dict[str, str]) -> Response:
    note(request, problem=name_of(document))
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    if path.startswith("/v2"):  # the Open Inference Protocol has its own form of errors
        return Response(json.dumps({"error": document["detail"]}), document["status"], headers, "application/json")
    return Response(json.dumps(document), document["status"], headers, MEDIA_TYPE)


def _retry_after_s(error: BaseException) -> int:
    """Whole seconds; what only the stage knows, it says."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    return max(1, math.ceil(cause.retry_after_s)) if isinstance(cause, Refused) else 1
