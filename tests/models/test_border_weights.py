import math

import numpy as np
import pytest

from models.border_weights import border_weights, weight_regions
from models.label_set import LabelSet


def test_weights_worked_by_hand():
    # Distances to region 1: 1 2 3, to region 2: 3 2 1; together 4 everywhere between.
    weights = border_weights(np.array([[1, 1, 0, 0, 0, 2]], np.int32), strength=10, sigma=5)
    between = 1 + 10 * math.exp(-(4**2) / (2 * 5**2))  # 8.2615
    assert weights[0] == pytest.approx([1, 1, between, between, between, 1])
    assert between == pytest.approx(8.2615, abs=1e-4)


def test_only_the_two_nearest_regions_count():
    weights = border_weights(np.array([[1, 0, 2, 0, 0, 3]], np.int32), strength=2, sigma=1)
    # 1 + 1 beside region 1; 1 + 2 between 2 and 3, though region 1 is 3 and 4 away
    assert weights[0, 1] == pytest.approx(1 + 2 * math.exp(-2))
    assert weights[0, 3:5] == pytest.approx([1 + 2 * math.exp(-4.5)] * 2)


def test_distances_are_straight_across_the_picture():
    region_map = np.zeros((4, 4), np.int32)
    region_map[0, 0], region_map[3, 3] = 1, 2
    gap = math.hypot(1, 1) + math.hypot(2, 2)
    assert border_weights(region_map)[1, 1] == pytest.approx(1 + 10 * math.exp(-(gap**2) / 50), rel=1e-3)


def test_beside_one_region_or_far_from_the_second_all_weigh_one():
    one = np.zeros((8, 40), np.int32)
    one[:, :4] = 1
    assert (border_weights(one) == 1).all()
    one[:, 36:] = 2
    assert border_weights(one, sigma=5)[:, 20] == pytest.approx(1, abs=0.01)
    assert (border_weights(np.zeros((3, 3), np.int32)) == 1).all()


def test_regions_of_a_class_that_meet_at_a_corner_are_kept_apart_and_the_first_class_lies_between_where_none_is_background():
    cells = np.array([[1, 0], [0, 1]], np.uint8)
    assert weight_regions(cells, LabelSet.from_names(["membrane", "cell"])).tolist() == [[1, 0], [0, 2]]
    assert weight_regions(cells, LabelSet.from_names(["cell", "background"])).tolist() == [[0, 1], [2, 0]]
