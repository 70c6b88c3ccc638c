"""PyTorch as it is: on any device, with no artefact and no preparation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class EagerEngine:
    """An image's result depends on its batch in the last bits at most, where a convolution of another algorithm takes a larger batch:
    at least 99.99 % of its pixels keep their class in any batch."""

    def __init__(self, network: nn.Module, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        self._network = ProbabilityNetwork(network).to(self._device, memory_format=torch.channels_last).eval()

    @torch.inference_mode()
    def probabilities(self, pixels: np.ndarray) -> Tensor:
        return self._network(torch.from_numpy(pixels).to(self._device))


class ProbabilityNetwork(nn.Module):
    """From images to probabilities, the whole of what an engine computes. `network` gives logits of (B, 3, H, W) uint8."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, K, H, W) float16 of (B, H, W, 3) uint8."""
        logits = self.network(pixels.permute(0, 3, 1, 2))  # (B, H, W, 3) seen so is channels_last already
        return logits.float().softmax(dim=1).half()
