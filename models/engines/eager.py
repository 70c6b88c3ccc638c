"""PyTorch as it is: on any device, with no artefact and no preparation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from models.unet import NormalizedNetwork


class EagerEngine:
    """An image's result depends on its batch in the last bits at most, where a convolution of another algorithm takes a larger batch:
    at least 99.99 % of its pixels keep their class in any batch."""

    def __init__(self, network: NormalizedNetwork, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        self._network = ProbabilityNetwork(network).to(self._device, memory_format=torch.channels_last).eval()

    @torch.inference_mode()
    def compute(self, pixels: np.ndarray) -> Tensor:
        return self._network(torch.from_numpy(pixels).to(self._device))


class ProbabilityNetwork(nn.Module):
    """From images to probabilities and objects, the whole of what an engine computes."""

    def __init__(self, network: NormalizedNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        """What `models.engines.Engine.compute` gives of (B, H, W, 3) uint8."""
        outputs = self.network(pixels.permute(0, 3, 1, 2)).float()  # (B, H, W, 3) seen so is channels_last already
        num_classes = outputs.shape[1] - self.network.instance_channels
        probabilities = outputs[:, :num_classes].softmax(dim=1)
        return (
            torch.cat([probabilities, outputs[:, num_classes:]], dim=1).half() if self.network.instance_channels else probabilities.half()
        )
