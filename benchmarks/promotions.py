"""What callers notice while the champion changes: `python -m benchmarks.promotions --promotions 10`.

Photos are sent at a constant rate while the alias moves between good versions and to broken ones, the gate refuses one, and a
rollback takes a promotion back. Every answer must be the index PNG of the version that it names, bit for bit. Exits with 1 where a
request failed, a mask was another version's, or a broken version answered.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from benchmarks.http_load import post_of, read_answer
from benchmarks.registered import NAME, Registered, register_versions
from benchmarks.service import Model, Placement, server, server_environment, serving_rss_bytes
from pipelines.registry import Registry

_PATH = "/v1/segment?format=png"
_MAX_BATCH_SIZE = 4
_PATIENCE_S = 90  # for a version to serve, or to be refused
_AGREED_S = 2  # all replicas answer with a version where for so long none answered with another
_MEMORY_WAIT_S = 60


@dataclass(frozen=True)
class Options:
    """What to measure."""

    json: Path | None = None
    """Where to write the result as well."""
    seconds: float = 20
    """Load before the first promotion."""
    promotions: int = 10
    rate: float = 8
    """Requests a second; well below what the machine can answer."""
    photos: int = 6
    """Different ones: real, where SEGMENTATION_DATA has some, else drawn."""
    model: Model = "unet-mobilenet_v2"
    placement: Placement = "fused"


@dataclass(frozen=True)
class Request:
    """One request's end: when it was sent and answered, its status (0: hung up), the version and whether the mask is that one's."""

    sent: float
    ended: float
    status: int
    version: str
    is_right: bool


@dataclass
class Traffic:
    """The load, for as long as the block lasts, and what came of it so far."""

    port: int
    registered: Registered
    rate: float
    done: list[Request] = field(default_factory=list)
    moments: random.Random = field(default_factory=lambda: random.Random(0))

    async def run(self) -> None:
        """Sends until it is cancelled, then waits for the answers."""
        requests = [post_of(_PATH, photo) for photo in self.registered.photos]
        idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        tasks, due, number = set(), time.perf_counter(), 0
        try:
            while True:
                due += self.moments.expovariate(self.rate)
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                task = asyncio.create_task(self._ask(requests[number % len(requests)], number % len(requests), idle))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                number += 1
        finally:
            await asyncio.gather(*tasks)
            for _, writer in idle:
                writer.close()

    async def _ask(self, request: bytes, photo: int, idle: list) -> None:
        sent, status, version, is_right = time.perf_counter(), 0, "", False
        try:
            reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(request)
            answer = await read_answer(reader)
            status, version = answer.status, answer.model_version
            is_right = version in self.registered.expected and answer.body in self.registered.expected[version][photo]
            writer.close() if answer.ends_connection else idle.append((reader, writer))
        except (asyncio.IncompleteReadError, OSError) as error:
            print(f"a request was lost: {error!r}", file=sys.stderr)  # it counts with status 0
        self.done.append(Request(sent, time.perf_counter(), status, version, is_right))

    async def all_by(self, version: str) -> float:
        """When the last answer of another version ended, once all replicas answer with this one."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            answered = [each for each in self.done if each.status == 200]
            others = max((each.ended for each in answered if each.version != f"{NAME}/{version}"), default=0.0)
            if answered and answered[-1].version == f"{NAME}/{version}" and time.perf_counter() - others > _AGREED_S:
                return others
        sys.exit(f"error: version {version} does not serve after {_PATIENCE_S} s; MLflow says: {self.registered.refusal(version)}")


@dataclass
class Windows:
    """Spans of time by what happened in them."""

    spans: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.spans.setdefault(name, []).append((start, time.perf_counter()))

    def p99_ms(self, name: str, done: list[Request]) -> float:
        """Of the answered requests that were under way at some time in these spans."""
        inside = [1e3 * (r.ended - r.sent) for r in done if any(r.sent < end and r.ended > start for start, end in self.spans[name])]
        return round(statistics.quantiles(inside, n=100)[98], 1) if len(inside) > 1 else 0.0


def main(options: Options) -> None:
    """Measures and prints."""
    os.environ.update(server_environment(haproxy=False))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MASKWORKS_HOME"] = folder
        registered = register_versions(Path(folder), options.model, options.photos, _MAX_BATCH_SIZE)
        settings = {"tracking_uri": registered.uri, "max_batch_size": _MAX_BATCH_SIZE, "follow_every_s": 1}
        with server(f"models:/{NAME}@champion", options.placement, **settings) as port:
            result = asyncio.run(measure(options, registered, port))
    for name, value in result.items():
        print(f"{name:>36}  {value}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    sys.exit(bool(result["failed"] or result["wrong masks"] or result["answers by broken versions"] or result["broken, not refused"]))


async def measure(options: Options, registered: Registered, port: int) -> dict[str, object]:
    """The counts and times, by name."""
    traffic, windows = Traffic(port, registered, options.rate), Windows()
    load = asyncio.create_task(traffic.run())
    await traffic.all_by(registered.good[0])
    with windows.span("before"):
        await asyncio.sleep(options.seconds)
    before_bytes = serving_rss_bytes()
    swaps_s = [await promote(traffic, windows, number) for number in range(1, options.promotions + 1)]
    last = registered.good[options.promotions % len(registered.good)]
    refusals = {
        kind: await try_broken(traffic, windows, version, last) for kind, version in registered.broken.items() if kind != "damaged class"
    }
    refusals["damaged class"] = await gate(windows, registered, registered.broken["damaged class"])
    rollback_s, back_s = await roll_back(traffic, registered.good[(options.promotions - 1) % len(registered.good)])
    await asyncio.sleep(_MEMORY_WAIT_S)
    after_bytes = serving_rss_bytes()
    load.cancel()
    await asyncio.gather(load, return_exceptions=True)
    done = traffic.done
    broken = {f"{NAME}/{version}" for version in registered.broken.values()}
    return {
        "requests": len(done),
        "failed": sum(each.status != 200 for each in done),
        "wrong masks": sum(each.status == 200 and not each.is_right for each in done),
        "promotions": len(swaps_s),
        "seconds to serve, median and most": f"{statistics.median(swaps_s):.1f}, {max(swaps_s):.1f}",
        "answers by broken versions": sum(each.version in broken for each in done),
        "broken, not refused": sum(not refusal for refusal in refusals.values()),
        **{f"refused, {kind}": refusal for kind, refusal in refusals.items()},
        "rollback command, s": round(rollback_s, 1),
        "until the version before answers, s": round(back_s, 1),
        **{f"p99 {name}, ms": windows.p99_ms(name, done) for name in windows.spans},
        "memory before, MiB": round(before_bytes / 2**20),
        f"memory {_MEMORY_WAIT_S} s after, MiB": round(after_bytes / 2**20),
    }


async def promote(traffic: Traffic, windows: Windows, number: int) -> float:
    """Makes the next good version champion; how long until it alone answers."""
    registered = traffic.registered
    registry = Registry(registered.uri, NAME)
    to = registered.good[number % len(registered.good)]

    def move() -> None:
        registry.move_champion(to, expected=registry.champion(), history=[*registry.history(), to], why="a benchmark")

    with windows.span("during promotions"):
        start = time.perf_counter()
        await asyncio.to_thread(move)
        return await traffic.all_by(to) - start


async def try_broken(traffic: Traffic, windows: Windows, version: str, good: str) -> str | None:
    """Moves the alias there by hand, past the gate, and back; what the service said of it."""
    registered = traffic.registered
    with windows.span("while broken versions were tried"):
        await asyncio.to_thread(registered.move_by_hand, version)
        refusal = await until(lambda: registered.refusal(version))
        await asyncio.sleep(_AGREED_S)
        await asyncio.to_thread(registered.move_by_hand, good)
    return refusal


async def until(ask: Callable[[], str | None]) -> str | None:
    """What it says, or None where it says nothing for long."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        if said := await asyncio.to_thread(ask):
            return said
        await asyncio.sleep(0.5)
    return None


async def gate(windows: Windows, registered: Registered, version: str) -> str | None:
    """Tries to promote the version as a user does; why the gate refused it."""
    with windows.span("while the gate compared"):
        status, said = await command(NAME, version, "--tracking-uri", registered.uri)
    return said.splitlines()[-1] if status == 1 else None


async def roll_back(traffic: Traffic, before: str) -> tuple[float, float]:
    """How long the command took, and how long from its start until the version before alone answers."""
    start = time.perf_counter()
    status, said = await command(NAME, "--rollback", "--tracking-uri", traffic.registered.uri)
    command_s = time.perf_counter() - start
    if status:
        sys.exit(f"error: the rollback failed: {said}")
    return command_s, await traffic.all_by(before) - start


async def command(*arguments: str) -> tuple[int, str]:
    """The exit status of `pipelines.promote` and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pipelines.promote", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode().strip()


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
