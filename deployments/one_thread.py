"""All stages on one thread, a batch at a time: no hand-overs between threads, which cost a small model more than its arithmetic."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from deployments.batcher import Batcher, OneThread
from deployments.config import AppConfig
from deployments.graph import or_error
from deployments.model_source import ServedModel
from deployments.query import Query
from deployments.stages import Answer, Postprocessor, Predicted, Prepared, Preprocessor
from models.tiling import TiledImage, blend_tiles

if TYPE_CHECKING:
    from deployments.model_stage import ModelStage

T = TypeVar("T")


class OneThreadGraph:
    """Decodes what waits, computes it in one forward pass, encodes it. A bad image costs its neighbours nothing but its own time."""

    def __init__(self, served: ServedModel, config: AppConfig, stage: ModelStage | None = None) -> None:
        """`stage`: the model, where it is loaded already."""
        from deployments.model_stage import load_stage  # brings torch, which the other placement's ingress has no use for

        self._predict = stage or load_stage(served, config)
        self._max_batch_size = config.max_batch_size
        self.spec = self._predict.segmenter.spec
        self._preprocess = Preprocessor(self.spec, config.image_limits, config.max_tiles)
        self._postprocess = Postprocessor(self.spec, config.image_limits, served.version)
        self._thread = OneThread(self._run)
        self._batcher = Batcher(self._thread, config.max_batch_size, config.batch_wait_s)

    async def segment(self, image: bytes | np.ndarray, query: Query) -> Answer:
        outcome = await self._batcher.submit((image, query), bulk=query.lane == "bulk", deadline=query.deadline)
        answer: Answer = outcome.value
        others_s = outcome.run_s - sum(answer.times_s.values())
        return replace(answer, times_s={"queue": outcome.queue_s, **answer.times_s, "neighbours": others_s})

    async def check(self) -> None:
        await self._thread.check()

    def _run(self, requests: Sequence[tuple[bytes | np.ndarray, Query]]) -> list[Answer | Exception]:
        prepared = [or_error(self._preprocess, image, query) for image, query in requests]
        return [
            each if isinstance(each, Exception) else or_error(self._postprocess, each, query, image if query.format.needs_photo else None)
            for each, (image, query) in zip(self._predict_all(prepared), requests, strict=True)
        ]

    def _predict_all(self, prepared: list[Prepared | Exception]) -> list[Predicted | Exception]:
        """What became of each: those that were refused stay so, the rest shares a forward pass, tiled ones have their own."""
        shared = [each for each in prepared if isinstance(each, Prepared) and not isinstance(each.image, TiledImage)]
        start = time.perf_counter()
        predictions = iter(self._predict([each.image for each in shared]) if shared else [])
        model_s = time.perf_counter() - start
        outcomes: list[Predicted | Exception] = []
        for each in prepared:
            if isinstance(each, Exception):
                outcomes.append(each)
            elif isinstance(each.image, TiledImage):
                outcomes.append(or_error(self._predict_tiles, each))
            else:
                prediction = next(predictions)
                is_error = isinstance(prediction, Exception)
                outcomes.append(prediction if is_error else Predicted(prediction, len(shared), each.times_s | {"model": model_s}))
        return outcomes

    def _predict_tiles(self, prepared: Prepared) -> Predicted:
        image, start = prepared.image, time.perf_counter()
        tiles = [image.tiles[first : first + self._max_batch_size] for first in range(0, len(image.tiles), self._max_batch_size)]
        outputs = [_or_raise(each) for some in tiles for each in self._predict(some)]
        done = time.perf_counter()
        prediction = blend_tiles(image.plan, outputs, image.original_size, self.spec.label_set)
        times_s = prepared.times_s | {"model": done - start, "blend": time.perf_counter() - done}
        return Predicted(prediction, len(tiles[0]), times_s)


def _or_raise(outcome: T | Exception) -> T:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
