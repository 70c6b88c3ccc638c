"""The workers of one training, as one of them sees them. One worker alone needs no process group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Workers:
    """This worker's rank among `world_size`, and the device it computes on."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """Whether this is the one that logs, prints and saves."""
        return self.rank == 0

    def share_of(self, items: Sequence) -> Sequence:
        """This worker's part: every item is one worker's, none is two workers'."""
        return items[self.rank :: self.world_size]

    def add_up(self, values: Tensor) -> Tensor:
        """The sum of all workers' `values`, on this worker's device."""
        values = values.to(self.device)
        if self.world_size > 1:
            torch.distributed.all_reduce(values)
        return values

    def gather(self, values: Tensor) -> list[list[float]]:
        """Each worker's `values` (n,), by rank."""
        parts = [values.to(self.device)]
        if self.world_size > 1:
            parts = [torch.empty_like(parts[0]) for _ in range(self.world_size)]
            torch.distributed.all_gather(parts, values.to(self.device))
        return [part.tolist() for part in parts]

    def align_buffers(self, network: nn.Module) -> None:
        """Gives all workers the first one's batch norm statistics, which differ since the last step."""
        if self.world_size > 1:
            for buffer in network.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def share_gradients(self, network: nn.Module, last_bucket_is_ready: Callable[[], None]) -> nn.Module:
        """The network whose `backward` leaves the mean of all workers' gradients.

        `last_bucket_is_ready` is called when this worker has computed its last gradients and only waits for the others'.
        """
        if self.world_size == 1:
            return network

        def average(_, bucket):  # PyTorch refuses annotations that are text
            if bucket.is_last():
                last_bucket_is_ready()
            return allreduce_hook(None, bucket)

        on_gpu = self.device.type == "cuda"
        shared = DistributedDataParallel(
            network,
            device_ids=[self.device] if on_gpu else None,
            # Else the buckets are laid out anew after the first step, sums of three and more workers are added in another order, and a
            # resumed run would differ in the last bit. On GPUs the order of sums is not ours to keep, and the search for unused ones costs.
            find_unused_parameters=not on_gpu,
        )
        shared.register_comm_hook(None, average)
        return shared
