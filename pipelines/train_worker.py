"""What each of Ray Train's workers does: the same code on one CPU, and on every GPU of many nodes."""

from __future__ import annotations

import logging
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed
from torch import Tensor, nn

from models.losses import training_loss
from models.metrics import SegmentationCounts, summarize
from models.segmenter import Segmenter
from models.spec import SegmenterSpec
from models.unet import build_network
from pipelines.checkpoint import TrainState, load_checkpoint, save_checkpoint
from pipelines.config import OptimizationConfig, TrainConfig
from pipelines.counting import count_images
from pipelines.data.records import LabelledData
from pipelines.data.sources import draw_if_missing
from pipelines.dataset import Example, ShardedBatchSampler, TrainingSet, training_loader
from pipelines.pictures import prediction_sheet
from pipelines.progress import Progress
from pipelines.tracking import TrackedRun

_NUM_PICTURES = 6


@dataclass(frozen=True)
class TrainJob:
    """What the driver hands to each worker; `data` is a reference to `LabelledData`."""

    config: TrainConfig
    spec: SegmenterSpec
    data: ray.ObjectRef
    run: TrackedRun
    loader_processes: int


def train_worker(job: TrainJob) -> None:
    """Trains from the last checkpoint, or from the start, to the last epoch; reports each validation with a checkpoint."""
    logging.getLogger().setLevel(logging.WARNING)  # else Ray Train prints every report whole
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    optimization = job.config.optimization
    draw_if_missing(job.config.data)
    data: LabelledData = ray.get(job.data)

    torch.manual_seed(optimization.seed)
    network = build_network(job.spec.architecture, len(job.spec.label_set), pretrained=job.config.model.pretrained)
    network = network.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=optimization.weight_decay, fused=True)
    state = _restore(network, optimizer)
    trained = ray.train.torch.prepare_model(network)

    dataset = TrainingSet(data.splits["train"], job.spec, optimization.augmentation, optimization.loss)
    sampler = ShardedBatchSampler(
        len(dataset),
        global_batch_size=optimization.batch_size_per_worker * world_size,
        rank=rank,
        world_size=world_size,
        seed=optimization.seed,
    )
    loader = training_loader(dataset, sampler, loader_processes=job.loader_processes, pin_memory=device.type == "cuda")
    is_reporter = rank == 0
    progress = Progress(optimization.epochs, len(sampler), first_epoch=state.epochs_done, silent=not is_reporter)
    with job.run.system_metrics(enabled=is_reporter):
        for epoch in range(state.epochs_done, optimization.epochs):
            sampler.epoch = epoch
            totals = _train_epoch(trained, loader, optimizer, epoch, len(job.spec.label_set), optimization, device, progress)
            metrics = _across_workers(totals).summary()
            progress.epoch_done(metrics)
            if (epoch + 1) % optimization.validate_every and epoch + 1 < optimization.epochs:
                continue
            metrics |= _validate(network, job.spec, data, rank, world_size)
            state = TrainState(epoch + 1, (epoch + 1) * len(sampler), metrics)
            progress.validated(metrics)
            if is_reporter:
                job.run.log_metrics(metrics, step=epoch + 1)
                job.run.log_picture(_pictures(network, job.spec, data), f"predictions/epoch_{epoch + 1:04d}.jpg")
            _report(network, optimizer, state, is_reporter)


@dataclass
class EpochTotals:
    """Sums over an epoch's steps, to be added up over workers and divided once."""

    loss: Tensor
    """Sum over samples, a scalar on the training device: reading it at every step would make a GPU wait."""
    num_samples: int
    seconds: float

    def summary(self) -> dict[str, float]:
        """The epoch's metrics by name."""
        return {"train_loss": float(self.loss) / self.num_samples, "samples_per_s": self.num_samples / self.seconds}


def _train_epoch(
    trained: nn.Module, loader, optimizer, epoch: int, num_classes: int, config: OptimizationConfig, device, progress: Progress
) -> EpochTotals:
    torch.manual_seed(hash((config.seed, epoch)))  # dropout; a resumed epoch draws the same
    trained.train()
    totals = EpochTotals(torch.zeros((), device=device), 0, 0.0)
    begin = time.perf_counter()
    num_steps = len(loader)
    for step, batch in enumerate(loader, start=epoch * num_steps):
        _set_learning_rate(optimizer, step, num_steps * config.epochs, config)
        batch = Example(*(each.to(device, non_blocking=True) for each in batch))
        loss = train_step(trained, optimizer, batch, num_classes, config)
        totals.loss += loss * len(batch.image)
        totals.num_samples += len(batch.image)
        progress.step_done(epoch, step - epoch * num_steps)
    totals.seconds = time.perf_counter() - begin
    if not math.isfinite(float(totals.loss)):
        raise FloatingPointError(
            f"the loss of epoch {epoch + 1} is {float(totals.loss)}; lower --learning-rate from {config.learning_rate}"
        )
    return totals


def train_step(network: nn.Module, optimizer, batch: Example, num_classes: int, config: OptimizationConfig) -> Tensor:
    """The loss, detached, after one step of the optimiser."""
    images = batch.image.contiguous(memory_format=torch.channels_last)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=uses_bf16(config.precision, images.device)):
        outputs = network(images)
    loss = training_loss(outputs, batch.mask, batch.instance_map, batch.pixel_weights, num_classes, config.loss)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), config.max_gradient_norm)
    optimizer.step()
    return loss.detach()


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16: as asked, or where `auto` finds hardware for it."""
    if precision != "auto":
        return precision == "bf16"
    return torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_amx_tile_supported()


def learning_rate_at(step: int, num_steps: int, config: OptimizationConfig) -> float:
    """The learning rate of a step counted from 0: linear up to the highest, then a cosine towards zero."""
    num_warmup = max(1, round(config.warmup_share * num_steps))
    if step < num_warmup:
        return config.learning_rate * (step + 1) / num_warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - num_warmup) / max(1, num_steps - num_warmup)))


def _set_learning_rate(optimizer, step: int, num_steps: int, config: OptimizationConfig) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate_at(step, num_steps, config)


def _across_workers(totals: EpochTotals) -> EpochTotals:
    if not torch.distributed.is_initialized():
        return totals
    sums = torch.stack([totals.loss, torch.tensor(float(totals.num_samples), device=totals.loss.device)])
    torch.distributed.all_reduce(sums)
    return EpochTotals(sums[0], int(sums[1]), totals.seconds)


def _validate(network: nn.Module, spec: SegmenterSpec, data: LabelledData, rank: int, world_size: int) -> dict[str, float]:
    """Metrics over all of `val`: each worker counts every world_size-th record, the integers are added up."""
    if torch.distributed.is_initialized():
        for buffer in network.buffers():  # batch norm's statistics differ between workers since the last step
            torch.distributed.broadcast(buffer, src=0)
    segmenter = Segmenter(network, spec, ray.train.torch.get_device())
    counts = sum(count_images(segmenter, data.splits["val"][rank::world_size]), SegmentationCounts.zeros(len(spec.label_set)))
    total = torch.from_numpy(counts.vector).to(segmenter.device)
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(total)
    return summarize(SegmentationCounts.from_vector(total.cpu().numpy(), len(spec.label_set)), spec.label_set)


def _pictures(network: nn.Module, spec: SegmenterSpec, data: LabelledData) -> np.ndarray:
    return prediction_sheet(Segmenter(network, spec, ray.train.torch.get_device()), data.splits["val"][:_NUM_PICTURES])


def _restore(network: nn.Module, optimizer: torch.optim.Optimizer) -> TrainState:
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return TrainState()
    with checkpoint.as_directory() as folder:
        return load_checkpoint(Path(folder), network, optimizer)


def _report(network: nn.Module, optimizer: torch.optim.Optimizer, state: TrainState, is_reporter: bool) -> None:
    """All ranks report equally often, or they wait for each other for ever; one of them brings the checkpoint."""
    if not is_reporter:
        ray.train.report(state.metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder), network, optimizer, state)
        ray.train.report(state.metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))
