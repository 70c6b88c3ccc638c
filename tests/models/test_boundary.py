import cv2
import numpy as np
import pytest

from models.boundary import band_width, boundary_band, boundary_outcomes, edges


def published_boundary(mask: np.ndarray, width: int) -> np.ndarray:
    """`mask_to_boundary` of the paper's code: the mask without what is left of it after `width` erosions inside a frame of zeros."""
    framed = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    left = cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1]
    return (mask.astype(np.uint8) - left).astype(bool)


def blobs(size: tuple[int, int], num_classes: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).random((num_classes, size[0] // 8, size[1] // 8), np.float32)
    return np.stack([cv2.resize(each, size[::-1], interpolation=cv2.INTER_CUBIC) for each in noise]).argmax(0).astype(np.uint8)


def test_a_square_one_pixel_too_wide_on_one_side():
    """In 6 x 6 the band is one pixel: the square's rim of 8, the prediction's of 10; they share the three on the left and two above and below."""
    mask, predicted = np.zeros((2, 6, 6), np.uint8)
    mask[1:4, 1:4] = 1
    predicted[1:4, 1:5] = 1
    assert boundary_outcomes(mask, predicted, 2)[1].tolist() == [7, 3, 1]


def test_the_band_is_two_hundredths_of_the_diagonal_and_at_least_a_pixel():
    assert [band_width(size) for size in ((4, 4), (300, 400), (3000, 4000))] == [1, 10, 100]


@pytest.mark.parametrize("seed", range(4))
def test_bands_of_all_classes_at_once_are_those_of_the_published_code_class_by_class(seed):
    class_map = blobs((96, 128), 4, seed)
    for width in (1, 3, 10):
        band = boundary_band(class_map, width)
        for index in range(4):
            assert (band & (class_map == index) == published_boundary(class_map == index, width)).all()


def test_counts_are_those_of_the_published_boundaries_with_ignored_pixels_taken_out_of_both():
    mask, predicted = blobs((96, 128), 3, 0), blobs((96, 128), 3, 1)
    mask[20:50, 30:60] = 255
    width = band_width(mask.shape)
    for index, (tp, fp, fn) in enumerate(boundary_outcomes(mask, predicted, 3).tolist()):
        true = published_boundary(mask == index, width)
        claimed = published_boundary((predicted == index) & (mask != 255), width)
        assert (tp, fp, fn) == ((true & claimed).sum(), (claimed & ~true).sum(), (true & ~claimed).sum())


def test_a_thinner_object_loses_little_iou_and_much_boundary_iou():
    mask = np.zeros((300, 400), np.uint8)
    cv2.circle(mask, (200, 150), 100, 1, cv2.FILLED)
    thinner = cv2.erode(mask, np.ones((3, 3), np.uint8), iterations=4)
    tp, fp, fn = boundary_outcomes(mask, thinner, 2)[1]
    assert (mask & thinner).sum() / mask.sum() > 0.9
    assert tp / (tp + fp + fn) < 0.6


def test_edges_are_on_both_sides_of_a_border():
    assert edges(np.array([[0, 0, 0, 2, 2]], np.uint8)).tolist() == [[0, 0, 1, 1, 0]]
