"""The only stage with weights: images in batches in, a prediction or an error for each out."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from deployments.batcher import Batcher
from deployments.config import AppConfig
from deployments.model_source import ServedModel
from deployments.stages import Predicted, Prepared
from models.bundle import load_bundle
from models.fit import InputImage, fit_image
from models.prediction import Prediction
from models.segmenter import Segmenter


class ModelStage:
    """A batch of images in; for each its prediction, or the error that it alone raised. For one thread at a time."""

    def __init__(self, segmenter: Segmenter, num_threads: int, max_batch_size: int) -> None:
        self.segmenter = segmenter
        torch.set_num_threads(num_threads)
        cv2.setNumThreads(1)
        self._warm_up(max_batch_size)

    def __call__(self, images: Sequence[InputImage]) -> list[Prediction | Exception]:
        try:
            return self.segmenter.predict(images)
        except Exception:  # whoever raised, and be it the device's memory: each image gets its own try
            return [self._predict_alone(image) for image in images]

    def _predict_alone(self, image: InputImage) -> Prediction | Exception:
        try:
            return self.segmenter.predict([image])[0]
        except Exception as error:
            return error

    def _warm_up(self, max_batch_size: int) -> None:
        spec = self.segmenter.spec
        blank = fit_image(np.zeros((*spec.input_size, 3), np.uint8), spec.input_size, spec.fit_rule)
        for batch_size in (1, max_batch_size):
            self.segmenter.predict([blank] * batch_size)


class BatchedModel:
    """The model stage behind a batcher."""

    def __init__(self, served: ServedModel, config: AppConfig) -> None:
        segmenter = load_bundle(served.folder, "cuda" if config.num_gpus else "cpu")
        self.spec = segmenter.spec
        stage = ModelStage(segmenter, config.model_threads, config.max_batch_size)
        self._batcher = Batcher(stage, config.max_batch_size, config.batch_wait_s)

    async def predict(self, prepared: Prepared) -> Predicted:
        outcome = await self._batcher.submit(prepared.image)
        times_s = prepared.times_s | {"queue": outcome.queue_s, "model": outcome.run_s}
        return Predicted(outcome.value, outcome.batch_size, times_s)

    async def check(self) -> None:
        """Returns when the model's thread is free."""
        await self._batcher.check()
