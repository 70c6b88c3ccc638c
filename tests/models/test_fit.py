import numpy as np
import pytest

from models.fit import PAD_COLOR, Content, content_of, fit_image, fit_mask
from models.label_set import IGNORE_INDEX


@pytest.mark.parametrize(
    ("original", "rule", "content"),
    [
        ((100, 200), "letterbox", Content(16, 0, 32, 64)),
        ((200, 100), "letterbox", Content(0, 16, 64, 32)),
        ((64, 64), "letterbox", Content(0, 0, 64, 64)),
        ((1, 60_000), "letterbox", Content(31, 0, 1, 64)),
        ((100, 200), "stretch", Content(0, 0, 64, 64)),
    ],
)
def test_where_an_image_lies_in_the_input(original, rule, content):
    assert content_of(original, (64, 64), rule) == content


def test_padding_has_the_mean_colour_and_is_never_trained_on():
    image = np.full((10, 20, 3), 7, np.uint8)
    fitted = fit_image(image, (32, 32), "letterbox")
    assert fitted.original_size == (10, 20)
    assert (fitted.pixels[fitted.content.slices] == 7).all()
    assert tuple(fitted.pixels[0, 0]) == PAD_COLOR
    mask = fit_mask(np.full((10, 20), 2, np.uint8), (32, 32), "letterbox")
    assert (mask[fitted.content.slices] == 2).all()
    assert (mask == IGNORE_INDEX).sum() == 32 * 16


def test_an_image_of_the_input_size_is_left_as_it_is():
    image = np.random.default_rng(0).integers(0, 255, (32, 64, 3), dtype=np.uint8)
    assert (fit_image(image, (32, 64), "letterbox").pixels == image).all()


def test_a_mask_follows_its_image_to_the_same_cells():
    image = np.zeros((40, 80, 3), np.uint8)
    image[10:20, 30:50] = 255
    mask = (image[..., 0] > 0).astype(np.uint8)
    fitted = fit_image(image, (64, 64), "letterbox")
    assert ((fitted.pixels[..., 0] > 127) & (fit_mask(mask, (64, 64), "letterbox") == 1)).sum() == (
        fit_mask(mask, (64, 64), "letterbox") == 1
    ).sum()
