"""What computes a segmenter's probabilities: PyTorch as it is, in bfloat16, or compiled; or ONNX Runtime. Needs no torch itself.

An engine is chosen where a model is served. Training and evaluation use the first one, which all others are measured against.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from models.spec import InvalidBundle

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

EngineName = Literal["torch", "torch_bf16", "torch_compile", "onnx"]


class EngineRefused(InvalidBundle):
    """A bundle that the asked engine cannot serve, or cannot serve as exactly as it must."""


@dataclass(frozen=True)
class EngineOptions:
    """Which engine, its CPU threads, and the least share of pixels that must have the class that engine `torch` gives them."""

    name: EngineName = "torch"
    num_threads: int = 1
    min_parity: float = 0.999


class Engine(Protocol):
    """Class probabilities of a batch of any size, and objects where the network has a head for them. For one thread at a time."""

    def compute(self, pixels: np.ndarray) -> Tensor:
        """(B, K, H, W) float16 probabilities, on the engine's device, of `pixels` (B, H, W, 3) uint8.

        With an instance head (B, K + 3, H, W): behind the classes how much a cell is the centre of an object, and the way to its
        own centre, down and to the right, as `models/instance_targets.py` has them.
        """
