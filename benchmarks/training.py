"""Steady-state samples/s of Ray Train with 1 and 2 workers, beside the same loop without Ray.

python -m benchmarks.training
python -m benchmarks.training --help
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed
import tyro
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from models.spec import Architecture, SegmenterSpec
from models.unet import build_network
from pipelines.config import OptimizationConfig
from pipelines.data.sources import draw_if_missing, read_data
from pipelines.dataset import ShardedBatchSampler, TrainingSet, training_loader
from pipelines.train_worker import train_step

_WARM_UP_STEPS = 3


@dataclass(frozen=True)
class TrainingBenchmark:
    """Compare Ray Train with the same loop without it."""

    data: str = "scenes"
    """oxford_pets:PATH, coco:PATH, masks:PATH or scenes."""
    encoder: str = "mobilenet_v2"
    input_size: tuple[int, int] = (128, 128)
    batch_size_per_worker: int = 16
    seconds: float = 20
    """How long each loop is measured in each round."""
    rounds: int = 3
    """The loops take turns; the median of the rounds counts."""
    json: Path | None = None
    """Write the table's rows here too."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    loop: str
    num_workers: int
    samples_per_s: float
    ratio_to_plain: float


def main(config: TrainingBenchmark) -> None:
    """Prints the table."""
    draw_if_missing(config.data)
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
    ray.init(address="local", logging_level="warning")
    cases = list(itertools.product((1, 2), (("plain", run_plain), ("ray", run_ray))))
    results: dict[tuple[str, int], list[float]] = {}
    for round_ in range(config.rounds):
        for num_workers, (loop, run) in cases:
            rate = run(config, num_workers)
            results.setdefault((loop, num_workers), []).append(rate)
            print(f"round {round_ + 1}/{config.rounds}  {loop} x {num_workers}: {rate:.1f} samples/s", flush=True)
    rows = [
        Row(loop, n, statistics.median(rates), statistics.median(rate / plain for rate, plain in zip(rates, results["plain", n])))
        for (loop, n), rates in results.items()
    ]
    print(f"\n{config.encoder} at {config.input_size}, {config.batch_size_per_worker} images a step and worker, {os.cpu_count()} CPUs")
    print(f"{'loop':<8}{'num_workers':>12}{'samples_per_s':>16}{'ratio_to_plain':>16}")
    for row in rows:
        print(f"{row.loop:<8}{row.num_workers:>12}{row.samples_per_s:>16.1f}{row.ratio_to_plain:>16.3f}")
    if config.json:
        config.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))


def run_plain(config: TrainingBenchmark, num_workers: int) -> float:
    """Samples/s of all workers together, each a process that PyTorch starts."""
    with tempfile.TemporaryDirectory() as folder:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        torch.multiprocessing.spawn(_plain_worker, (num_workers, port, config, Path(folder)), nprocs=num_workers)
        return _collect(Path(folder))


def run_ray(config: TrainingBenchmark, num_workers: int) -> float:
    """Samples/s of all workers together, each an actor of Ray Train."""
    with tempfile.TemporaryDirectory() as folder:
        ray.train.torch.TorchTrainer(
            partial(_ray_worker, config, Path(folder)),
            scaling_config=ray.train.ScalingConfig(num_workers=num_workers, resources_per_worker={"CPU": _threads(num_workers)}),
            run_config=ray.train.RunConfig(storage_path=folder, logging_config=ray.train.LoggingConfig(log_level="WARNING")),
        ).fit()
        return _collect(Path(folder))


def _plain_worker(rank: int, world_size: int, port: int, config: TrainingBenchmark, folder: Path) -> None:
    if world_size > 1:
        torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=world_size)
    _measure(config, rank, world_size, DistributedDataParallel if world_size > 1 else lambda network: network, folder)
    if world_size > 1:
        torch.distributed.destroy_process_group()


def _ray_worker(config: TrainingBenchmark, folder: Path) -> None:
    context = ray.train.get_context()
    _measure(config, context.get_world_rank(), context.get_world_size(), ray.train.torch.prepare_model, folder)


def _measure(config: TrainingBenchmark, rank: int, world_size: int, wrap: Callable[[nn.Module], nn.Module], folder: Path) -> None:
    """Trains for the configured time and leaves this rank's samples/s in `folder`."""
    torch.set_num_threads(_threads(world_size))
    torch.manual_seed(0)
    data = read_data(config.data)
    spec = SegmenterSpec(Architecture(encoder=config.encoder), data.label_set, config.input_size)
    network = build_network(spec.architecture, len(data.label_set)).to(memory_format=torch.channels_last)
    optimization = OptimizationConfig(batch_size_per_worker=config.batch_size_per_worker)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    trained = wrap(network).train()
    dataset = TrainingSet(data.splits["train"], spec)
    sampler = ShardedBatchSampler(
        len(dataset), global_batch_size=config.batch_size_per_worker * world_size, rank=rank, world_size=world_size, seed=0
    )
    loader = training_loader(dataset, sampler, loader_processes=0, pin_memory=False)

    num_samples, begin = 0, time.perf_counter()
    for step, batch in enumerate(itertools.chain.from_iterable(itertools.repeat(loader))):
        train_step(trained, optimizer, batch, len(data.label_set), optimization)
        num_samples += len(batch.image)
        if step + 1 == _WARM_UP_STEPS:
            num_samples, begin = 0, time.perf_counter()
        elif _all_done(time.perf_counter() - begin > config.seconds, world_size):
            break
    (folder / f"rank{rank}.json").write_text(json.dumps(num_samples / (time.perf_counter() - begin)))


def _all_done(done: bool, world_size: int) -> bool:
    """Whether the first worker's time is up: all stop at the same step, or one would wait for the others for ever."""
    if world_size == 1:
        return done
    flag = torch.tensor(int(done))
    torch.distributed.broadcast(flag, src=0)
    return bool(flag)


def _collect(folder: Path) -> float:
    return sum(json.loads(path.read_text()) for path in folder.glob("rank*.json"))


def _threads(num_workers: int) -> int:
    return max(1, (os.cpu_count() or 1) // num_workers)


if __name__ == "__main__":
    main(tyro.cli(TrainingBenchmark))
