import numpy as np
import pytest

from models.calibration import binned, calibration_counts, calibration_error


def test_of_four_pixels_at_one_confidence_half_are_right():
    """Confidence 204/255 = 0.8 and accuracy 0.5: the gap is 0.3. The ignored pixel is not counted."""
    mask, predicted = np.array([[0, 1, 1, 0, 255]], np.uint8), np.array([[0, 1, 0, 1, 0]], np.uint8)
    counts = calibration_counts(mask, predicted, np.full((1, 5), 204, np.uint8))
    assert counts[:, 204].tolist() == [2, 2]
    assert counts.sum() == 4
    assert calibration_error(binned(counts)) == pytest.approx(0.3)


def test_gaps_are_weighted_by_their_pixels_and_do_not_cancel_out():
    """Three wrong pixels that were sure (gap 1), one right pixel of confidence 0.6 (gap 0.4): (3 x 1 + 1 x 0.4) / 4."""
    counts = np.zeros((2, 256), np.int64)
    counts[0, 255], counts[1, 153] = 3, 1
    assert calibration_error(binned(counts)) == pytest.approx(0.85)


def test_bins_hold_every_level_once_and_are_equally_wide():
    bins = binned(np.ones((2, 256), np.int64))
    assert bins[:, 0].sum() == 512
    assert bins[:, 2].sum() == 2 * sum(range(256))
    assert set(bins[:, 1].tolist()) == {17, 18}


def test_without_a_pixel_it_is_undefined():
    assert np.isnan(calibration_error(binned(np.zeros((2, 256), np.int64))))
