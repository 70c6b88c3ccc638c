"""The only stage with weights: a batch of images in, a prediction for each out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from models.engines import Engine
from models.engines.eager import EagerEngine
from models.fit import InputImage
from models.prediction import Prediction, interpret
from models.spec import SegmenterSpec
from models.unet import NormalizedNetwork


class Segmenter:
    """A network with its contract. To be called from one thread at a time."""

    def __init__(
        self, network: NormalizedNetwork | None, spec: SegmenterSpec, device: torch.device | str = "cpu", engine: Engine | None = None
    ) -> None:
        """`engine` computes instead of the network where it is given; an engine that brings its own weights needs no network."""
        self.network = network
        self.spec = spec
        self.device = torch.device(device)
        self.engine = engine or EagerEngine(network, device)

    def predict(self, images: Sequence[InputImage]) -> list[Prediction | np.ndarray]:
        """One prediction for each image, in their order; for a tile its part of `Engine.compute`, (K, h, w) or (K + 3, h, w) float16.

        The images have the spec's input size. Padding is cut away.
        """
        if not images:
            return []
        outputs = self.engine.compute(np.stack([image.pixels for image in images]))
        confidence, class_map = outputs[:, : len(self.spec.label_set)].float().max(dim=1)
        confidence = (confidence * 255).round().to(torch.uint8).cpu().numpy()
        class_map = class_map.to(torch.uint8).cpu().numpy()
        return [
            outputs_i[:, *crop].copy()
            if image.is_tile
            else interpret(outputs_i[:, *crop], class_map[i][crop], confidence[i][crop], self.spec.label_set, image.original_size)
            for i, (image, outputs_i) in enumerate(zip(images, outputs.cpu().numpy()))
            for crop in [image.content.slices]
        ]
