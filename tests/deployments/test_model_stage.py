"""Batches that fail, in a network of one's own that runs out of memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deployments.config import AppConfig
from deployments.model_source import fetch_bundle
from deployments.model_stage import ModelStage, load_stage
from models.fit import fit_image
from models.segmenter import Segmenter
from models.spec import Architecture, SegmenterSpec, read_spec

SIZE = (8, 8)


class Greedy(nn.Module):
    """Has memory for `room` images at a time; `tries` are the batch sizes that it was given."""

    def __init__(self, room: int, error: type[Exception]) -> None:
        super().__init__()
        self.room, self.error, self.tries = room, error, []
        self.instance_channels = 0

    def forward(self, images: Tensor) -> Tensor:
        self.tries.append(len(images))
        if len(images) > self.room:
            raise self.error("no memory")
        return images.float()


@pytest.fixture
def images():
    return [fit_image(np.full((*SIZE, 3), value, np.uint8), SIZE, "stretch") for value in range(8)]


def stage_of(network: Greedy, pet_labels) -> ModelStage:
    segmenter = Segmenter(network, SegmenterSpec(Architecture(), pet_labels, SIZE, "stretch"))
    stage = ModelStage(segmenter, num_threads=1, max_batch_size=network.room)
    network.tries.clear()
    return stage


def test_every_batch_size_is_computed_before_the_first_request(pet_labels):
    network = Greedy(4, MemoryError)
    ModelStage(Segmenter(network, SegmenterSpec(Architecture(), pet_labels, SIZE, "stretch")), num_threads=1, max_batch_size=4)
    assert network.tries == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("change", "computed"), [(None, [1, 2, 3]), ({}, [1]), ({"input_size": (32, 32)}, [1, 2, 3])], ids=["first", "like it", "other size"]
)
def test_beside_a_warm_model_of_the_same_network_one_image_is_enough(change, computed, bundle_folder, monkeypatch):
    sizes, predict = [], Segmenter.predict
    monkeypatch.setattr(Segmenter, "predict", lambda self, images: sizes.append(len(images)) or predict(self, images))
    model, config = fetch_bundle(str(bundle_folder)), AppConfig(model_uri=str(bundle_folder), max_batch_size=3)
    warm = None if change is None else replace(read_spec(bundle_folder), **change)
    pauses = []
    load_stage(model, config, warm, give_way=lambda: pauses.append(len(sizes)))
    assert sizes == computed
    assert pauses == [0, *range(len(computed))]  # before the weights, and before each size


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, RuntimeError])
def test_a_batch_that_does_not_fit_is_halved_until_it_does(error, pet_labels, images):
    network = Greedy(2, error)
    predictions = stage_of(network, pet_labels)(images)
    assert network.tries == [8, 4, 2, 2, 4, 2, 2]
    assert [each.class_map.shape for each in predictions] == [SIZE] * 8


def test_one_bad_image_costs_two_tries_for_each_halving_and_keeps_its_error(pet_labels, images):
    network = Greedy(8, MemoryError)
    stage = stage_of(network, pet_labels)
    images[5] = replace(images[5], pixels=images[5].pixels.astype(np.float64) * np.nan)
    network.forward = refuse_nan(network.forward)
    outcomes = stage(images)
    assert [isinstance(each, ValueError) for each in outcomes] == [False] * 5 + [True] + [False] * 2
    assert network.tries == [8, 4, 4, 2, 1, 1, 2]


def refuse_nan(forward):
    def refusing(images: Tensor) -> Tensor:
        logits = forward(images)
        if logits.isnan().any():
            raise ValueError("not a number")
        return logits

    return refusing


def test_nothing_in_nothing_out(pet_labels):
    assert stage_of(Greedy(2, MemoryError), pet_labels)([]) == []
