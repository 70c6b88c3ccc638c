"""What an epoch adds up over its steps and its workers, and divides once."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from pipelines.learner import StepResult
from pipelines.timing import shares_of
from pipelines.workers import Workers


class DivergedTraining(FloatingPointError):
    """A loss or a gradient that is no longer a number."""


class EpochSums:
    """This worker's sums over the steps of an epoch.

    `resumed` is what a checkpoint in mid-epoch held, one entry for each worker of then.
    """

    def __init__(self, workers: Workers, resumed: list[list[float]]) -> None:
        self.workers = workers
        loss, norm, *counts = _own_part(resumed, workers)
        # On the training device until somebody asks: reading them at every step would make a GPU wait.
        self.loss_and_norm = torch.tensor([loss, norm], dtype=torch.float64, device=workers.device)
        self.num_samples, self.num_steps = map(int, counts)
        self.num_resumed = self.num_samples
        self.begin = time.perf_counter()

    def add(self, result: StepResult, num_samples: int) -> None:
        """Counts a step."""
        self.loss_and_norm += torch.stack([result.loss, result.gradient_norm.double()])
        self.num_samples += num_samples
        self.num_steps += 1

    def gather(self) -> list[list[float]]:
        """All workers' sums, for a checkpoint."""
        return self.workers.gather(self._own())

    def summary(self, phase_seconds: dict[str, float]) -> dict[str, float]:
        """The epoch's metrics by name, over all workers; `phase_seconds` are this worker's times of `StepClock`."""
        seconds = time.perf_counter() - self.begin
        loss, norm, num_samples, num_steps = self.workers.add_up(self._own()).tolist()
        here = [self.num_samples - self.num_resumed, *phase_seconds.values()]
        num_measured, *times = self.workers.add_up(torch.tensor(here, dtype=torch.float64)).tolist()
        return {
            "train_loss": loss / num_samples,
            "gradient_norm": norm / num_steps,
            "samples_per_s": num_measured / seconds,
            **shares_of(dict(zip(phase_seconds, times))),
        }

    def _own(self) -> Tensor:
        return torch.cat([self.loss_and_norm, self.loss_and_norm.new_tensor([self.num_samples, self.num_steps])])


def check_finite(sums: list[list[float]], epoch: int, learning_rate: float) -> None:
    """Raises `DivergedTraining` where a loss or a gradient of any worker was not a number, before such weights are saved."""
    if not all(math.isfinite(value) for worker in sums for value in worker):
        raise DivergedTraining(
            f"the loss of epoch {epoch + 1} is not a number any more; lower --learning-rate from {learning_rate}, "
            "or look for broken images. The last good checkpoint is kept"
        )


def _own_part(resumed: list[list[float]], workers: Workers) -> list[float]:
    if len(resumed) == workers.world_size:
        return resumed[workers.rank]
    together = [sum(column) for column in zip(*resumed)]
    return together if together and workers.is_first else [0.0] * 4
