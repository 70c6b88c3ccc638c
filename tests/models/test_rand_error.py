import math

import numpy as np
import pytest

from models.rand_error import class_rand_error, rand_error, regions_after_thinning


def test_worked_by_hand():
    # Two true regions of two pixels, merged in one of four: pairs 8 in both, 8 true, 16 found.
    assert rand_error(np.array([[1, 1, 2, 2]]), np.array([[1, 1, 1, 1]])) == pytest.approx(1 - 16 / 24)
    # Split in four of one: pairs 4 in both, 8 true, 4 found.
    assert rand_error(np.array([[1, 1, 2, 2]]), np.array([[1, 2, 3, 4]])) == pytest.approx(1 - 8 / 12)


def test_the_numbers_of_regions_do_not_matter_and_lines_between_are_not_counted():
    assert rand_error(np.array([[1, 1, 0, 2, 2]]), np.array([[7, 7, 9, 3, 3]])) == 0
    assert math.isnan(rand_error(np.zeros((2, 2), np.int32), np.ones((2, 2), np.int32)))


def test_regions_grow_until_the_lines_between_have_no_width():
    cells = np.array([[1, 0, 0, 0, 0, 1]] * 3, np.uint8)
    grown = regions_after_thinning(cells, 1)
    assert (grown[:, :3] == grown[0, 0]).all() and (grown[:, 3:] == grown[0, 5]).all() and grown[0, 0] != grown[0, 5]
    assert (regions_after_thinning(np.zeros((2, 2), np.uint8), 1) == 1).all()


def test_too_wide_a_line_is_no_error_and_a_gap_in_it_is_one():
    true = np.ones((21, 21), np.uint8)
    true[:, 10] = 0
    wide, broken = true.copy(), true.copy()
    wide[:, 8:13] = 0
    broken[10, 10] = 1
    assert class_rand_error(true, wide, 1) == 0
    assert class_rand_error(true, broken, 1) == pytest.approx(1 - 2 / 3)  # pairs: half in both of all that are found
    assert math.isnan(class_rand_error(np.zeros((3, 3), np.uint8), wide[:3, :3], 1))
