"""Whether Ray has what a training asks for, before anything waits for it."""

from __future__ import annotations

from dataclasses import dataclass

import ray

from pipelines.config import ScaleConfig

_CPUS_WITHOUT_NODES = 8  # for each worker, where nodes are still to come and nobody said a number


class NotEnoughResources(ValueError):
    """More CPUs or GPUs than are free."""


@dataclass(frozen=True)
class Share:
    """What each worker gets."""

    num_workers: int | tuple[int, int]
    cpus: int
    loader_processes: int

    def describe(self) -> str:
        """A phrase for a person."""
        number = self.num_workers if isinstance(self.num_workers, int) else "{} to {}".format(*self.num_workers)
        return f"{number} worker(s) with {self.cpus} CPU(s) each"


def worker_share(config: ScaleConfig) -> Share:
    """Each worker's part of what is free on the cluster now. Raises `NotEnoughResources`, since Ray would wait for ever."""
    free = ray.available_resources()
    # The least number must fit; more workers start where and when their share of CPUs is free.
    cpus = config.cpus_per_worker or max(1, int(free.get("CPU", 0)) // config.max_workers)
    if config.wait_for_nodes:
        cpus = config.cpus_per_worker or _CPUS_WITHOUT_NODES
    else:
        wanted = {"CPU": cpus * config.min_workers, "GPU": config.min_workers if config.use_gpu else 0}
        missing = {name: amount for name, amount in wanted.items() if amount > free.get(name, 0)}
        if missing:
            lines = ", ".join(f"{amount} {name}s are asked for and {free.get(name, 0):.0f} are free" for name, amount in missing.items())
            raise NotEnoughResources(
                f"{lines}; lower --num-workers or --cpus-per-worker, or add --wait-for-nodes where an autoscaler brings more"
            )
    processes = config.loader_processes if config.loader_processes is not None else (cpus - 1 if config.use_gpu else 0)
    return Share(config.num_workers, cpus, processes)
