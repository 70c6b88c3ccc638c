"""Polygons are right where filling them gives the pixels back, and simple where no ring touches itself."""

import numpy as np
import pytest

from models.label_set import LabelSet
from models.objects import find_objects
from models.outlines import find_polygons

LABELS = LabelSet.from_names(["background", "can", "box", "bag"])
RING = [[1, 1, 1], [1, 0, 1], [1, 1, 1]]


def fill(polygons: list, shape: tuple[int, int]) -> np.ndarray:
    """Even-odd: a pixel is inside where an odd number of vertical sides lies to its left."""
    num_sides = np.zeros(shape, int)
    for ring in (ring for polygon in polygons for ring in polygon):
        for (x, y), (next_x, next_y) in zip(ring, [*ring[1:], ring[0]]):
            if x == next_x:
                num_sides[min(y, next_y) : max(y, next_y), x:] += 1
    return num_sides % 2 == 1


def outlines(class_map: list) -> list:
    class_map = np.array(class_map, np.uint8)
    found = find_polygons(find_objects(class_map, class_map, LABELS))
    return [[[ring.tolist() for ring in polygon] for polygon in polygons] for polygons in found]


def turned(ring: list) -> list:
    """The same ring, begun at its least corner."""
    start = ring.index(min(ring))
    return ring[start:] + ring[:start]


def test_one_pixel_is_a_square():
    ((((ring),),),) = outlines([[0, 0], [0, 1]])
    assert turned(ring) == [[1, 1], [2, 1], [2, 2], [1, 2]]


def test_a_ring_has_a_hole_that_turns_the_other_way():
    (((exterior, hole),),) = outlines(RING)
    assert turned(exterior) == [[0, 0], [3, 0], [3, 3], [0, 3]]
    assert turned(hole) == [[1, 1], [1, 2], [2, 2], [2, 1]]


def test_parts_that_meet_at_a_corner_are_polygons_of_one_object():
    ((first, second),) = outlines([[1, 0], [0, 1]])
    assert sorted([turned(first[0]), turned(second[0])]) == [
        [[0, 0], [1, 0], [1, 1], [0, 1]],
        [[1, 1], [2, 1], [2, 2], [1, 2]],
    ]


def test_holes_that_meet_at_a_corner_are_two():
    ((polygon,),) = outlines([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]])
    assert sorted(turned(ring) for ring in polygon[1:]) == [[[1, 1], [1, 2], [2, 2], [2, 1]], [[2, 2], [2, 3], [3, 3], [3, 2]]]


def test_a_hole_that_meets_the_outside_at_a_corner_is_a_hole():
    ((polygon,),) = outlines([[1, 1, 1], [1, 0, 1], [1, 1, 0]])
    assert turned(polygon[0]) == [[0, 0], [3, 0], [3, 2], [2, 2], [2, 3], [0, 3]]
    assert turned(polygon[1]) == [[1, 1], [1, 2], [2, 2], [2, 1]]


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (3, 5)])
def test_a_full_image_is_its_frame(shape):
    height, width = shape
    ((((ring),),),) = outlines(np.ones(shape))
    assert turned(ring) == [[0, 0], [width, 0], [width, height], [0, height]]


def test_no_object_no_polygon():
    assert outlines([[0, 0]]) == []


@pytest.mark.parametrize("seed", range(40))
def test_filling_gives_the_pixels_back_and_rings_are_simple(seed):
    random = np.random.default_rng(seed)
    class_map = random.integers(0, random.integers(2, 5), random.integers(1, 16, 2), dtype=np.uint8)
    found = find_objects(class_map, class_map, LABELS)
    for number, polygons in enumerate(find_polygons(found), 1):
        np.testing.assert_array_equal(fill(polygons, class_map.shape), found.region_map == number)
        for ring in (ring for polygon in polygons for ring in polygon):
            assert len({tuple(corner) for corner in ring.tolist()}) == len(ring)
            moved = np.diff(ring, axis=0, append=ring[:1]) != 0
            assert (moved.sum(axis=1) == 1).all() and (moved != np.roll(moved, 1, axis=0)).all()  # every corner turns
