"""Load generators that leave the processor to the server: raw sockets, one request at a time on each connection."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple


@dataclass(frozen=True)
class Load:
    """What came back: the latencies of answered requests that count, how many were answered in all, the failures' statuses (0: hung up),
    and the answers a second."""

    latencies_s: list[float]
    num_answered: int
    failures: list[int]
    answers_per_s: float


def post_for(seconds: float, *, port: int, path: str, body: bytes, connections: int, warm_up_s: float = 0) -> Load:
    """Posts `body` to 127.0.0.1 from `connections` connections, each waiting for its answer, for `seconds` after a time to warm up.

    Counts requests that began and ended in those seconds, in which all connections ask.
    """
    return asyncio.run(_post_for(seconds, warm_up_s, port, post_of(path, body), connections))


def rate_of(latencies_s: Iterable[Sequence[float]]) -> float:
    """How many a second come of callers who ask again at once, from the latencies of each.

    Of whole requests, since those that a measurement cuts off at either end are up to a batch for each replica.
    """
    return sum(len(own) / sum(own) for own in latencies_s if own)


@dataclass(frozen=True)
class Arrival:
    """One request's end: its status (0: hung up), how long it took and what Retry-After said (0: nothing)."""

    status: int
    latency_s: float
    retry_after_s: int


def post_at_rate(
    rate: float, seconds: float, *, port: int, path: str, body: bytes, headers: Mapping[str, str], seed: int = 0
) -> list[Arrival]:
    """Posts `body` at random moments, `rate` times a second on average, whether or not earlier requests were answered.

    Connections are used again when they are free. Returns when all requests have ended.
    """
    return asyncio.run(_post_at_rate(rate, seconds, port, post_of(path, body, headers), random.Random(seed)))


def post_of(path: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """The request as it goes over the wire."""
    lines = {"Host": "127.0.0.1", "Content-Type": "image/jpeg", "Content-Length": str(len(body))} | dict(headers or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


async def _post_at_rate(rate: float, seconds: float, port: int, request: bytes, moments: random.Random) -> list[Arrival]:
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post() -> Arrival:
        sent = time.perf_counter()
        try:
            reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            answer = await read_answer(reader)
        except (asyncio.IncompleteReadError, OSError):
            return Arrival(0, time.perf_counter() - sent, 0)
        if answer.ends_connection:
            writer.close()
        else:
            idle.append((reader, writer))
        return Arrival(answer.status, time.perf_counter() - sent, answer.retry_after_s)

    tasks, start, moment = [], time.perf_counter(), 0.0
    while (moment := moment + moments.expovariate(rate)) < seconds:
        await asyncio.sleep(max(0.0, start + moment - time.perf_counter()))
        tasks.append(asyncio.create_task(post()))
    arrivals = list(await asyncio.gather(*tasks))
    for _, writer in idle:
        writer.close()
    return arrivals


async def _post_for(seconds: float, warm_up_s: float, port: int, request: bytes, connections: int) -> Load:
    statuses: list[int] = []
    start = time.perf_counter() + warm_up_s

    async def client() -> list[float]:
        latencies_s: list[float] = []
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (sent := time.perf_counter()) < start + seconds:
            writer.write(request)
            try:
                answer = await read_answer(reader)
            except (asyncio.IncompleteReadError, ConnectionError):
                answer = _HUNG_UP
            statuses.append(answer.status)
            if answer.status == 200 and sent >= start and (ended := time.perf_counter()) <= start + seconds:
                latencies_s.append(ended - sent)
            if answer.ends_connection:  # as HAProxy asks for when it takes in a new replica
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return latencies_s

    latencies_s = await asyncio.gather(*(client() for _ in range(connections)))
    failures = [status for status in statuses if status != 200]
    return Load(list(chain.from_iterable(latencies_s)), len(statuses) - len(failures), failures, rate_of(latencies_s))


class Answer(NamedTuple):
    status: int
    body: bytes
    ends_connection: bool
    retry_after_s: int
    model_version: str = ""


_HUNG_UP = Answer(0, b"", True, 0)


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Reads one answer to its end."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    body = await reader.readexactly(_number(head, b"content-length:"))
    return Answer(
        int(head[9:12]), body, b"\r\nconnection: close" in head, _number(head, b"retry-after:"), _value(head, b"x-model-version:").decode()
    )


def _number(head: bytes, header: bytes) -> int:
    return int(_value(head, header) or 0)


def _value(head: bytes, header: bytes) -> bytes:
    return head.partition(header)[2].partition(b"\r\n")[0].strip()
