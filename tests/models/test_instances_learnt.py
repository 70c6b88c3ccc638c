"""From pixels to single objects: what the targets, the loss, the decoder and the restored masks are for, all together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.fit import fit_image
from models.instance_mask import InstanceMask
from models.instance_metrics import InstanceEvaluation, masks_of_prediction
from models.label_set import LabelSet
from models.losses import LossOptions, training_loss
from models.run_lengths import coco_run_lengths
from models.segmenter import Segmenter
from models.spec import Architecture, SegmenterSpec
from models.unet import build_network

LABELS = LabelSet.from_names(["background", "tile"])
SPEC = SegmenterSpec(Architecture(encoder="tu-test_resnet", decoder_channels=64, instances=True), LABELS, (64, 64))


@pytest.fixture(autouse=True)
def _one_thread():
    """For so small a network: threads wait for each other longer than they compute."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def draw_tiles(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A picture (64, 64, 3) of up to six touching tiles with a dark line at two of their sides, and its instance map."""
    picture, instance_map = random.integers(0, 60, (64, 64, 3), dtype=np.uint8), np.zeros((64, 64), np.int32)
    top, left = random.integers(0, 12, 2)
    height = random.integers(16, 26)
    for number, (row, column) in enumerate(np.ndindex(2, 3), 1):
        if random.random() < 0.7:
            tile = slice(top + row * height, top + (row + 1) * height), slice(left + 17 * column, left + 17 * (column + 1))
            instance_map[tile], picture[tile] = number, random.integers(120, 255, 3)
            picture[tile][:1] = picture[tile][:, :1] = 90
    return picture, instance_map


def train(num_steps: int) -> Segmenter:
    torch.manual_seed(0)
    network, random = build_network(SPEC.architecture, 2), np.random.default_rng(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for _ in range(num_steps):
        pictures, maps = (torch.from_numpy(np.stack(each)) for each in zip(*(draw_tiles(random) for _ in range(8))))
        outputs = network(pictures.permute(0, 3, 1, 2))
        loss = training_loss(outputs, (maps > 0).long(), maps, torch.ones(maps.shape), 2, LossOptions())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return Segmenter(network.eval(), SPEC)


@pytest.mark.slow
def test_a_network_learns_to_tell_touching_objects_apart_that_are_one_region():
    segmenter, random = train(60), np.random.default_rng(99)
    with_head, regions = InstanceEvaluation(LABELS), InstanceEvaluation(LABELS)
    for number in range(10):
        picture, instance_map = draw_tiles(random)
        codes = coco_run_lengths(instance_map, 6)
        true = [InstanceMask(1, codes[place - 1]) for place in np.unique(instance_map[instance_map > 0])]
        (prediction,) = segmenter.predict([fit_image(picture, (64, 64), "letterbox")])
        with_head.add(number, true, masks_of_prediction(prediction, LABELS))
        regions.add(number, true, masks_of_prediction(replace(prediction, instances=None), LABELS))
    assert with_head.summary()["ap50"] > 0.9 and with_head.summary()["counting_error"] < 0.5
    assert regions.summary()["ap50"] < 0.2 and regions.summary()["counting_error"] > 1
