"""A bundle: the directory that holds a segmenter and all that rebuilds it. Loading it unpickles nothing.

weights.safetensors   the network's parameters and buffers
model.json            all else; `models/spec.py` reads it
engines/              what was exported for an engine, each in a folder of its own; `models/engines/` reads it
golden/               photos with the masks that it gave them; `models/golden.py` compares them with those that it gives now
reference.json        what photos and answers looked like on validation pictures; `models/watch.py` measures the distance to it
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load as load_weights
from safetensors.torch import save as dump_weights

from models.engines import EngineOptions
from models.segmenter import Segmenter
from models.spec import CARD, InvalidBundle, SegmenterSpec, make_card, read_card, read_spec
from models.unet import NormalizedNetwork, build_network

_WEIGHTS = "weights.safetensors"


def save_bundle(folder: Path, network: NormalizedNetwork, spec: SegmenterSpec, provenance: dict) -> Path:
    """Writes the bundle and returns `folder`, which appears whole or not at all, in place of what was there.

    `provenance` is kept as it is: what JSON can hold of the data's digest, the metrics and the versions.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    weights = dump_weights({name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()})
    card = make_card(spec, hashlib.sha256(weights).hexdigest(), provenance)
    (draft / _WEIGHTS).write_bytes(weights)
    (draft / CARD).write_text(json.dumps(card, indent=2) + "\n")
    draft.chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)
    return draft.rename(folder)


def load_bundle(folder: Path, device: torch.device | str = "cpu", engine: EngineOptions = EngineOptions()) -> Segmenter:  # noqa: B008, frozen
    """The segmenter of a bundle, ready to predict. Raises `InvalidBundle` and its `models.engines.EngineRefused`."""
    spec = read_spec(folder)
    if engine.name == "onnx":
        from models.engines.onnx import load_onnx  # each engine's imports are paid for where it is used

        return Segmenter(None, spec, engine=load_onnx(folder, engine))
    network = load_network(folder, spec)
    if engine.name == "torch_compile":
        from models.engines.compiled import compile_network

        return Segmenter(network, spec, device, compile_network(network, spec, device, engine))
    if engine.name == "torch_bf16":
        from models.engines.bfloat16 import load_bfloat16

        return Segmenter(network, spec, device, load_bfloat16(network, spec, device, engine))
    return Segmenter(network, spec, device)


def load_network(folder: Path, spec: SegmenterSpec) -> NormalizedNetwork:
    """The bundle's network with its weights, on the CPU, ready to predict. Raises `InvalidBundle`."""
    try:
        weights = (folder / _WEIGHTS).read_bytes()
    except OSError as error:
        raise InvalidBundle(f"{folder}: {_WEIGHTS} cannot be read; copy the bundle again") from error
    if hashlib.sha256(weights).hexdigest() != read_card(folder).get("weights_sha256"):
        raise InvalidBundle(f"{folder}: {_WEIGHTS} is not the file that {CARD} was written with; copy the bundle again")
    try:
        network = build_network(spec.architecture, len(spec.label_set))
        network.load_state_dict(load_weights(weights))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InvalidBundle(f"{folder}: {CARD} and the weights do not fit together ({error}); train again") from error
    return network.eval()
