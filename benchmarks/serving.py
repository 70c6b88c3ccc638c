"""How near serving comes to the bare functions: `python -m benchmarks.serving`.

One JPEG in, one index PNG of its size out. `limit` is the stages' own functions with no server, one image after another in each of two
processes (for one connection, in one), with Python's own allocator, while HAProxy's settings give replicas another. Latencies include
waiting behind the other connections. Alone on a machine, or the numbers say little. Machines change their pace from minute to minute, so
what counts is the median of some rounds, each with a limit of its own.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path

import psutil
import tyro

from benchmarks.http_load import post_for, rate_of
from benchmarks.service import (
    NUM_PROCESSES,
    Model,
    Photo,
    Placement,
    make_bundle,
    sample_photo,
    server,
    server_environment,
    serving_rss_bytes,
)
from models.engines import EngineName, EngineOptions

_PATH = "/v1/segment?format=png"
_WARM_UP_S = 3
_NO_FLOOR = 0  # the network is untrained, so that its classes nearly tie and no engine keeps all of them


@dataclass(frozen=True)
class Options:
    """What to measure."""

    json: Path | None = None
    """Where to write the rows as well."""
    seconds: float = 15
    """Length of each measurement."""
    rounds: int = 1
    """How often all is measured."""
    connections: tuple[int, ...] = (16,)
    """Numbers of connections, each with one request under way."""
    models: tuple[Model, ...] = ("toy", "unet-mobilenet_v2")
    placements: tuple[Placement, ...] = ("fused", "split")
    photo: Photo = "small"
    """640 x 427, or 12 megapixels."""
    engine: EngineName = "torch"
    """Computes the network, in the limit as well."""
    haproxy: bool = False
    """HAProxy in front, which is faster. It opens its statistics on ports 8404 and 9101 of all interfaces meanwhile."""


@dataclass(frozen=True)
class Row:
    """`connections` of a limit: of the rows that it is the limit for."""

    placement: str
    model: str
    connections: int
    images_per_s: float
    p50_ms: float
    p99_ms: float
    ratio_to_limit: float
    rss_bytes: int


def main(options: Options) -> None:
    """Measures and prints."""
    os.environ.update(server_environment(options.haproxy))
    photo = sample_photo(options.photo)
    print("  ".join(f"{name:>17}" for name in Row.__annotations__))
    rounds = [_measure_all(photo, options) for _ in range(options.rounds)]
    rows = [_median(measured) for measured in zip(*rounds, strict=True)]
    if options.rounds > 1:
        print(f"medians of {options.rounds} rounds")
        for row in rows:
            show(row)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def _measure_all(photo: bytes, options: Options) -> list[Row]:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for model in options.models:
            bundle = make_bundle(Path(folder) / model, model, options.engine)
            limits = {each: show(measure_limit(bundle, model, photo, each, options)) for each in options.connections}
            rows += limits.values()
            for placement in options.placements:
                with server(bundle, placement, engine=options.engine, min_parity=_NO_FLOOR) as port:
                    rows += [show(measure_server(port, photo, limit, placement, options)) for limit in limits.values()]
    return rows


def _median(rows: Sequence[Row]) -> Row:
    """Of each number; the rows measure the same."""
    numbers = {name for name, kind in Row.__annotations__.items() if kind in ("float", "int")}
    return replace(rows[0], **{name: round(statistics.median(getattr(row, name) for row in rows), 3) for name in numbers})


def measure_limit(bundle: Path, model: str, photo: bytes, connections: int, options: Options) -> Row:
    """The stages' functions, one image after another, in processes that share nothing."""
    num_processes = min(connections, NUM_PROCESSES)
    context = multiprocessing.get_context("spawn")
    start_together = context.Barrier(num_processes)
    with context.Pool(num_processes, initializer=_receive_barrier, initargs=(start_together,)) as pool:
        results = pool.starmap(_run_stages, [(bundle, photo, options)] * num_processes, chunksize=1)
    latencies_s = [latencies for latencies, _ in results]
    rss_bytes = sum(rss for _, rss in results)
    return _row("limit", model, connections, list(chain.from_iterable(latencies_s)), rate_of(latencies_s), None, rss_bytes)


def _receive_barrier(barrier) -> None:
    global _start_together
    _start_together = barrier


def _run_stages(bundle: Path, photo: bytes, options: Options) -> tuple[list[float], int]:
    from deployments.formats import PNG
    from deployments.model_stage import ModelStage
    from deployments.query import Query
    from deployments.stages import Postprocessor, Predicted, Preprocessor
    from models.bundle import load_bundle
    from models.image import ImageLimits

    segmenter = load_bundle(bundle, engine=EngineOptions(options.engine, min_parity=_NO_FLOOR))
    query = Query(PNG)
    preprocess, postprocess = Preprocessor(segmenter.spec, ImageLimits()), Postprocessor(segmenter.spec, ImageLimits(), "v")
    predict = ModelStage(segmenter, num_threads=1, max_batch_size=1)

    def answer_for(duration_s: float) -> list[float]:
        latencies_s = []
        end = time.perf_counter() + duration_s
        while (start := time.perf_counter()) < end:
            postprocess(Predicted(predict([preprocess(photo, query).image])[0], 1, {}), query, None)
            latencies_s.append(time.perf_counter() - start)
        return latencies_s

    answer_for(_WARM_UP_S)
    _start_together.wait()
    return answer_for(options.seconds), psutil.Process().memory_info().rss


def measure_server(port: int, photo: bytes, limit: Row, placement: str, options: Options) -> Row:
    """What the server answers while all connections ask all the time."""
    connections = limit.connections
    load = post_for(options.seconds, port=port, path=_PATH, body=photo, connections=connections, warm_up_s=_WARM_UP_S)
    if load.failures:
        sys.exit(f"{len(load.failures)} of {len(load.failures) + load.num_answered} requests failed with {set(load.failures)}")
    return _row(placement, limit.model, connections, load.latencies_s, load.answers_per_s, limit, serving_rss_bytes())


def _row(placement: str, model: str, connections: int, latencies_s: list[float], rate: float, limit: Row | None, rss_bytes: int) -> Row:
    percentiles = statistics.quantiles(latencies_s, n=100)
    ratio = rate / limit.images_per_s if limit else 1.0
    return Row(
        placement,
        model,
        connections,
        round(rate, 1),
        round(percentiles[49] * 1e3, 1),
        round(percentiles[98] * 1e3, 1),
        round(ratio, 3),
        rss_bytes,
    )


def show(row: Row) -> Row:
    """Prints the row and returns it."""
    print("  ".join(f"{value:>17}" for value in asdict(row).values()), flush=True)
    return row


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
