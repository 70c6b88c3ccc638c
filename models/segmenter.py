"""The only stage with weights: a batch of images in, a prediction for each out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.fit import InputImage
from models.prediction import Prediction, compact
from models.spec import SegmenterSpec
from models.unet import NormalizedNetwork


class Segmenter:
    """A network with its contract. Not safe for two threads at once where a device's memory is short; call it from one."""

    def __init__(self, network: NormalizedNetwork, spec: SegmenterSpec, device: torch.device | str = "cpu") -> None:
        self.spec = spec
        self.device = torch.device(device)
        self.network = network.to(self.device, memory_format=torch.channels_last).eval()

    def predict(self, images: Sequence[InputImage]) -> list[Prediction | np.ndarray]:
        """One prediction for each image, in their order; for a tile its probabilities (K, h, w) float16, padding cut away.

        The images have the spec's input size.
        """
        if not images:
            return []
        probabilities = self._probabilities(images)
        confidence, class_map = probabilities.float().max(dim=1)
        confidence = (confidence * 255).round().to(torch.uint8).cpu().numpy()
        class_map = class_map.to(torch.uint8).cpu().numpy()
        return [
            probabilities_i[:, *crop].copy()
            if image.is_tile
            else compact(class_map[i][crop], confidence[i][crop], probabilities_i[:, *crop], image.original_size)
            for i, (image, probabilities_i) in enumerate(zip(images, probabilities.cpu().numpy()))
            for crop in [image.content.slices]
        ]

    def probabilities(self, images: Sequence[InputImage]) -> np.ndarray:
        """Class probabilities of every cell, padding included: (B, K, H, W) float16."""
        return self._probabilities(images).cpu().numpy()

    @torch.inference_mode()
    def _probabilities(self, images: Sequence[InputImage]) -> Tensor:
        pixels = torch.from_numpy(np.stack([image.pixels for image in images]))
        batch = pixels.to(self.device).permute(0, 3, 1, 2)  # (B, H, W, 3) seen so is channels_last already
        return self.network(batch).float().softmax(dim=1).half()
