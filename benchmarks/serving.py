"""How near serving comes to the bare functions: `python -m benchmarks.serving`.

One JPEG of 640 x 427 in, one index PNG of its size out. `limit` is the stages' own functions in two processes with no server.
Latencies include waiting behind the other connections. Alone on a machine, or the numbers say little.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
import tyro
from dotenv import dotenv_values
from PIL import Image

from benchmarks.http_load import post_for
from models.bundle import save_bundle
from models.label_set import LabelSet
from models.spec import Architecture, SegmenterSpec
from models.unet import build_network

_FRONT = Path(__file__).parents[1] / "deployments" / "front.env"
_NUM_PROCESSES = 2
_WARM_UP_S = 3
_MODELS = {  # architecture and input size; the toy's network costs next to nothing, so that the overhead shows
    "toy": (Architecture("unet", "tu-test_resnet"), (64, 64)),
    "unet-mobilenet_v2": (Architecture("unet", "mobilenet_v2"), (256, 256)),
}


@dataclass(frozen=True)
class Options:
    """What to measure."""

    json: Path | None = None
    """Where to write the rows as well."""
    seconds: float = 15
    """Length of each measurement."""
    connections: tuple[int, ...] = (16,)
    """Numbers of connections, each with one request under way."""
    models: tuple[Literal["toy", "unet-mobilenet_v2"], ...] = ("toy", "unet-mobilenet_v2")
    placements: tuple[Literal["fused", "split"], ...] = ("fused", "split")
    haproxy: bool = False
    """HAProxy in front, which is faster. It opens its statistics on ports 8404 and 9101 of all interfaces meanwhile."""


@dataclass(frozen=True)
class Row:
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
    photo = sample_photo()
    rows: list[Row] = []
    print("  ".join(f"{name:>17}" for name in Row.__annotations__))
    with tempfile.TemporaryDirectory() as folder:
        for model in options.models:
            bundle = make_bundle(Path(folder) / model, model)
            limit = measure_limit(bundle, model, photo, options.seconds)
            rows.append(show(limit))
            for placement in options.placements:
                with server(bundle, placement) as port:
                    post(port, photo, max(options.connections), _WARM_UP_S)
                    for connections in options.connections:
                        rows.append(show(measure_server(port, photo, limit, placement, connections, options.seconds)))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def server_environment(haproxy: bool) -> dict[str, str]:
    """Settings that Ray's processes read as they start."""
    return dotenv_values(_FRONT) if haproxy else {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}


def sample_photo() -> bytes:
    """A photo of 640 x 427 as JPEG: the real one where there is one, else a drawn one of its size."""
    real = Path(os.environ.get("SEGMENTATION_DATA", "../shared/data")) / "photos" / "dog.jpg"
    if real.is_file():
        return real.read_bytes()
    y, x = np.mgrid[:427, :640]
    waves = [127 + 127 * np.sin((x * (1 + channel) + y * (3 - channel)) / 40) for channel in range(3)]
    file = io.BytesIO()
    Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def make_bundle(folder: Path, model: str) -> Path:
    """A bundle of the untrained network."""
    import torch

    torch.manual_seed(0)
    architecture, input_size = _MODELS[model]
    label_set = LabelSet.from_names(["background", "pet", "border"])
    return save_bundle(folder, build_network(architecture, len(label_set)), SegmenterSpec(architecture, label_set, input_size), {})


def measure_limit(bundle: Path, model: str, photo: bytes, seconds: float) -> Row:
    """The stages' functions, one image after another, in processes that share nothing."""
    context = multiprocessing.get_context("spawn")
    start_together = context.Barrier(_NUM_PROCESSES)
    with context.Pool(_NUM_PROCESSES, initializer=_receive_barrier, initargs=(start_together,)) as pool:
        results = pool.starmap(_run_stages, [(bundle, photo, seconds)] * _NUM_PROCESSES, chunksize=1)
    latencies_s = [latency for latencies, _ in results for latency in latencies]
    return _row("limit", model, 0, latencies_s, seconds, None, sum(rss for _, rss in results))


def _receive_barrier(barrier) -> None:
    global _start_together
    _start_together = barrier


def _run_stages(bundle: Path, photo: bytes, seconds: float) -> tuple[list[float], int]:
    from deployments.formats import PNG
    from deployments.model_stage import ModelStage
    from deployments.query import Query
    from deployments.stages import Postprocessor, Predicted, Preprocessor
    from models.bundle import load_bundle
    from models.image import ImageLimits

    segmenter = load_bundle(bundle)
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
    return answer_for(seconds), psutil.Process().memory_info().rss


@contextmanager
def server(bundle: Path, placement: str, **replicas: int) -> Iterator[int]:
    """A Serve of its own on a free port of this machine alone, stopped at the end."""
    import ray
    from ray import serve

    from deployments.app import build_app
    from deployments.config import AppConfig

    replicas = replicas or {"fused": {"num_replicas": _NUM_PROCESSES}, "split": {"num_model_replicas": _NUM_PROCESSES}}[placement]
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init(
        address="local",
        num_cpus=_NUM_PROCESSES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
    )
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(build_app(AppConfig(model_uri=str(bundle), placement=placement, **replicas)))
        yield port
    finally:
        serve.shutdown()
        ray.shutdown()


def measure_server(port: int, photo: bytes, limit: Row, placement: str, connections: int, seconds: float) -> Row:
    """What the server answers while `connections` ask all the time."""
    load = post(port, photo, connections, seconds)
    if load.failures:
        sys.exit(f"{len(load.failures)} of {len(load.failures) + len(load.latencies_s)} requests failed with {set(load.failures)}")
    return _row(placement, limit.model, connections, load.latencies_s, load.elapsed_s, limit, serving_rss_bytes())


def post(port: int, photo: bytes, connections: int, seconds: float):
    return post_for(seconds, port=port, path="/v1/segment?format=png", body=photo, connections=connections)


def serving_rss_bytes() -> int:
    """Resident memory of the replicas and the proxy that this process started."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            command = " ".join(process.cmdline())
            total += process.memory_info().rss * any(part in command for part in ("ServeReplica", "ProxyActor", "haproxy", "HAProxy"))
        except psutil.NoSuchProcess:
            continue
    return total


def _row(
    placement: str, model: str, connections: int, latencies_s: list[float], elapsed_s: float, limit: Row | None, rss_bytes: int
) -> Row:
    percentiles = statistics.quantiles(latencies_s, n=100)
    rate = len(latencies_s) / elapsed_s
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
