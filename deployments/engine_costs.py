"""What engines cost on this machine: milliseconds and megabytes."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import psutil

from models.bundle import load_network
from models.engines import Engine
from models.engines.eager import EagerEngine
from models.engines.onnx import OnnxEngine
from models.engines.parity import drawn_images
from models.spec import read_spec

_BATCH_SIZES = (1, 8)


def latency_ms(engines: dict[str, Engine], input_size: tuple[int, int], rounds: int) -> dict[str, dict[str, float]]:
    """The median milliseconds of a batch, by batch size and engine. The engines take turns, so that a busy machine slows all."""
    return {str(batch_size): _latency_ms(engines, input_size, batch_size, rounds) for batch_size in _BATCH_SIZES}


def resident_mb(bundle: Path, graph: Path | None) -> float:
    """Megabytes that a process of its own holds after a batch of 8: engine `onnx` with `graph`, else `torch`."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_resident_mb, bundle, graph).result()


def _latency_ms(engines: dict[str, Engine], input_size: tuple[int, int], batch_size: int, rounds: int) -> dict[str, float]:
    pixels = drawn_images(input_size, batch_size)
    times_s: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(1 + rounds):
        for name, engine in engines.items():
            start = time.perf_counter()
            engine.compute(pixels)
            times_s[name].append(time.perf_counter() - start)
    return {name: 1000 * statistics.median(times[1:]) for name, times in times_s.items()}  # the first one warms up


def _resident_mb(bundle: Path, graph: Path | None) -> float:
    spec = read_spec(bundle)
    engine = OnnxEngine(graph.read_bytes()) if graph else EagerEngine(load_network(bundle, spec))
    engine.compute(drawn_images(spec.input_size, max(_BATCH_SIZES)))
    return psutil.Process().memory_full_info().uss / 2**20
