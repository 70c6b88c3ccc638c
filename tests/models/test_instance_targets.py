import math

import pytest
import torch

from models.instance_targets import instance_targets
from models.spec import OFFSET_UNIT


def test_offsets_lead_from_each_pixel_to_the_middle_of_its_object():
    # object 3 has the pixels (0, 0), (0, 1), (0, 2): middle (0, 1); object 9, alone, is its own middle
    targets = instance_targets(torch.tensor([[[3, 3, 3, 0], [0, 0, 0, 9]]]))
    assert (targets.offsets * OFFSET_UNIT)[0].tolist() == [[[0, 0, 0, 0], [0, 0, 0, 0]], [[1, 0, -1, 0], [0, 0, 0, 0]]]
    assert targets.is_object[0].tolist() == [[True, True, True, False], [False, False, False, True]]


def test_the_centre_is_one_at_the_middle_and_falls_as_a_gaussian():
    instance_map = torch.zeros(1, 65, 65, dtype=torch.int64)
    instance_map[0, 16:49, 16:49] = 1  # 33 x 33: deviation 33 / 8
    centre = instance_targets(instance_map).centre[0]
    assert centre[32, 32] == 1 and centre.argmax() == 32 * 65 + 32
    assert centre[32, 36].item() == pytest.approx(math.exp(-(4**2) / (2 * (33 / 8) ** 2)))
    assert centre[0, 0] == 0


def test_each_object_has_its_own_peak_and_each_image_its_own_objects():
    instance_map = torch.zeros(2, 32, 32, dtype=torch.int64)
    instance_map[0, 4:12, 4:12], instance_map[0, 4:12, 12:20] = 1, 2  # they touch
    instance_map[1, 20:30, 20:30] = 1
    centre = instance_targets(instance_map).centre
    assert [centre[0, y, x].item() > 0.8 for y, x in ((8, 8), (8, 16), (8, 12))] == [True, True, False]
    assert centre[0, 20:, 20:].max() == 0 and centre[1, :16, :16].max() == 0


def test_no_object_no_centre():
    targets = instance_targets(torch.zeros(2, 8, 8, dtype=torch.int64))
    assert targets.centre.shape == (2, 8, 8) and not targets.centre.any() and not targets.is_object.any() and not targets.offsets.any()
