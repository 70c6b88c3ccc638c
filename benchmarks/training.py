"""Steady-state samples/s of Ray Train with 1 and 2 workers, beside the same loop without Ray; where a step's time goes; what a report costs;
how many photos a CPU can augment.

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
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed
import tyro

from models.spec import Architecture, SegmenterSpec
from pipelines.checkpoint import Snapshot, TrainState
from pipelines.config import OptimizationConfig, ScaleConfig, TrainConfig
from pipelines.data.sources import draw_if_missing, read_data
from pipelines.dataset import Sample, TrainingSet
from pipelines.learner import Learner, build_learner
from pipelines.progress import Progress
from pipelines.ray_checkpoints import RayCheckpoints
from pipelines.timing import shares_of, step_clock
from pipelines.training_loop import training_loop
from pipelines.workers import Workers

_WARM_UP_STEPS = 3
_REPORTS = 4
_AUGMENTED = 300
_LONG = 10**6


@dataclass(frozen=True)
class TrainingBenchmark:
    """Compare Ray Train with the same loop without it."""

    data: str = "scenes"
    """oxford_pets:PATH, coco:PATH, masks:PATH or scenes."""
    encoder: str = "mobilenet_v2"
    input_size: tuple[int, int] = (128, 128)
    batch_size_per_worker: int = 16
    num_workers: tuple[int, ...] = (1, 2)
    use_gpu: bool = False
    loader_processes: int = 0
    cache_bytes: int | None = None
    """Of decoded images. Default: a quarter of the free memory; 0: none."""
    steps: int = 40
    """How many steps of each loop are measured in each round, after a few to warm up."""
    rounds: int = 3
    """The loops take turns; the median of the rounds counts."""
    json: Path | None = None
    """Write the table's rows here too."""


@dataclass(frozen=True)
class Measurement:
    """What the first worker saw; samples are those of all workers."""

    samples_per_s: float
    shares: dict[str, float]
    report_s: float = 0.0
    """What a checkpoint costs the loop, where there is Ray."""
    look_s: float = 0.0
    """What it costs to agree whether to save, every five seconds."""
    checkpoint_bytes: int = 0


@dataclass
class Meter:
    """Stands where checkpoints are kept: every worker passes it after every step, and ends after the same one."""

    num_steps: int
    restart: Callable[[], object]
    """Forgets the times of the steps that warmed up."""
    looks: Callable[[], bool]
    steps: int = 0
    begin: float = field(default=0.0)

    class Enough(Exception):
        """All steps are measured."""

    def due(self) -> bool:
        self.looks()
        self.steps += 1
        if self.steps == _WARM_UP_STEPS:
            self.restart()
            self.begin = time.perf_counter()
        if self.steps == _WARM_UP_STEPS + self.num_steps:
            raise self.Enough
        return False

    def save(self, learner: Learner, state: TrainState, score: dict[str, float] | None = None) -> None:
        """Nothing: only the last epoch's validation would save."""


def main(config: TrainingBenchmark) -> None:
    """Prints the table."""
    draw_if_missing(config.data)
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")  # as in training
    ray.init(address="local", logging_level="warning")
    cases = list(itertools.product(config.num_workers, (("plain", run_plain), ("ray", run_ray))))
    results: dict[tuple[str, int], list[Measurement]] = {}
    for round_ in range(config.rounds):
        for num_workers, (loop, run) in cases:
            measured = run(config, num_workers)
            results.setdefault((loop, num_workers), []).append(measured)
            print(f"round {round_ + 1}/{config.rounds}  {loop} x {num_workers}: {measured.samples_per_s:.1f} samples/s", flush=True)
    _print_table(config, results)
    print(f"one CPU augments {_augmented_per_s(config):.0f} photos/s of this size")


def run_plain(config: TrainingBenchmark, num_workers: int) -> Measurement:
    """The loop in processes that PyTorch starts."""
    with tempfile.TemporaryDirectory() as folder:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        torch.multiprocessing.spawn(_plain_worker, (num_workers, port, config, Path(folder)), nprocs=num_workers)
        return _collect(Path(folder))


def run_ray(config: TrainingBenchmark, num_workers: int) -> Measurement:
    """The loop in actors of Ray Train."""
    with tempfile.TemporaryDirectory() as folder:
        ray.train.torch.TorchTrainer(
            partial(_ray_worker, config, Path(folder)),
            scaling_config=ray.train.ScalingConfig(
                num_workers=num_workers,
                use_gpu=config.use_gpu,
                resources_per_worker={"CPU": _threads(num_workers)} | ({"GPU": 1} if config.use_gpu else {}),
            ),
            run_config=ray.train.RunConfig(storage_path=folder, logging_config=ray.train.LoggingConfig(log_level="WARNING")),
        ).fit()
        return _collect(Path(folder))


def _plain_worker(rank: int, world_size: int, port: int, config: TrainingBenchmark, folder: Path) -> None:
    device = torch.device("cuda", rank) if config.use_gpu else torch.device("cpu")
    if world_size > 1:
        backend = "nccl" if config.use_gpu else "gloo"
        torch.distributed.init_process_group(backend, f"tcp://127.0.0.1:{port}", rank=rank, world_size=world_size)
    _, measured = _measure(config, Workers(rank, world_size, device), lambda: False)
    _leave(measured, rank, folder)
    if world_size > 1:
        torch.distributed.destroy_process_group()


def _ray_worker(config: TrainingBenchmark, folder: Path) -> None:
    context = ray.train.get_context()
    workers = Workers(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())
    checkpoints = RayCheckpoints(workers, every_s=_LONG)
    learner, measured = _measure(config, workers, checkpoints.due)
    report_s = _median_seconds(lambda: checkpoints.save(learner, TrainState()), pause_s=2)  # so that the one before is written
    look_s = _median_seconds(lambda: checkpoints.look())
    size = sum(tensor.nbytes for file in Snapshot.of(learner, TrainState()).tensors.values() for tensor in file.values())
    _leave(Measurement(measured.samples_per_s, measured.shares, report_s, look_s, size), workers.rank, folder)


def _measure(config: TrainingBenchmark, workers: Workers, looks: Callable[[], bool]) -> tuple[Learner, Measurement]:
    """Trains for the configured steps."""
    torch.set_num_threads(_threads(workers.world_size))
    data = read_data(config.data)
    spec = SegmenterSpec(Architecture(encoder=config.encoder), data.label_set, config.input_size)
    optimization = OptimizationConfig(epochs=_LONG, global_batch_size=config.batch_size_per_worker * workers.world_size)
    training = TrainConfig(config.data, optimization=optimization, scale=ScaleConfig())
    clock = step_clock(workers.device)
    learner = build_learner(training, spec, workers, clock)
    meter = Meter(config.steps, clock.take, looks)
    try:
        training_loop(
            learner,
            TrainState(),
            TrainingSet(data.splits["train"], spec, data_digest=config.data, cache_bytes=config.cache_bytes),
            training,
            workers,
            clock,
            loader_processes=config.loader_processes,
            validate=lambda epoch, metrics: metrics | {"miou": 0.0},
            checkpoints=meter,
            progress=Progress(_LONG, silent=True),
        )
    except Meter.Enough:
        seconds = time.perf_counter() - meter.begin
    num_samples = config.steps * optimization.global_batch_size
    return learner, Measurement(num_samples / seconds, shares_of(clock.take()))


def _print_table(config: TrainingBenchmark, results: dict[tuple[str, int], list[Measurement]]) -> None:
    device = torch.cuda.get_device_name() if config.use_gpu else f"{os.cpu_count()} CPUs"
    print(f"\n{config.encoder} at {config.input_size}, {config.batch_size_per_worker} images a step and worker, {device}")
    print(
        f"{'loop':<8}{'num_workers':>12}{'samples_per_s':>16}{'ratio_to_plain':>16}{'data':>8}{'forward':>9}{'backward':>9}{'all_reduce':>11}"
    )
    rows = []
    for (loop, n), measured in results.items():
        ratios = [one.samples_per_s / plain.samples_per_s for one, plain in zip(measured, results["plain", n])]
        shares = {name.partition("/")[2]: statistics.median(one.shares[name] for one in measured) for name in measured[0].shares}
        row = {"loop": loop, "num_workers": n, "samples_per_s": statistics.median(one.samples_per_s for one in measured)}
        rows.append(row | {"ratio_to_plain": statistics.median(ratios), "shares": shares, "rounds": [asdict(one) for one in measured]})
        parts = f"{shares['data']:>8.1%}{shares['forward']:>9.1%}{shares['backward']:>9.1%}{shares['all_reduce']:>11.1%}"
        print(f"{loop:<8}{n:>12}{row['samples_per_s']:>16.1f}{rows[-1]['ratio_to_plain']:>16.3f}{parts}")
    for (loop, n), measured in results.items():
        if loop == "ray":
            report, look = (1000 * statistics.median(getattr(one, name) for one in measured) for name in ("report_s", "look_s"))
            size = measured[0].checkpoint_bytes / 2**20
            print(f"{n} worker(s): a report with a checkpoint of {size:.0f} MiB takes {report:.0f} ms of the loop, a look {look:.1f} ms")
    if config.json:
        config.json.write_text(json.dumps(rows, indent=2))


def _augmented_per_s(config: TrainingBenchmark) -> float:
    """What one process can hand to the network: decoded photos, augmented with the defaults (copy-paste too), as tensors."""
    data = read_data(config.data)
    spec = SegmenterSpec(Architecture(encoder=config.encoder, instances=True), data.label_set, config.input_size)
    dataset = TrainingSet(data.splits["train"], spec, data_digest=config.data, cache_bytes=None)
    samples = [Sample(seed % len(dataset), seed) for seed in range(_AUGMENTED)]
    for sample in samples:
        dataset.read(sample.index)
    begin = time.perf_counter()
    for sample in samples:
        dataset[sample]
    return len(samples) / (time.perf_counter() - begin)


def _median_seconds(call: Callable[[], object], pause_s: float = 0.0) -> float:
    seconds = []
    for _ in range(_REPORTS):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
        time.sleep(pause_s)
    return statistics.median(seconds)


def _leave(measured: Measurement, rank: int, folder: Path) -> None:
    if rank == 0:
        (folder / "measured.json").write_text(json.dumps(asdict(measured)))


def _collect(folder: Path) -> Measurement:
    return Measurement(**json.loads((folder / "measured.json").read_text()))


def _threads(num_workers: int) -> int:
    return max(1, (os.cpu_count() or 1) // num_workers)


if __name__ == "__main__":
    main(tyro.cli(TrainingBenchmark))
