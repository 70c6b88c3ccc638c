"""What training changes: weights, their average, the optimiser; and one step of it."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models.engines.bfloat16 import computes_bfloat16
from models.losses import training_loss
from models.spec import SegmenterSpec
from models.transfer import copy_what_fits
from models.unet import NormalizedNetwork, build_network
from pipelines.config import TrainConfig
from pipelines.dataset import Example
from pipelines.timing import StepClock
from pipelines.workers import Workers


@dataclass(frozen=True)
class Learner:
    """The network in training with all that a checkpoint must hold."""

    network: NormalizedNetwork
    trained: nn.Module
    """The network as steps call it: perhaps compiled, and with gradients that workers share."""
    average: NormalizedNetwork | None
    """The moving average of the weights, which is validated and served in the network's place; None without one."""
    optimizer: torch.optim.Optimizer
    num_classes: int

    @property
    def served(self) -> NormalizedNetwork:
        """The network to validate and to register."""
        return self.average or self.network


def build_learner(
    config: TrainConfig, spec: SegmenterSpec, workers: Workers, clock: StepClock, start: Mapping[str, Tensor] | None = None
) -> Learner:
    """A learner with fresh weights, the same on all workers, or with those of `start` that fit."""
    torch.manual_seed(config.optimization.seed)
    network = build_network(spec.architecture, len(spec.label_set), pretrained=config.model.pretrained)
    if start:
        copy_what_fits(start, network)
    network = network.to(workers.device, memory_format=torch.channels_last)
    average = copy.deepcopy(network).requires_grad_(False) if config.optimization.ema_decay else None
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=config.optimization.weight_decay, fused=True)
    trained = workers.share_gradients(network, lambda: clock.mark("backward"))
    return Learner(network, torch.compile(trained) if config.scale.compile else trained, average, optimizer, len(spec.label_set))


@dataclass(frozen=True)
class StepResult:
    """What a step tells; scalars on the training device, since reading them at every step would make a GPU wait."""

    loss: Tensor
    """Sum over this worker's samples."""
    gradient_norm: Tensor


def train_step(
    learner: Learner, batch: Example, config: TrainConfig, workers: Workers, clock: StepClock, *, global_batch_size: int
) -> StepResult:
    """One step of the optimiser on this worker's share of the global batch, which is on its device.

    Every sample weighs the same, whatever the number of workers and the size of their shares.
    """
    learner.optimizer.zero_grad()
    device, optimization = batch.image.device, config.optimization
    total = torch.zeros((), dtype=torch.float64, device=device)
    parts = list(_micro_batches(batch, config.scale.micro_batch_size))
    for number, part in enumerate(parts, start=1):
        # Workers take the mean of their gradients: the factor world_size makes a sum over all samples of it.
        weight = len(part.image) * workers.world_size / global_batch_size
        with _no_sharing(learner.trained) if number < len(parts) else nullcontext():
            with torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16(optimization.precision, device)):
                outputs = learner.trained(part.image.contiguous(memory_format=torch.channels_last))
            loss = training_loss(outputs, part.mask, part.instance_map, part.pixel_weights, learner.num_classes, optimization.loss)
            clock.mark("forward")
            (loss * weight).backward()
        clock.mark("backward" if workers.world_size == 1 or number < len(parts) else "all_reduce")
        total += loss.detach() * len(part.image)
    norm = nn.utils.clip_grad_norm_(learner.network.parameters(), optimization.max_gradient_norm)
    learner.optimizer.step()
    return StepResult(total, norm)


def update_average(average: nn.Module, network: nn.Module, step: int, decay: float) -> None:
    """Moves the average towards the network after a step counted from 0; early steps count more, for they are soon outdated.

    Source: the schedule min(decay, (1 + t) / (10 + t)) of TensorFlow's ExponentialMovingAverage.
    """
    weight = 1 - min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        ours, theirs = average.state_dict(), network.state_dict()
        floats = [name for name, value in ours.items() if value.is_floating_point()]
        torch._foreach_lerp_([ours[name] for name in floats], [theirs[name] for name in floats], weight)
        for name in ours.keys() - set(floats):
            ours[name].copy_(theirs[name])


def seed_step(seed: int, step: int, rank: int) -> None:
    """Makes what a step draws (dropout) depend on these three alone, so that a resumed run draws the same."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """All parameters are learnt at `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def learning_rate_at(step: int, num_steps: int, highest: float, warmup_share: float) -> float:
    """The learning rate of a step counted from 0: linear up to the highest, then a cosine towards zero."""
    num_warmup = max(1, round(warmup_share * num_steps))
    if step < num_warmup:
        return highest * (step + 1) / num_warmup
    return highest * 0.5 * (1 + math.cos(math.pi * (step - num_warmup) / max(1, num_steps - num_warmup)))


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16: as asked, or where `auto` finds hardware for it."""
    if precision != "auto":
        return precision == "bf16"
    return computes_bfloat16(device)


def _micro_batches(batch: Example, size: int | None) -> Iterator[Example]:
    number = math.ceil(len(batch.image) / (size or len(batch.image)))
    return (Example(*parts) for parts in zip(*(each.tensor_split(number) for each in batch)))


def _no_sharing(trained: nn.Module):
    """Gradients are added up here until the last micro batch, and shared once."""
    inner = getattr(trained, "_orig_mod", trained)  # torch.compile's wrapper
    return inner.no_sync() if isinstance(inner, DistributedDataParallel) else nullcontext()
