"""What callers lose while replicas are killed under load: `python -m benchmarks.chaos --haproxy`.

Every connection sends a photo of its own and compares the mask with the one that the undisturbed server gave. A request is lost when
the connection broke or the answer is neither a mask nor a refusal that says when to try again.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
import tyro
from PIL import Image

from benchmarks.http_load import Answer, post_of, read_answer
from benchmarks.service import make_bundle, sample_photo, server, server_environment

_PATH = "/v1/segment?format=png"
_REFUSED = (429, 503)
_LOOK_EVERY_S = 0.2  # for a replica to kill
_DEPLOYMENTS = {
    ("fused", "ingress"): ["FusedIngress"],
    ("split", "ingress"): ["SplitIngress"],
    ("split", "model"): ["Model"],
    ("split", "both"): ["SplitIngress", "Model"],
}


@dataclass(frozen=True)
class Options:
    """What to break, and how long."""

    seconds: float = 120
    """Length of the load."""
    every_s: float = 5
    """Time from one kill to the next, or more where the killed one has no successor yet."""
    kill: Literal["model", "ingress", "both"] = "both"
    """Replicas of which deployments; with `both` one or the other, at random."""
    placement: Literal["fused", "split"] = "split"
    connections: int = 4
    """Each with one request under way."""
    last: bool = False
    """Kill the last running replica as well; requests then wait for its successor."""
    haproxy: bool = False
    """With deployments/front.env; else Ray's Python proxy. HAProxy opens 8404 and 9101 on all interfaces meanwhile."""


@dataclass
class Tally:
    """What came of the requests; `lost` says how."""

    answered: int = 0
    wrong: int = 0
    refused: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0

    def count(self, answer: Answer, expected: bytes, duration_s: float) -> None:
        self.slowest_s = max(self.slowest_s, duration_s)
        if answer.status == 200:
            self.answered += 1
            self.wrong += answer.body != expected
        elif answer.status in _REFUSED:
            self.refused += 1
        else:
            self.lost[f"{answer.status} {answer.body[:60]!r} after {duration_s:.1f} s"] += 1


def main(options: Options) -> None:
    """Starts a server, breaks it, prints the tally; the exit status is 1 if anything was lost."""
    if (options.placement, options.kill) not in _DEPLOYMENTS:
        sys.exit(f"error: the {options.placement} placement has no replicas but the ingress; use --kill ingress")
    os.environ.update(server_environment(options.haproxy))
    with tempfile.TemporaryDirectory() as folder:
        bundle = make_bundle(Path(folder) / "toy", "toy")
        replicas = {"num_replicas": 2} if options.placement == "fused" else {"num_replicas": 2, "num_model_replicas": 2}
        with server(bundle, options.placement, **replicas) as port:
            tally, num_kills = asyncio.run(disturb(options, port))
    num_lost = sum(tally.lost.values())
    sent = tally.answered + tally.refused + num_lost
    print(f"sent {sent}  answered {tally.answered}  refused {tally.refused}  lost {num_lost}  wrong masks {tally.wrong}  kills {num_kills}")
    print(f"slowest {tally.slowest_s:.1f} s")
    for how, number in tally.lost.most_common():
        print(f"lost {number}: {how}")
    sys.exit(bool(num_lost or tally.wrong))


async def disturb(options: Options, port: int) -> tuple[Tally, int]:
    """The load and the kills beside it; the tally and the number of kills."""
    requests = [post_of(_PATH, photo) for photo in photos(options.connections)]
    expected = [await answer_of(port, request) for request in requests]
    tally, end = Tally(), time.monotonic() + options.seconds
    clients = [asyncio.create_task(ask(port, *pair, tally, end)) for pair in zip(requests, expected)]
    num_kills = await kill_until(end, options)
    await asyncio.gather(*clients)
    return tally, num_kills


def photos(number: int) -> list[bytes]:
    """The sample photo, shifted differently in each."""
    with Image.open(BytesIO(sample_photo())) as image:
        pixels = np.asarray(image)
    files = [BytesIO() for _ in range(number)]
    for index, file in enumerate(files):
        Image.fromarray(np.roll(pixels, 40 * index, axis=1)).save(file, "JPEG", quality=85)
    return [file.getvalue() for file in files]


async def answer_of(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await read_answer(reader)
    await close(writer)
    if answer.status != 200:
        sys.exit(f"error: the undisturbed server answered {answer.status} {answer.body[:200]!r}")
    return answer.body


async def ask(port: int, request: bytes, expected: bytes, tally: Tally, end: float) -> None:
    """Sends the request again and again until `end`, over one connection as long as it holds."""
    connection = None
    while (sent := time.monotonic()) < end:
        try:
            reader, writer = connection = connection or await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            answer = await read_answer(reader)
            tally.count(answer, expected, time.monotonic() - sent)
            broken = answer.ends_connection
        except (asyncio.IncompleteReadError, OSError) as error:
            tally.lost[f"{type(error).__name__} after {time.monotonic() - sent:.1f} s"] += 1
            broken = True
            await asyncio.sleep(0.1)
        if broken and connection:
            await close(connection[1])
            connection = None
    if connection:
        await close(connection[1])


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):  # it was broken
        await writer.wait_closed()


async def kill_until(end: float, options: Options) -> int:
    """Kills a replica now and then; how many."""
    num_kills, due = 0, time.monotonic() + options.every_s
    while time.monotonic() < end:
        await asyncio.sleep(_LOOK_EVERY_S)
        if time.monotonic() < due:
            continue
        deployment = random.choice(_DEPLOYMENTS[options.placement, options.kill])
        victims = replicas(deployment)
        if victims and (options.last or await asyncio.to_thread(is_spare, deployment, len(victims))):
            random.choice(victims).send_signal(signal.SIGKILL)
            num_kills, due = num_kills + 1, time.monotonic() + options.every_s
    return num_kills


def is_spare(deployment: str, num_processes: int) -> bool:
    """Whether one of the deployment's processes can go: all of them run, and are two or more."""
    from ray import serve

    states = serve.status().applications["default"].deployments[deployment].replica_states
    return states.get("RUNNING", 0) == num_processes > 1


def replicas(deployment: str) -> list[psutil.Process]:
    """The deployment's processes, all of them under this one."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            title = " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            continue
        if f"ServeReplica:default:{deployment}" in title:
            found.append(process)
    return found


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
