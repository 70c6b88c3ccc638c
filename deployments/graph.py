"""What the HTTP interface asks for an answer, and the stages put together in one process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from deployments.config import AppConfig
from deployments.model_source import ServedModel
from deployments.problems import NotReady
from deployments.query import Query
from deployments.stages import Answer, Postprocessor, Predicted, Prepared, Preprocessor

if TYPE_CHECKING:
    from deployments.model_stage import ModelStage

T = TypeVar("T", Prepared, Predicted, Answer)
_READY_WITHIN_S = 5


class Graph(Protocol):
    """All stages, wherever they run."""

    async def segment(self, data: bytes | np.ndarray, query: Query) -> Answer:
        """The answer for an image file or its decoded pixels, (h, w, 3) uint8 RGB.

        Raises `models.image.InvalidImage`, `admission.DeadlinePassed`, or whatever else a stage raised.
        """

    async def check(self) -> None:
        """Returns when every stage answers; raises or hangs where one does not."""


async def check_ready(graph: Graph) -> None:
    """Returns when every stage answers. Raises `NotReady` where one does not within some seconds."""
    try:
        async with asyncio.timeout(_READY_WITHIN_S):
            await graph.check()
    except Exception as error:
        raise NotReady(f"a stage did not answer within {_READY_WITHIN_S} s ({type(error).__name__}); try again") from error


class Codec:
    """Runs a CPU stage on a few threads, off the event loop: decoding and encoding are long, and few threads bound the memory."""

    def __init__(self, num_threads: int) -> None:
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="codec")

    async def run(self, wait: str, stage: Callable[..., T], *arguments: object) -> T:
        """What `stage` returns for `arguments`, or raises. Its `times_s` are as those of `run_group`."""
        (outcome,) = await self.run_group(wait, stage, [arguments])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def run_group(self, wait: str, stage: Callable[..., T], group: Sequence[tuple[object, ...]]) -> list[T | Exception]:
        """What `stage` returns or raises for the arguments in each of `group`, one after another on the same thread.

        `times_s` of each gets, under the name `wait`, how long the group waited for a thread and its results for the event loop.
        """
        submitted = time.perf_counter()
        began, ended, outcomes = await self._on_a_thread(_clocked, stage, group)
        wait_s = began - submitted + time.perf_counter() - ended
        return [each if isinstance(each, Exception) else replace(each, times_s=each.times_s | {wait: wait_s}) for each in outcomes]

    async def check(self) -> None:
        """Returns when one of the threads is free."""
        await self._on_a_thread(lambda: None)

    def _on_a_thread(self, function: Callable[..., Any], *arguments: object) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


def _clocked(stage: Callable[..., T], group: Sequence[tuple[object, ...]]) -> tuple[float, float, list[T | Exception]]:
    """When the first began, when the last ended and what became of each."""
    began = time.perf_counter()
    outcomes = [or_error(stage, *arguments) for arguments in group]
    return began, time.perf_counter(), outcomes


def or_error(stage: Callable[..., T], *arguments: object) -> T | Exception:
    """What `stage` returns for `arguments`, or the exception that it raises."""
    try:
        return stage(*arguments)
    except Exception as error:
        return error


class FusedGraph:
    """All stages in this process."""

    def __init__(self, served: ServedModel, config: AppConfig, stage: ModelStage | None = None) -> None:
        """`stage`: the model, where it is loaded already."""
        from deployments.model_stage import BatchedModel, load_stage  # bring torch, which the other placement's ingress has no use for

        self._model = BatchedModel(stage or load_stage(served, config), config)
        self.spec = self._model.spec
        self._codec = Codec(config.num_codec_threads)
        self._preprocess = Preprocessor(self.spec, config.image_limits, config.max_tiles)
        self._postprocess = Postprocessor(self.spec, config.image_limits, served.version)

    async def segment(self, data: bytes | np.ndarray, query: Query) -> Answer:
        prepared = await self._codec.run("decode_wait", self._preprocess, data, query)
        predicted = await self._model.predict(prepared, query)
        photo = data if query.format.needs_photo else None
        return await self._codec.run("restore_wait", self._postprocess, predicted, query, photo)

    async def check(self) -> None:
        await asyncio.gather(self._codec.check(), self._model.check())
