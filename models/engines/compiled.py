"""PyTorch compiled for this machine when the process starts. Keeps no artefact; needs a C++ compiler."""

from __future__ import annotations

import os
import shutil

import numpy as np
import torch
from torch import Tensor

from models.engines import EngineOptions, EngineRefused
from models.engines.eager import EagerEngine, ProbabilityNetwork
from models.engines.parity import refuse_below_floor
from models.spec import SegmenterSpec
from models.unet import NormalizedNetwork


class CompiledEngine:
    """One graph for an image alone and one for every larger batch, compiled when first used.

    At least 99.99 % of an image's pixels keep their class in any batch: the two graphs may differ in the last bits.
    """

    def __init__(self, network: NormalizedNetwork, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        network = ProbabilityNetwork(network).to(self._device, memory_format=torch.channels_last).eval()
        self._network = torch.compile(network, fullgraph=True)

    @torch.inference_mode()
    def compute(self, pixels: np.ndarray) -> Tensor:
        batch = torch.from_numpy(pixels).to(self._device)
        if len(batch) > 1:
            torch._dynamo.mark_dynamic(batch, 0)  # or each batch size would be compiled for itself
        return self._network(batch)


def compile_network(network: NormalizedNetwork, spec: SegmenterSpec, device: torch.device | str, options: EngineOptions) -> CompiledEngine:
    """The compiled engine, after it has shown on a few drawn images that it agrees with eager. Raises `EngineRefused`."""
    compiler = os.environ.get("CXX", "g++")
    if not shutil.which(compiler):
        raise EngineRefused(
            f"engine torch_compile needs a C++ compiler and {compiler!r} is not here; install g++, set CXX, or serve with engine=torch"
        )
    torch.set_num_threads(options.num_threads)  # before compiling: the code is made for so many
    engine = CompiledEngine(network, device)
    try:
        refuse_below_floor(engine, EagerEngine(network, device), spec, options)
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[0][:300]
        raise EngineRefused(f"engine torch_compile cannot compile this network ({reason}); serve with engine=torch") from error
    return engine
