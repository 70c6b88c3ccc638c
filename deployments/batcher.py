"""Batches of whatever waits while others are at work.

Serve's own `@serve.batch` cuts its batches before the model is free: without a wait each holds one request however long the
queue, and with a wait a lone request pays it. Here a batch is taken when the model can start on it, so that batches grow with
the load and an idle server answers at once.

Callers that were answered together come back one by one. So that the first does not leave alone and all others after it, in turns for
ever, a batch waits until as many are here as were before, for at most a twentieth of the time that the last batch took.

There are two lanes: `interactive` items go first, but one place in each batch is for `bulk`, which so never starves.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Any

from deployments.admission import DeadlinePassed

_PATIENCE = 0.05  # of a batch's time, for those that it answered to come back


@dataclass(frozen=True)
class Outcome:
    """One item's result, how many shared its batch, how long it waited for its turn and how long the batch took."""

    value: Any
    batch_size: int
    queue_s: float
    run_s: float


@dataclass(frozen=True)
class _Waiting:
    item: Any
    arrived: float
    deadline: float
    outcome: asyncio.Future


class OneThread:
    """Calls a function on one thread of its own, so one call at a time."""

    def __init__(self, function: Callable[[Sequence[Any]], list[Any]]) -> None:
        self._function = function
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    async def __call__(self, items: Sequence[Any]) -> list[Any]:
        call = asyncio.get_running_loop().run_in_executor(self._thread, self._function, items)
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            await asyncio.gather(call, return_exceptions=True)  # nothing stops a thread, and until it is free no batch is to be cut
            raise

    async def check(self) -> None:
        """Returns when the thread is free; for health checks."""
        await asyncio.get_running_loop().run_in_executor(self._thread, lambda: None)


class Batcher:
    """Runs `run` for a batch at a time, or for `num_at_once`: a device works on one batch, and memory holds two.

    Where several run, the next one waits until it is as large as those on average, or alone: small ones come back early, and would
    leave again as small, however much waits. What comes to an idle one all at once is shared out.

    `run` takes a list and returns a value or an exception for each item; it is cancelled where nobody waits for any of them. To be used
    from one event loop.
    """

    def __init__(
        self, run: Callable[[Sequence[Any]], Awaitable[list[Any]]], max_batch_size: int, wait_s: float = 0, num_at_once: int = 1
    ) -> None:
        self._run, self._max_batch_size, self._wait_s, self._num_at_once = run, max_batch_size, wait_s, num_at_once
        self._interactive: deque[_Waiting] = deque()
        self._bulk: deque[_Waiting] = deque()
        self._workers: set[asyncio.Task] = set()
        self._num_batches = self._num_items = 0  # that run
        self._num_expected, self._expected_until = 0, -math.inf  # how many were here when the last batch ended
        self._arrival: asyncio.Future | None = None  # what the worker waits for

    async def submit(self, item: Any, *, bulk: bool = False, deadline: float = math.inf) -> Outcome:
        """Raises what `run` returned as the item's exception, or `DeadlinePassed` where its turn came after `deadline`.

        `deadline` is in seconds of `time.time()`.
        """
        outcome = asyncio.get_running_loop().create_future()
        lane = self._bulk if bulk else self._interactive
        lane.append(_Waiting(item, time.perf_counter(), deadline, outcome))
        if self._arrival and not self._arrival.done():
            self._arrival.set_result(None)
        if len(self._workers) < self._num_at_once and self._is_due():  # in no request's context, since it works for others too
            self._workers.add(asyncio.create_task(self._work(), context=Context()))
        return await outcome

    async def _work(self) -> None:
        try:
            if self._wait_s and self._num_waiting < self._max_batch_size:
                await asyncio.sleep(self._wait_s)
            await self._wait_for_expected()
            while self._is_due() and (batch := self._next_batch()):
                await self._answer(batch)
                await self._wait_for_expected()
        finally:
            self._workers.discard(asyncio.current_task())

    async def _wait_for_expected(self) -> None:
        while 0 < self._num_waiting < self._num_expected and (left_s := self._expected_until - time.perf_counter()) > 0:
            self._arrival = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._arrival], timeout=left_s)
            self._arrival = None

    @property
    def _num_waiting(self) -> int:
        return len(self._interactive) + len(self._bulk)

    def _is_due(self) -> bool:
        return self._num_waiting * self._num_batches >= self._num_items

    def _next_batch(self) -> list[_Waiting]:
        most = self._max_batch_size if self._num_batches else min(self._max_batch_size, math.ceil(self._num_waiting / self._num_at_once))
        for_bulk = self._take(self._bulk, 1) if most > 1 else []
        batch = self._take(self._interactive, most - len(for_bulk))
        batch += for_bulk + self._take(self._bulk, most - len(batch) - len(for_bulk))
        return batch

    def _take(self, lane: deque[_Waiting], most: int) -> list[_Waiting]:
        """Up to `most` items of a lane, without those whose caller has gone or whose time is over."""
        taken: list[_Waiting] = []
        while lane and len(taken) < most:
            waiting = lane.popleft()
            if waiting.outcome.done():
                continue
            if time.time() > waiting.deadline:
                waiting.outcome.set_exception(DeadlinePassed("the deadline passed while the request waited for the model; ask again later"))
                continue
            taken.append(waiting)
        return taken

    async def _answer(self, batch: list[_Waiting]) -> None:
        start = time.perf_counter()
        run = asyncio.ensure_future(self._run([each.item for each in batch]))
        for each in batch:
            each.outcome.add_done_callback(partial(_stop_unless_wanted, run, batch))
        self._num_batches, self._num_items = self._num_batches + 1, self._num_items + len(batch)
        await asyncio.wait([run])
        self._num_batches, self._num_items = self._num_batches - 1, self._num_items - len(batch)
        run_s = time.perf_counter() - start
        if self._num_at_once == 1:
            self._num_expected = min(self._num_waiting + len(batch), self._max_batch_size)
            self._expected_until = start + (1 + _PATIENCE) * run_s
        for each, value in zip(batch, _values(run, len(batch)), strict=True):
            if each.outcome.done():
                continue
            if isinstance(value, asyncio.CancelledError):
                each.outcome.cancel()
            elif isinstance(value, Exception):
                each.outcome.set_exception(value)
            else:
                each.outcome.set_result(Outcome(value, len(batch), start - each.arrived, run_s))


def _values(run: asyncio.Future, number: int) -> list[Any]:
    """What `run` made of each item."""
    if run.cancelled():
        return [asyncio.CancelledError()] * number
    error = run.exception()
    return [error] * number if error else run.result()


def _stop_unless_wanted(run: asyncio.Future, batch: list[_Waiting], _: asyncio.Future) -> None:
    if all(each.outcome.done() for each in batch):
        run.cancel()
