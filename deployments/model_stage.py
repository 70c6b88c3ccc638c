"""The only stage with weights: images in batches in, a prediction or an error for each out."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import cv2
import numpy as np
import torch

from deployments.batcher import Batcher, OneThread, Outcome
from deployments.config import AppConfig
from deployments.giving_way import GiveWay, at_once
from deployments.model_source import ServedModel
from deployments.query import Query
from deployments.stages import Predicted, Prepared
from deployments.watching import Watch
from models.bundle import load_bundle
from models.engines import EngineOptions
from models.fit import InputImage, fit_image
from models.prediction import Prediction
from models.segmenter import Segmenter
from models.spec import SegmenterSpec
from models.tiling import TiledImage, blend_tiles

T = TypeVar("T")
_ENGINES_OF_PROCESSES = ("torch", "torch_bf16")  # what they prepare for a batch size serves every model of the process
# PyTorch takes Python's lock anew after each operation; a thread that is busy in Python, such as one that loads, keeps it for so long.
_SWITCH_S = 0.0005
_MAX_TILED = 2  # tiled images at a time, whose blend is in memory until all their tiles are done


class ModelStage:
    """A batch of images in; for each its prediction, or the error that it alone raised. For one thread at a time.

    A batch that fails is tried again as two halves. Every batch size is computed once before the first request, so that none
    pays for what an engine prepares for a size.
    """

    watch: Watch | None = None
    """Sees every batch, where the bundle says what to compare with."""

    def __init__(self, segmenter: Segmenter, num_threads: int, max_batch_size: int, give_way: GiveWay = at_once) -> None:
        """`give_way` is called before each size."""
        self.segmenter = segmenter
        torch.set_num_threads(num_threads)
        cv2.setNumThreads(1)
        sys.setswitchinterval(_SWITCH_S)
        for batch_size in range(1, max_batch_size + 1):
            give_way()
            self.segmenter.predict([self.blank] * batch_size)

    def __call__(self, images: Sequence[InputImage]) -> list[Prediction | Exception]:
        outcome = self._try(images)
        if not isinstance(outcome, Exception):
            if self.watch and outcome:
                self.watch.see(images, outcome)
            return outcome
        if len(images) == 1:
            return [outcome]
        del outcome  # with the frames that its traceback holds, and so the failed batch's memory
        half = len(images) // 2
        return self(images[:half]) + self(images[half:])

    def _try(self, images: Sequence[InputImage]) -> list[Prediction] | Exception:
        try:
            return self.segmenter.predict(images)
        except Exception as error:  # whoever raised, and be it the device's memory
            return error

    @property
    def blank(self) -> InputImage:
        """An image of the model's input size that shows nothing."""
        spec = self.segmenter.spec
        return fit_image(np.zeros((*spec.input_size, 3), np.uint8), spec.input_size, spec.fit_rule)


def load_stage(served: ServedModel, config: AppConfig, warm: SegmenterSpec | None = None, give_way: GiveWay = at_once) -> ModelStage:
    """The model on the configured device and engine, warm. `warm`: the spec of one that is so in this process already."""
    give_way()
    engine = EngineOptions(config.engine, config.model_threads, config.min_parity)
    segmenter = load_bundle(served.folder, "cuda" if config.num_gpus else "cpu", engine)
    is_prepared = warm is not None and config.engine in _ENGINES_OF_PROCESSES and _network_of(warm) == _network_of(segmenter.spec)
    return ModelStage(segmenter, config.model_threads, 1 if is_prepared else config.max_batch_size, give_way)


def _network_of(spec: SegmenterSpec) -> tuple[object, ...]:
    """What decides the shapes that are computed."""
    return spec.architecture, spec.input_size, len(spec.label_set)


class BatchedModel:
    """The model stage behind a batcher."""

    def __init__(self, stage: ModelStage, config: AppConfig) -> None:
        self.spec = stage.segmenter.spec
        self._room_for_tiles = asyncio.Semaphore(_MAX_TILED)
        self._thread = OneThread(stage)
        self._batcher = Batcher(self._thread, config.max_batch_size, config.batch_wait_s)

    async def predict(self, prepared: Prepared, query: Query) -> Predicted:
        """Raises `admission.DeadlinePassed`, or what the model raised for this image."""
        if isinstance(prepared.image, TiledImage):
            return await self._predict_tiles(prepared.image, prepared.times_s, query)
        outcome = await self._submit(prepared.image, query)
        times_s = prepared.times_s | {"queue": outcome.queue_s, "model": outcome.run_s}
        return Predicted(outcome.value, outcome.batch_size, times_s)

    async def _predict_tiles(self, image: TiledImage, times_s: dict[str, float], query: Query) -> Predicted:
        """The tiles share batches with whatever else waits; blending is off the event loop."""
        async with self._room_for_tiles:
            start = time.perf_counter()
            outcomes = await _all_or_none(self._submit(tile, query) for tile in image.tiles)
            tiled = time.perf_counter()
            outputs = [outcome.value for outcome in outcomes]
            prediction = await asyncio.to_thread(blend_tiles, image.plan, outputs, image.original_size, self.spec.label_set)
        times_s = times_s | {"queue": 0.0, "model": tiled - start, "blend": time.perf_counter() - tiled}
        return Predicted(prediction, max(outcome.batch_size for outcome in outcomes), times_s)

    async def _submit(self, image: InputImage, query: Query) -> Outcome:
        return await self._batcher.submit(image, bulk=query.lane == "bulk", deadline=query.deadline)

    async def check(self) -> None:
        """Returns when the model's thread is free."""
        await self._thread.check()


async def _all_or_none(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order; where one fails or the caller leaves, the rest is cancelled."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
