"""ONNX Runtime on the CPU, from a graph that was exported once and lies in the bundle.

engines/onnx/model.onnx    images (B, H, W, 3) uint8 in, outputs (B, K or K + 3, H, W) float16 out, B free
engines/onnx/parity.json   digests of this graph and of the weights it was made of, and how well it agrees with engine `torch`
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.engines import EngineOptions, EngineRefused
from models.engines.eager import ProbabilityNetwork
from models.spec import read_card
from models.unet import NormalizedNetwork

FOLDER = Path("engines") / "onnx"
MODEL = "model.onnx"
PARITY = "parity.json"


class OnnxEngine:
    """An image gives the same bits in any batch, since each is computed by itself: on a CPU that takes no longer and half the memory.

    Raises `EngineRefused` where `model` is no graph that the runtime knows.
    """

    def __init__(self, model: bytes, num_threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # replicas share the cores
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no common base
            raise EngineRefused(f"ONNX Runtime cannot load the graph ({str(error)[:200]}); export it again") from error

    def compute(self, pixels: np.ndarray) -> Tensor:
        return torch.from_numpy(np.concatenate([self._session.run(None, {"images": image[np.newaxis]})[0] for image in pixels]))


def export_graph(network: NormalizedNetwork, input_size: tuple[int, int], path: Path) -> None:
    """Writes `path`, the graph of what `Engine.compute` does, for any batch size. `network` must be on the CPU."""
    example = torch.zeros(2, *input_size, 3, dtype=torch.uint8)
    torch.onnx.export(
        ProbabilityNetwork(network).eval(),
        (example,),
        path,
        input_names=["images"],
        output_names=["outputs"],
        dynamic_shapes={"pixels": {0: torch.export.Dim("B", min=1)}},
        external_data=False,
        verbose=False,
    )


def load_onnx(bundle: Path, options: EngineOptions) -> OnnxEngine:
    """The engine of the bundle's export. Raises `EngineRefused`."""
    export_again = f"run: python -m deployments.export {bundle} --engine onnx"
    try:
        parity = json.loads((bundle / FOLDER / PARITY).read_text())
        model = (bundle / FOLDER / MODEL).read_bytes()
        stated = parity["sha256"], parity["weights_sha256"], float(parity["pixel_agreement"])
    except OSError as error:
        raise EngineRefused(f"{bundle} has no export for engine onnx; {export_again}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise EngineRefused(f"{bundle / FOLDER / PARITY} is damaged ({error!r}); {export_again}") from error
    sha256, weights_sha256, agreement = stated
    if hashlib.sha256(model).hexdigest() != sha256:
        raise EngineRefused(f"{bundle / FOLDER / MODEL} is not the file that {PARITY} was written with; {export_again}")
    if weights_sha256 != read_card(bundle).get("weights_sha256"):
        raise EngineRefused(f"{bundle / FOLDER / MODEL} was made of other weights than the bundle's; {export_again}")
    if not agreement >= options.min_parity:
        raise EngineRefused(
            f"{bundle}: engine onnx agrees with torch on {agreement:.4%} of the pixels of {parity.get('images')}, and min_parity asks for "
            f"{options.min_parity:.4%}; serve with engine=torch, or lower min_parity"
        )
    return OnnxEngine(model, options.num_threads)
