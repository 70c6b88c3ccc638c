"""PyTorch with its convolutions in bfloat16: half the memory traffic, and on hardware that computes it natively up to twice as fast."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from models.engines import EngineOptions, EngineRefused
from models.engines.eager import EagerEngine
from models.engines.parity import refuse_below_floor
from models.spec import SegmenterSpec
from models.unet import NormalizedNetwork


class Bfloat16Engine(EagerEngine):
    """As the eager engine, which sums in other places; at least 99.99 % of an image's pixels keep their class in any batch."""

    def compute(self, pixels: np.ndarray) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16):
            return super().compute(pixels)


def load_bfloat16(network: NormalizedNetwork, spec: SegmenterSpec, device: torch.device | str, options: EngineOptions) -> Bfloat16Engine:
    """The engine, after it has shown on a few drawn images that it agrees with eager. Raises `EngineRefused`."""
    if not computes_bfloat16(torch.device(device)):
        raise EngineRefused(
            f"engine torch_bf16 needs hardware that computes bfloat16, and this {torch.device(device).type} does not; serve with engine=torch"
        )
    torch.set_num_threads(options.num_threads)
    engine = Bfloat16Engine(network, device)
    refuse_below_floor(engine, EagerEngine(network, device), spec, options)
    return engine


def computes_bfloat16(device: torch.device) -> bool:
    """Whether the hardware has instructions for it; elsewhere it is emulated, slowly."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
