"""A bundle: the directory that holds a segmenter and all that rebuilds it. Loading it unpickles nothing.

weights.safetensors   the network's parameters and buffers
model.json            architecture, label set, input size, fit rule, digest of the weights, and where it came from
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load as load_weights
from safetensors.torch import save as dump_weights

from models.label_set import LabelSet
from models.segmenter import Segmenter, SegmenterSpec
from models.unet import Architecture, NormalizedNetwork, build_network

FORMAT = 1
_WEIGHTS, _CARD = "weights.safetensors", "model.json"


class InvalidBundle(ValueError):
    """A directory that is no bundle, or one that was damaged, or is from a newer version."""


def save_bundle(folder: Path, network: NormalizedNetwork, spec: SegmenterSpec, provenance: dict) -> Path:
    """Writes the bundle and returns `folder`, which appears whole or not at all, in place of what was there.

    `provenance` is kept as it is: what JSON can hold of the data's digest, the metrics and the versions.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    weights = dump_weights({name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()})
    card = {
        "format": FORMAT,
        "head": "semantic",
        "architecture": asdict(spec.architecture),
        "label_set": spec.label_set.to_dict(),
        "input_size": list(spec.input_size),
        "fit_rule": spec.fit_rule,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "provenance": provenance,
    }
    (draft / _WEIGHTS).write_bytes(weights)
    (draft / _CARD).write_text(json.dumps(card, indent=2) + "\n")
    draft.chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)
    return draft.rename(folder)


def read_card(folder: Path) -> dict:
    """What model.json says. Raises `InvalidBundle`."""
    try:
        card = json.loads((folder / _CARD).read_text())
    except (OSError, ValueError) as error:
        raise InvalidBundle(f"{folder} is no bundle: {_CARD} cannot be read; name a directory that training wrote") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT or card.get("head") != "semantic":
        stated = {name: card.get(name) for name in ("format", "head")} if isinstance(card, dict) else card
        raise InvalidBundle(
            f"{folder}: {stated} is not format {FORMAT} with a semantic head; use the version that wrote it, or train again"
        )
    return card


def read_spec(folder: Path) -> SegmenterSpec:
    """What model.json says of the segmenter, without its weights. Raises `InvalidBundle`."""
    card = read_card(folder)
    try:
        return _spec(card)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidBundle(f"{folder}: {_CARD} lacks what a segmenter is made of ({error}); train again") from error


def load_bundle(folder: Path, device: torch.device | str = "cpu") -> Segmenter:
    """The segmenter of a bundle, ready to predict. Raises `InvalidBundle`."""
    card = read_card(folder)
    try:
        weights = (folder / _WEIGHTS).read_bytes()
    except OSError as error:
        raise InvalidBundle(f"{folder}: {_WEIGHTS} cannot be read; copy the bundle again") from error
    if hashlib.sha256(weights).hexdigest() != card.get("weights_sha256"):
        raise InvalidBundle(f"{folder}: {_WEIGHTS} is not the file that {_CARD} was written with; copy the bundle again")
    try:
        spec = _spec(card)
        network = build_network(spec.architecture, len(spec.label_set))
        network.load_state_dict(load_weights(weights))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InvalidBundle(f"{folder}: {_CARD} and the weights do not fit together ({error}); train again") from error
    return Segmenter(network, spec, device)


def _spec(card: dict) -> SegmenterSpec:
    return SegmenterSpec(
        architecture=Architecture(**card["architecture"]),
        label_set=LabelSet.from_dict(card["label_set"]),
        input_size=tuple(card["input_size"]),
        fit_rule=card["fit_rule"],
    )
