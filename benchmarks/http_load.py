"""A load generator that leaves the processor to the server: raw sockets, one request at a time on each connection."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Load:
    """What came back: each answered request's latency, the failures' statuses (0: hung up), and the measured time."""

    latencies_s: list[float]
    failures: list[int]
    elapsed_s: float


def post_for(seconds: float, *, port: int, path: str, body: bytes, connections: int) -> Load:
    """Posts `body` to 127.0.0.1 from `connections` connections, each waiting for its answer, for `seconds`."""
    return asyncio.run(_post_for(seconds, port, post_of(path, body), connections))


def post_of(path: str, body: bytes) -> bytes:
    """The request as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def _post_for(seconds: float, port: int, request: bytes, connections: int) -> Load:
    latencies_s: list[float] = []
    failures: list[int] = []
    start = time.perf_counter()

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (sent := time.perf_counter()) < start + seconds:
            writer.write(request)
            try:
                status = (await read_answer(reader)).status
            except (asyncio.IncompleteReadError, ConnectionError):
                failures.append(0)
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                continue
            if status == 200:
                latencies_s.append(time.perf_counter() - sent)
            else:
                failures.append(status)
        writer.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    return Load(latencies_s, failures, time.perf_counter() - start)


class Answer(NamedTuple):
    status: int
    body: bytes
    ends_connection: bool


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Reads one answer to its end."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    return Answer(int(head[9:12]), await reader.readexactly(length), b"\r\nconnection: close" in head)
