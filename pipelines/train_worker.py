"""What each of Ray Train's workers does: the same code on one CPU, and on every GPU of many nodes."""

from __future__ import annotations

import logging
import traceback
from dataclasses import dataclass
from datetime import datetime

import ray
import ray.train
import ray.train.torch

from models.spec import SegmenterSpec
from pipelines.config import TrainConfig
from pipelines.data.records import LabelledData
from pipelines.data.sources import draw_if_missing
from pipelines.dataset import TrainingSet
from pipelines.learner import build_learner
from pipelines.progress import Progress
from pipelines.ray_checkpoints import RayCheckpoints
from pipelines.timing import step_clock
from pipelines.tracking import TrackedRun
from pipelines.training_loop import training_loop
from pipelines.validation import validate, validation_pictures
from pipelines.workers import Workers


@dataclass(frozen=True)
class TrainJob:
    """What the driver hands to each worker; `data` is a reference to `LabelledData`."""

    config: TrainConfig
    spec: SegmenterSpec
    data: ray.ObjectRef
    data_digest: str
    run: TrackedRun
    loader_processes: int
    start: ray.ObjectRef | None = None
    """To the weights that the network begins with; None for fresh ones."""


def train_worker(job: TrainJob) -> None:
    """Trains from the last good checkpoint, or from the start, to the last epoch; a traceback of what stops it goes to the run."""
    logging.getLogger().setLevel(logging.CRITICAL)  # else Ray Train prints every report whole, and the traceback of a full disk
    context = ray.train.get_context()
    workers = Workers(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())
    try:
        _train(job, workers)
    except Exception:
        job.run.log_text(traceback.format_exc(), f"failures/{datetime.now():%Y%m%d-%H%M%S}-worker-{workers.rank}.txt")
        raise


def _train(job: TrainJob, workers: Workers) -> None:
    draw_if_missing(job.config.data)
    data: LabelledData = ray.get(job.data)

    optimization = job.config.optimization
    dataset = TrainingSet(
        data.splits["train"],
        job.spec,
        optimization.augmentation,
        optimization.loss,
        data_digest=job.data_digest,
        cache_bytes=job.config.scale.cache_bytes,
    )
    clock = step_clock(workers.device)
    learner = build_learner(job.config, job.spec, workers, clock, ray.get(job.start) if job.start else None)
    checkpoints = RayCheckpoints(workers, job.config.scale.checkpoint_every_s)
    state = checkpoints.restore(learner)

    def validated(epoch: int, metrics: dict[str, float]) -> dict[str, float]:
        metrics = metrics | validate(learner.served, job.spec, data.splits["val"], workers)
        if workers.is_first:
            job.run.log_metrics(metrics, step=epoch)
            pictures = validation_pictures(learner.served, job.spec, data.splits["val"], workers)
            job.run.log_picture(pictures, f"predictions/epoch_{epoch:04d}.jpg")
        return metrics

    with job.run.system_metrics(enabled=workers.is_first):
        training_loop(
            learner,
            state,
            dataset,
            job.config,
            workers,
            clock,
            loader_processes=job.loader_processes,
            validate=validated,
            checkpoints=checkpoints,
            progress=Progress(optimization.epochs, silent=not workers.is_first),
        )
