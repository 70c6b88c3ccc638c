"""One line in Serve's log for each request, with numbers that say what became of it; never a picture's content or name."""

from __future__ import annotations

import logging
import time
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.metrics import Metrics

logger = logging.getLogger("ray.serve")
_NOTES = "access_log"


def note(request: Request, **facts: Any) -> None:
    """Adds `facts`, which JSON can hold, to the request's line."""
    request.scope["state"].setdefault(_NOTES, {}).update(facts)


def request_id_of(request: Request) -> str | None:
    """Serve gives every request one, or keeps the caller's, and repeats it in the answer's X-Request-Id."""
    value = request.headers.get("x-request-id")
    return value and value[:200]


class AccessLog:
    """Middleware of the application: logs each request and counts the refused ones."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), None
        facts = scope.setdefault("state", {}).setdefault(_NOTES, {})

        async def send_and_look(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_and_look)
        finally:
            self._write(scope, status, time.perf_counter() - start, facts)

    def _write(self, scope: Scope, status: int | None, total_s: float, facts: dict[str, Any]) -> None:
        """`status` is None where the caller left before an answer began."""
        if problem := facts.get("problem"):
            self.metrics.refused(problem, status)
        times_ms = {name: round(1e3 * duration_s, 2) for name, duration_s in facts.pop("times_s", {}).items()}
        line = {
            "request_id": request_id_of(Request(scope)),
            "method": scope["method"],
            "path": quote(scope["path"][:200]),
            "status": status,
            "total_ms": round(1e3 * total_s, 2),
            "times_ms": times_ms,
        }
        logger.info("%(method)s %(path)s %(status)s %(total_ms).1fms", line, extra=line | facts)
