"""What many tests share: the folder of real photos, where there is one, and a small bundle."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from models.bundle import save_bundle
from models.label_set import LabelSet
from models.spec import Architecture, SegmenterSpec
from models.unet import build_network


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photos and annotations."""
    folder = Path(os.environ.get("SEGMENTATION_DATA", "../shared/data")).absolute()
    if not folder.is_dir():
        pytest.skip(f"no real photos: {folder} does not exist; set SEGMENTATION_DATA")
    return folder


@pytest.fixture(scope="session")
def pet_labels() -> LabelSet:
    return LabelSet.from_names(["pet", "background", "border"])


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory, pet_labels: LabelSet) -> Path:
    """A bundle of an untrained network: small, and the same in every test."""
    torch.manual_seed(0)
    spec = SegmenterSpec(Architecture(encoder="mobilenet_v2"), pet_labels, (64, 64))
    network = build_network(spec.architecture, len(pet_labels))
    return save_bundle(tmp_path_factory.mktemp("model") / "bundle", network, spec, {"data": "none"})
