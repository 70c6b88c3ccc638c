"""What a segmenter is, apart from its weights, and the file that says so. Needs no torch, which many processes do without.

model.json, beside the weights in a bundle: architecture, label set, input size, fit rule, digest of the weights, and where it came from.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from models.fit import FitRule
from models.label_set import LabelSet

FORMAT = 1
CARD = "model.json"
INSTANCE_CHANNELS = 3  # behind the classes: how much a pixel is an object's centre, and the way to its own, down and to the right
OFFSET_UNIT = 32  # pixels of the input that 1 stands for in those ways, so that the numbers are of the logits' size
_HEADS = {False: "semantic", True: "semantic+centre_offset"}


class InvalidBundle(ValueError):
    """A directory that is no bundle, or one that was damaged, or is from a newer version."""


@dataclass(frozen=True)
class Architecture:
    """What is needed to build a network without its weights."""

    network: Literal["unet", "unet2015"] = "unet"
    """`unet`: the encoder below with a U-Net decoder. `unet2015`: the paper's, unpadded convolutions, no encoder to choose."""
    encoder: str = "mobilenet_v2"
    """Any encoder of segmentation-models-pytorch, or `tu-` and a timm model. For `unet` only."""
    decoder_channels: int = 256
    """Channels of the decoder's first level, halved at each of the four after it, down to 16. 128 trains twice as fast on a CPU.
    For `unet` only."""
    base_channels: int = 64
    """Channels of the first level, doubled at each of the four below. For `unet2015` only; the paper has 64."""
    instances: bool | None = None
    """Tell touching objects of one class apart: a second head finds centres and the way to them. Needs data that marks single objects.
    Default: where the data does."""


@dataclass(frozen=True)
class SegmenterSpec:
    """What a segmenter is, apart from its weights. `input_size` is (height, width)."""

    architecture: Architecture
    label_set: LabelSet
    input_size: tuple[int, int]
    fit_rule: FitRule = "letterbox"


def make_card(spec: SegmenterSpec, weights_sha256: str, provenance: dict) -> dict:
    """What model.json holds; `read_spec` reads the spec back."""
    return {
        "format": FORMAT,
        "head": _HEADS[bool(spec.architecture.instances)],
        "architecture": asdict(spec.architecture),
        "label_set": spec.label_set.to_dict(),
        "input_size": list(spec.input_size),
        "fit_rule": spec.fit_rule,
        "weights_sha256": weights_sha256,
        "provenance": provenance,
    }


def read_card(folder: Path) -> dict:
    """What model.json says. Raises `InvalidBundle`."""
    try:
        card = json.loads((folder / CARD).read_text())
    except (OSError, ValueError) as error:
        raise InvalidBundle(f"{folder} is no bundle: {CARD} cannot be read; name a directory that training wrote") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT or card.get("head") not in _HEADS.values():
        stated = {name: card.get(name) for name in ("format", "head")} if isinstance(card, dict) else card
        raise InvalidBundle(
            f"{folder}: {stated} is not format {FORMAT} with a head of {' or '.join(_HEADS.values())}; use the version that wrote it, or train again"
        )
    return card


def read_spec(folder: Path) -> SegmenterSpec:
    """What model.json says of the segmenter, without its weights. Raises `InvalidBundle`."""
    card = read_card(folder)
    try:
        spec = SegmenterSpec(
            architecture=Architecture(**card["architecture"]),
            label_set=LabelSet.from_dict(card["label_set"]),
            input_size=tuple(card["input_size"]),
            fit_rule=card["fit_rule"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidBundle(f"{folder}: {CARD} lacks what a segmenter is made of ({error}); train again") from error
    if card["head"] != _HEADS[bool(spec.architecture.instances)]:
        raise InvalidBundle(f"{folder}: {CARD} states the head {card['head']!r}, its architecture has another; copy the bundle again")
    return spec
