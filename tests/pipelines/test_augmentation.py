import numpy as np
import pytest

from models.fit import PAD_COLOR
from pipelines.augmentation import AugmentationConfig, Pixels, augment, change_colors, paste_objects, place, random_placement

STILL = AugmentationConfig(scale=(1, 1), turn_degrees=0, flip=False, color=0)


def example(size=(64, 96)) -> Pixels:
    """A white object on black."""
    image, mask, instance_map = np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8), np.zeros(size, np.int16)
    image[20:40, 30:60], mask[20:40, 30:60], instance_map[20:40, 30:60] = 255, 1, 7
    return Pixels(image, mask, instance_map)


def test_mask_and_objects_move_with_the_image():
    config = AugmentationConfig(color=0)
    for seed in range(10):
        moved = augment(example(), config, np.random.default_rng(seed))
        known = moved.mask != 255
        assert ((moved.image[..., 0] > 127) == (moved.mask == 1))[known].mean() > 0.98
        assert ((moved.instance_map == 7) == (moved.mask == 1)).all()
        if (~known).sum() > 1000:  # where fewer, much of it is blended at its edge
            assert np.median(moved.image[~known], axis=0) == pytest.approx(PAD_COLOR)


def test_the_same_seed_gives_the_same_pixels():
    first, again, other = (augment(example(), AugmentationConfig(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first.image == again.image).all() and (first.mask == again.mask).all()
    assert (first.image != other.image).any()


def test_turned_off_it_changes_nothing():
    random = np.random.default_rng(0)
    matrix = random_placement((64, 96), STILL, random)
    matrix[:, :2] = np.round(matrix[:, :2])  # the shape of things still varies a little
    matrix[:, 2] = 0
    still = place(example(), matrix)
    assert (still.image == example().image).all() and (still.mask == example().mask).all()


def test_things_become_half_or_twice_as_large():
    areas = [(augment(example(), AugmentationConfig(), np.random.default_rng(seed)).mask == 1).sum() / 600 for seed in range(60)]
    assert 0.2 <= min(area for area in areas if area) < 0.4  # a quarter, or less where it is cropped
    assert 2 < max(areas) <= 4.5


def test_pasted_objects_hide_what_is_under_them_and_are_objects_of_their_own():
    donor = example()
    donor.image[20:40, 30:60], donor.mask[20:40, 30:60] = 200, 2
    below = Pixels(np.full((64, 96, 3), 9, np.uint8), np.ones((64, 96), np.uint8), np.ones((64, 96), np.int16))
    pasted = paste_objects(below, donor, np.random.default_rng(0))
    inside = donor.instance_map > 0
    assert (pasted.image[inside] == 200).all() and (pasted.mask[inside] == 2).all() and (pasted.instance_map[inside] == 8).all()
    assert (pasted.image[~inside] == 9).all() and (pasted.mask[~inside] == 1).all() and (pasted.instance_map[~inside] == 1).all()


def test_a_donor_without_objects_gives_none():
    nothing = Pixels(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.int16))
    assert paste_objects(nothing, nothing, np.random.default_rng(0)) is nothing


def test_colours_change_within_what_is_asked_for_and_nothing_else_does():
    green = Pixels(np.full((4, 4, 3), (20, 160, 20), np.uint8), np.ones((4, 4), np.uint8), np.ones((4, 4), np.int16))
    weights = np.array([0.299, 0.587, 0.114])
    before = green.image[0, 0] @ weights
    for seed in range(20):
        changed = change_colors(green, AugmentationConfig(color=0.2), np.random.default_rng(seed))
        assert (changed.image == changed.image[0, 0]).all() and (changed.mask == 1).all()
        # one colour alone: contrast turns about its own brightness, so that only brightness and a little hue change it
        assert 0.75 < changed.image[0, 0] @ weights / before < 1.25
    assert change_colors(green, AugmentationConfig(color=0), np.random.default_rng(0)) is green


@pytest.mark.parametrize("wrong", [{"scale": (0, 1)}, {"scale": (2, 1)}, {"turn_degrees": 200}, {"color": -0.1}, {"copy_paste": 1.5}])
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AugmentationConfig(**wrong)
