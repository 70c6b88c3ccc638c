"""The placement `split`: what lies before and after the model, each a deployment of its own, and how a group goes through any stage.

A call brings a group of images, all for one version, and each outcome is a value, an exception too: a bad image costs its group nothing,
and raised in a replica, each refusal would cost the log a traceback. The ingress decides which version answers, and says so to each
stage. A replica that does not have it yet gets it first; a version only comes to be asked for after the replicas of the model have
tried it.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np

from deployments.admission import DeadlinePassed
from deployments.config import AppConfig
from deployments.graph import Codec
from deployments.model_source import ServedModel, fetch_bundle
from deployments.query import Query
from deployments.stages import Answer, Postprocessor, Predicted, Prepared, Preprocessor
from models.image import ImageLimits, InvalidImage
from models.spec import read_spec

S = TypeVar("S", Preprocessor, Postprocessor)
_SPECS_KEPT = 16  # stages without weights in a replica; small things


@dataclass(frozen=True)
class Asked:
    """What a group tells each stage: the version's URI and the model's limits on images."""

    uri: str
    limits: ImageLimits


class StageFailed(RuntimeError):
    """What no stage foresaw, with its traceback: the exception itself may not pass between processes."""


class _StagePerVersion(Generic[S]):
    """A stage without weights, made for a version when first asked for."""

    def __init__(self, config: AppConfig, make: Callable[[ServedModel, Asked], S]) -> None:
        self._config, self._make = config, make
        self._stages: dict[Asked, S] = {}

    async def get(self, asked: Asked) -> S:
        stage = self._stages.get(asked)
        if stage is None:
            stage = await asyncio.to_thread(lambda: self._make(fetch_bundle(asked.uri, self._config.tracking_uri), asked))
            self._stages[asked] = stage
            if len(self._stages) > _SPECS_KEPT:
                del self._stages[next(iter(self._stages))]
        return stage


class Preprocess:
    def __init__(self, config: AppConfig) -> None:
        self._stages = _StagePerVersion(config, lambda model, asked: Preprocessor(read_spec(model.folder), asked.limits, config.max_tiles))
        self._codec = Codec(config.num_codec_threads)

    async def __call__(self, images: list[bytes | np.ndarray], queries: list[Query], asked: Asked) -> list[Prepared | Exception]:
        stage = await self._stages.get(asked)
        return await advance(list(zip(images, queries, strict=True)), partial(self._codec.run_group, "decode_wait", stage))

    async def prepare(self, asked: Asked) -> None:
        await self._stages.get(asked)

    async def check(self) -> None:
        await self._codec.check()


class Postprocess:
    def __init__(self, config: AppConfig) -> None:
        self._stages = _StagePerVersion(config, lambda model, asked: Postprocessor(read_spec(model.folder), asked.limits, model.version))
        self._codec = Codec(config.num_codec_threads)

    async def __call__(
        self, predicted: list[Predicted | Exception], queries: list[Query], photos: list[bytes | np.ndarray | None], asked: Asked
    ) -> list[Answer | Exception]:
        stage = await self._stages.get(asked)
        return await advance(list(zip(predicted, queries, photos, strict=True)), partial(self._codec.run_group, "restore_wait", stage))

    async def prepare(self, asked: Asked) -> None:
        await self._stages.get(asked)

    async def check(self) -> None:
        await self._codec.check()


async def advance(rows: Sequence[tuple[Any, ...]], stage: Callable[[Sequence[tuple]], Awaitable[Sequence[Any]]]) -> list[Any]:
    """What `stage` makes of each row, or the exception that a stage before has put first in it.

    Of the time that the group took, what an image did not need itself goes under `neighbours`.
    """
    good = [row for row in rows if not isinstance(row[0], Exception)]
    start = time.perf_counter()
    outcomes = iter(await stage(good) if good else ())
    elapsed_s = time.perf_counter() - start
    return [row[0] if isinstance(row[0], Exception) else _outcome(row[0], next(outcomes), elapsed_s) for row in rows]


def _outcome(before: Any, after: Any, elapsed_s: float) -> Any:
    if isinstance(after, InvalidImage | DeadlinePassed | MemoryError):
        return after
    if isinstance(after, Exception):
        return StageFailed("".join(traceback.format_exception(after)))
    times_s = getattr(before, "times_s", {})  # an image that comes in has none
    others_s = elapsed_s - sum(after.times_s.values()) + sum(times_s.values())
    return replace(after, times_s=after.times_s | {"neighbours": times_s.get("neighbours", 0.0) + others_s})
