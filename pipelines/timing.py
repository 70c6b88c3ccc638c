"""Where the time of a training step goes."""

from __future__ import annotations

import time
from collections import deque

import torch

PHASES = ("data", "to_device", "forward", "backward", "all_reduce", "optimizer")
_WORTH_A_WORD = 0.1  # of a step
_EVENTS_KEPT = 512  # on a GPU, before the oldest are read; they are done by then, so nobody waits

_REMEDIES = {
    "data": "waiting for data takes {share:.0%} of a step; raise --loader-processes or --cache-bytes",
    "to_device": "copying to the GPU takes {share:.0%} of a step; lower --input-size or use a machine with a faster bus",
    "all_reduce": "waiting for the other workers' gradients takes {share:.0%} of a step; raise --global-batch-size or use fewer workers",
    "optimizer": "the optimiser takes {share:.0%} of a step; raise --global-batch-size",
}


class StepClock:
    """Adds up the seconds of each phase of the steps; on the CPU by its clock."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._last = time.perf_counter()

    def restart(self) -> None:
        """What was since the last mark belongs to no phase."""
        self._last = time.perf_counter()

    def mark(self, phase: str) -> None:
        """The time since the last mark was spent in `phase`."""
        now = time.perf_counter()
        self.seconds[phase] += now - self._last
        self._last = now

    def take(self) -> dict[str, float]:
        """The seconds of each phase since the last call."""
        taken, self.seconds = self.seconds, dict.fromkeys(PHASES, 0.0)
        return taken


class GpuStepClock(StepClock):
    """The same by the GPU's clock: its idle time while it waits for data counts, and no step waits for a measurement."""

    def __init__(self) -> None:
        super().__init__()
        self._pending: deque[tuple[str, torch.cuda.Event, torch.cuda.Event]] = deque()
        self._last_event = _event()

    def restart(self) -> None:
        self._last_event = _event()

    def mark(self, phase: str) -> None:
        now = _event()
        self._pending.append((phase, self._last_event, now))
        self._last_event = now
        if len(self._pending) > _EVENTS_KEPT:
            self._read_oldest()

    def take(self) -> dict[str, float]:
        while self._pending:
            self._read_oldest()
        return super().take()

    def _read_oldest(self) -> None:
        phase, begin, end = self._pending.popleft()
        end.synchronize()
        self.seconds[phase] += begin.elapsed_time(end) / 1000


def step_clock(device: torch.device) -> StepClock:
    """The clock for steps on `device`."""
    return GpuStepClock() if device.type == "cuda" else StepClock()


def shares_of(seconds: dict[str, float]) -> dict[str, float]:
    """Each phase's part of a step, as metrics by name; they add up to 1."""
    total = sum(seconds.values())
    return {f"step_share/{phase}": value / total if total else 0.0 for phase, value in seconds.items()}


def bottleneck(metrics: dict[str, float]) -> tuple[str, str]:
    """The phase that holds training up, from the metrics of `shares_of`, and a sentence with the remedy."""
    avoidable = {phase: metrics[f"step_share/{phase}"] for phase in _REMEDIES}
    phase = max(avoidable, key=avoidable.get)
    if avoidable[phase] >= _WORTH_A_WORD:
        return phase, _REMEDIES[phase].format(share=avoidable[phase])
    computing = metrics["step_share/forward"] + metrics["step_share/backward"]
    return "network", f"the network takes {computing:.0%} of a step, waiting for data {avoidable['data']:.0%}"


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event
