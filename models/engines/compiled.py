"""PyTorch compiled for this machine when the process starts. Keeps no artefact; needs a C++ compiler."""

from __future__ import annotations

import os
import shutil

import numpy as np
import torch
from torch import Tensor

from models.engines import EngineOptions, EngineRefused
from models.engines.eager import EagerEngine, ProbabilityNetwork
from models.engines.parity import compare, drawn_images
from models.spec import SegmenterSpec
from models.unet import NormalizedNetwork

_NUM_COMPARED = 4  # images; each also waits for eager, before the process is ready


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
        parity = compare(EagerEngine(network, device), engine, drawn_images(spec.input_size, _NUM_COMPARED), len(spec.label_set))
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[0][:300]
        raise EngineRefused(f"engine torch_compile cannot compile this network ({reason}); serve with engine=torch") from error
    if parity.pixel_agreement < options.min_parity:
        raise EngineRefused(
            f"engine torch_compile agrees with torch on {parity.pixel_agreement:.4%} of the pixels of {_NUM_COMPARED} drawn images, "
            f"and min_parity asks for {options.min_parity:.4%}; serve with engine=torch"
        )
    return engine
