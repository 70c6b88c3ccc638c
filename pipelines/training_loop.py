"""The loop of training: every step of every epoch, from wherever a run stands. Knows no Ray; the worker brings what does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pipelines.checkpoint import TrainState
from pipelines.config import TrainConfig
from pipelines.dataset import Example, ShardedBatchSampler, TrainingSet, training_batches
from pipelines.epoch_sums import EpochSums, check_finite
from pipelines.learner import Learner, learning_rate_at, seed_step, set_learning_rate, train_step, update_average
from pipelines.progress import Progress
from pipelines.timing import StepClock
from pipelines.workers import Workers


class Checkpoints(Protocol):
    """Where a run's state is kept."""

    def due(self) -> bool:
        """Whether to save in mid-epoch; every worker asks after every step, and all get the same answer."""

    def save(self, learner: Learner, state: TrainState, score: dict[str, float] | None = None) -> None:
        """Keeps the state; `score` holds the metrics of a validation that has just been. Every worker calls it."""


def training_loop(
    learner: Learner,
    state: TrainState,
    dataset: TrainingSet,
    config: TrainConfig,
    workers: Workers,
    clock: StepClock,
    *,
    loader_processes: int,
    validate: Callable[[int, dict[str, float]], dict[str, float]],
    checkpoints: Checkpoints,
    progress: Progress,
) -> None:
    """Trains from `state` to the last epoch.

    Everything is a function of the seed, the epoch, the step and the sample, so that what goes on from a checkpoint equals what never
    stopped. `validate` gets an epoch's number, counted from 1, and its metrics so far, and returns all of them.
    """
    optimization = config.optimization
    sampler = ShardedBatchSampler(
        len(dataset),
        global_batch_size=optimization.global_batch_size,
        rank=workers.rank,
        world_size=workers.world_size,
        seed=optimization.seed,
        num_epochs=optimization.epochs,
        first_epoch=state.epoch,
        first_step=state.step,
    )
    batches = training_batches(dataset, sampler, loader_processes=loader_processes, pin_memory=workers.device.type == "cuda")
    num_steps = optimization.epochs * sampler.steps_per_epoch
    progress.begin_run(sampler.steps_per_epoch, state.epoch, state.step)
    for epoch in range(state.epoch, optimization.epochs):
        learner.trained.train()
        sums = EpochSums(workers, state.sums)
        clock.restart()
        for step in range(state.step, sampler.steps_per_epoch):
            batch = next(batches)
            clock.mark("data")
            batch = Example(*(each.to(workers.device, non_blocking=True) for each in batch))
            clock.mark("to_device")
            number = epoch * sampler.steps_per_epoch + step
            seed_step(optimization.seed, number, workers.rank)
            set_learning_rate(learner.optimizer, learning_rate_at(number, num_steps, optimization.learning_rate, optimization.warmup_share))
            result = train_step(learner, batch, config, workers, clock, global_batch_size=sampler.global_batch_size(step))
            if learner.average is not None:
                update_average(learner.average, learner.network, number, optimization.ema_decay)
            sums.add(result, len(batch.image))
            clock.mark("optimizer")
            progress.step_done(epoch, step)
            if checkpoints.due():
                gathered = sums.gather()
                check_finite(gathered, epoch, optimization.learning_rate)
                checkpoints.save(learner, TrainState(epoch, step + 1, gathered, state.metrics))
                clock.restart()
        check_finite(sums.gather(), epoch, optimization.learning_rate)
        metrics = sums.summary(clock.take())
        progress.epoch_done(metrics)
        state = TrainState(epoch + 1, metrics=state.metrics)
        if (epoch + 1) % optimization.validate_every == 0 or epoch + 1 == optimization.epochs:
            metrics = validate(epoch + 1, metrics)
            progress.validated(metrics)
            state = TrainState(epoch + 1, metrics=metrics)
            checkpoints.save(learner, state, metrics)
