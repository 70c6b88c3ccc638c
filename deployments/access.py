"""API keys with a rate each: `python -m deployments.access NAME` makes one.

A key file has lines `name:sha256 of the key:requests per minute`, the last part left out for no limit; it holds no key, so who reads it
cannot call. A changed file counts from the next request on.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.config import AppConfig
from deployments.problems import TooManyRequests, Unauthorized

_LINE = re.compile(r"(?P<name>[\w.@-]+):(?P<digest>[0-9a-f]{64})(:(?P<rate>[1-9]\d{0,8}))?")
_BURST_S = 10  # how much of its rate an idle key may use at once
_EXPOSED = ("X-Model-Version", "X-Batch-Size", "X-Request-Id", "Server-Timing", "Retry-After")
logger = logging.getLogger("ray.serve")


class InvalidKeyFile(ValueError):
    """A key file that cannot be read."""


@dataclass(frozen=True)
class Key:
    """One line of a key file."""

    name: str
    digest: str
    requests_per_minute: int | None = None

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.name, self.digest, self.requests_per_minute) if part is not None)


@dataclass
class Bucket:
    """Holds a token for each request that may come at once, and fills steadily; times in seconds of `time.monotonic`."""

    rate: float
    """Tokens per second."""
    filled_at: float
    tokens: float = field(init=False)

    def __post_init__(self) -> None:
        self.capacity = max(1.0, self.rate * _BURST_S)
        self.tokens = self.capacity

    def take(self, now: float) -> float:
        """Takes a token and returns 0; where there is none, the seconds until there is."""
        self.tokens = min(self.capacity, self.tokens + (now - self.filled_at) * self.rate)
        self.filled_at = now
        if self.tokens < 1:
            return (1 - self.tokens) / self.rate
        self.tokens -= 1
        return 0.0


def read_keys(path: str | Path) -> list[Key]:
    """The file's keys; empty lines and those after `#` are left out. Raises `InvalidKeyFile`."""
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidKeyFile(f"the key file {path} cannot be read ({error}); name a text file that every node has") from error
    keys = [_parse(line.strip(), f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip() and line.strip()[0] != "#"]
    if len({key.name for key in keys}) < len(keys):
        raise InvalidKeyFile(f"{path} has two keys of one name; name each differently")
    return keys


def _parse(line: str, place: str) -> Key:
    match = _LINE.fullmatch(line)
    if not match:
        raise InvalidKeyFile(f"{place} is not name:sha256[:requests per minute]; `python -m deployments.access NAME` prints such a line")
    return Key(match["name"], match["digest"], int(match["rate"]) if match["rate"] else None)


class KeyRing:
    """The keys of a file, read again when it changes, and what is left of their rates."""

    def __init__(self, path: str, num_replicas: int) -> None:
        self._path, self._num_replicas = Path(path), num_replicas
        self._keys = read_keys(path)
        self._state = self._file_state()
        self._buckets: dict[Key, Bucket] = {}

    def admit(self, secret: str | None) -> None:
        """Counts one request. Raises `Unauthorized`, `TooManyRequests`."""
        if not secret:
            raise Unauthorized("the request has no key; send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`")
        key = self._find(secret)
        if key is None:
            raise Unauthorized("the key is not known; ask the operator of this service for one")
        if key.requests_per_minute is None:
            return
        now = time.monotonic()
        share_per_s = key.requests_per_minute / 60 / self._num_replicas
        wait_s = self._buckets.setdefault(key, Bucket(share_per_s, now)).take(now)
        if wait_s:
            raise TooManyRequests(f"the key {key.name!r} allows {key.requests_per_minute} requests per minute; wait {wait_s:.1f} s", wait_s)

    def _find(self, secret: str) -> Key | None:
        """All keys are compared, each in constant time, so that the time says nothing about any."""
        self._read_if_changed()
        digest = _digest(secret)
        found = [key for key in self._keys if hmac.compare_digest(key.digest, digest)]
        return found[0] if found else None

    def _read_if_changed(self) -> None:
        state = self._file_state()
        if state == self._state:
            return
        self._state = state
        try:
            self._keys = read_keys(self._path)
        except InvalidKeyFile:
            logger.exception("the keys stay as they were")
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if key in self._keys}

    def _file_state(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


class RequireKey:
    """Middleware of a route: what has no key does not reach it."""

    def __init__(self, app: ASGIApp, keys: KeyRing) -> None:
        self.app, self._keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._keys.admit(_secret_of(Headers(scope=scope)))
        await self.app(scope, receive, send)


def key_middleware(config: AppConfig) -> list[Middleware]:
    """What asks for a key, where the operator gave a key file. Raises `InvalidKeyFile`."""
    return [Middleware(RequireKey, keys=KeyRing(config.api_keys_file, config.num_replicas))] if config.api_keys_file else []


def cors_middleware(config: AppConfig) -> list[Middleware]:
    """What lets pages of other origins call, where the operator named any; a browser refuses them otherwise."""
    if not config.cors_origins:
        return []
    origins = list(config.cors_origins)
    return [Middleware(CORSMiddleware, allow_origins=origins, allow_methods=["GET", "POST"], allow_headers=["*"], expose_headers=_EXPOSED)]


def _secret_of(headers: Mapping[str, str]) -> str | None:
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else headers.get("x-api-key")


def _digest(secret: str) -> str:
    """Keys are random and long, so that a plain digest cannot be turned back."""
    return hashlib.sha256(secret.encode()).hexdigest()


def main(name: tyro.conf.Positional[str], requests_per_minute: int | None = None) -> None:
    """Makes a key: prints it, which nothing else ever will, and the line for the key file.

    Args:
        name: Whose key; letters, digits and ._@-
        requests_per_minute: What it allows, over all replicas; no limit where left out.
    """
    secret = f"mw_{secrets.token_urlsafe(32)}"
    line = str(Key(name, _digest(secret), requests_per_minute))
    if not _LINE.fullmatch(line):
        sys.exit(
            f"error: {name!r} at {requests_per_minute} requests per minute makes no key; use letters, digits and ._@-, and a rate from 1"
        )
    print(f"key, for the caller:    {secret}\nline, for the key file: {line}")


if __name__ == "__main__":
    tyro.cli(main)
