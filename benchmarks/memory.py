"""Whether serving grows: `python -m benchmarks.memory` sends thousands of requests and fits a line through the resident memory.

The first fifth of the requests is left out: caches fill, and glibc's heap reaches its size.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

from benchmarks.http_load import post_for
from benchmarks.service import Model, Placement, make_bundle, sample_photo, server, server_environment, serving_rss_bytes

_LOOK_EVERY_S = 2


@dataclass(frozen=True)
class Options:
    """What to measure."""

    requests: int = 5000
    """At least so many."""
    connections: int = 16
    model: Model = "toy"
    placement: Placement = "fused"
    format: str = "png"
    """Of the answers."""
    haproxy: bool = False
    """HAProxy in front. It opens its statistics on ports 8404 and 9101 of all interfaces meanwhile."""


def main(options: Options) -> None:
    """Measures and prints."""
    os.environ.update(server_environment(options.haproxy))
    photo, path = sample_photo(), f"/v1/segment?format={options.format}"
    with tempfile.TemporaryDirectory() as folder:
        bundle = make_bundle(Path(folder) / "bundle", options.model)
        with server(bundle, options.placement) as port:
            answered, resident = send(options, port=port, path=path, body=photo)
    steady = len(resident) // 5
    slope, _ = np.polyfit(answered[1 + steady :], resident[steady:], 1)
    print(
        f"resident memory after {answered[1 + steady]} requests {resident[steady] / 2**20:.0f} MiB, after {answered[-1]} {resident[-1] / 2**20:.0f} MiB"
    )
    print(f"slope {slope:.0f} bytes a request")


def send(options: Options, **request: object) -> tuple[list[int], list[int]]:
    """How many requests were answered by each look, from 0 on, and the resident bytes at each but the first."""
    answered, resident = [0], []
    with tqdm(total=options.requests, unit="request") as progress:
        while answered[-1] < options.requests:
            load = post_for(_LOOK_EVERY_S, connections=options.connections, **request)
            if load.failures:
                raise SystemExit(f"{len(load.failures)} requests failed with {set(load.failures)}")
            answered.append(answered[-1] + load.num_answered)
            resident.append(serving_rss_bytes())
            progress.update(load.num_answered)
    return answered, resident


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
