"""What is refused before a request is looked at, for servers that let it through."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.problems import HeadersTooLarge, InvalidRequest

_MAX_HEADERS, _MAX_HEADER_BYTES = 100, 32 * 2**10


class LimitHeaders:
    """Middleware of a route. Raises `HeadersTooLarge`, and `InvalidRequest` where not one host is named."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = scope["headers"]
        if len(headers) > _MAX_HEADERS:
            raise HeadersTooLarge(f"the request has {len(headers)} headers, the limit is {_MAX_HEADERS}; send fewer")
        num_bytes = sum(len(name) + len(value) for name, value in headers)
        if num_bytes > _MAX_HEADER_BYTES:
            raise HeadersTooLarge(f"the headers have {num_bytes} bytes, the limit is {_MAX_HEADER_BYTES}; send shorter ones")
        num_hosts = sum(name == b"host" for name, _ in headers)
        if num_hosts != 1 and scope.get("http_version") != "1.0":
            raise InvalidRequest(f"the request has {num_hosts} Host headers; send exactly one")
        await self.app(scope, receive, send)
