"""What the HTTP interface asks for an answer, and the stages put together in one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from deployments.config import AppConfig
from deployments.model_source import ServedModel
from deployments.query import Query
from deployments.stages import Answer, Postprocessor, Preprocessor

T = TypeVar("T")


class Graph(Protocol):
    """All stages, wherever they run."""

    async def segment(self, data: bytes, query: Query) -> Answer:
        """Raises `models.image.InvalidImage`, `admission.DeadlinePassed`, or whatever else a stage raised."""

    async def check(self) -> None:
        """Returns when every stage answers; raises or hangs where one does not."""


class Codec:
    """Runs a CPU stage on a few threads, off the event loop: decoding and encoding are long, and few threads bound the memory."""

    def __init__(self, num_threads: int) -> None:
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="codec")

    async def run(self, stage: Callable[..., T], *arguments: object) -> T:
        """What `stage` returns for `arguments`, or raises."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, stage, *arguments)

    async def check(self) -> None:
        """Returns when one of the threads is free."""
        await self.run(lambda: None)


class FusedGraph:
    """All stages in this process."""

    def __init__(self, served: ServedModel, config: AppConfig) -> None:
        from deployments.model_stage import BatchedModel  # brings torch, which the other placement's ingress has no use for

        self._model = BatchedModel(served, config)
        self.spec = self._model.spec
        self._codec = Codec(config.codec_threads)
        self._preprocess = Preprocessor(self.spec, config.image_limits, config.max_tiles)
        self._postprocess = Postprocessor(self.spec, config.image_limits, served.version)

    async def segment(self, data: bytes, query: Query) -> Answer:
        prepared = await self._codec.run(self._preprocess, data, query)
        predicted = await self._model.predict(prepared, query)
        photo = data if query.format.needs_photo else None
        return await self._codec.run(self._postprocess, predicted, query, photo)

    async def check(self) -> None:
        await asyncio.gather(self._codec.check(), self._model.check())
