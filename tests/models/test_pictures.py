"""Index PNGs and overlays."""

import io

import numpy as np
import pytest
from PIL import Image

from models.label_set import LabelSet
from models.mask_png import encode_mask_png
from models.overlay import draw_overlay


@pytest.mark.parametrize(("num_classes", "bits"), [(2, 1), (3, 2), (16, 4), (25, 8), (255, 8)])
def test_an_index_png_holds_the_indices_and_the_colours(num_classes, bits):
    label_set = LabelSet.from_names([f"class {i}" for i in range(num_classes)])
    class_map = np.random.default_rng(0).integers(0, num_classes, (13, 7), dtype=np.uint8)
    data = encode_mask_png(class_map, label_set)
    image = Image.open(io.BytesIO(data))
    assert image.mode == ("P" if bits > 1 or image.mode == "P" else "1")
    assert data[24] == bits  # the depth in the header
    assert (np.array(image) == class_map).all()
    y, x = 3, 4
    assert image.convert("RGB").getpixel((x, y)) == label_set.labels[class_map[y, x]].color


def test_an_overlay_leaves_background_alone_and_tints_the_rest():
    photo = np.full((60, 60, 3), 100, np.uint8)
    class_map = np.zeros((60, 60), np.uint8)
    class_map[20:40, 20:40] = 1
    label_set = LabelSet.from_names(["background", "can"])
    overlay = draw_overlay(photo, class_map, label_set)
    assert (overlay[:15] == 100).all()
    assert (overlay[22, 22] != 100).any()
    assert (photo == 100).all()


def test_names_stay_within_the_frame_and_large_pictures_have_them_too():
    label_set = LabelSet.from_names(["background", "a rather long name"])
    for shape in ((60, 40), (900, 600)):
        photo, class_map = np.full((*shape, 3), 100, np.uint8), np.ones(shape, np.uint8)
        overlay = draw_overlay(photo, class_map, label_set)
        assert overlay.shape == photo.shape
        assert (overlay == label_set.labels[1].color).all(axis=2)[10:-10, 10:-10].any()  # the name's sign


def test_where_pixels_have_no_class_the_png_is_black_and_the_photo_stays():
    label_set = LabelSet.from_names(["can", "box"])
    class_map = np.array([[0, 255]], np.uint8)
    image = Image.open(io.BytesIO(encode_mask_png(class_map, label_set)))
    assert (np.array(image) == class_map).all() and image.convert("RGB").getpixel((1, 0)) == (0, 0, 0)
    overlay = draw_overlay(np.full((40, 40, 3), 100, np.uint8), np.full((40, 40), 255, np.uint8), label_set)
    assert (overlay == 100).all()


def test_touching_objects_of_a_class_are_outlined_and_named_each_and_other_lines_stay():
    label_set = LabelSet.from_names(["background", "can", "box"])
    photo, class_map = np.full((60, 120, 3), 100, np.uint8), np.zeros((60, 120), np.uint8)
    class_map[10:50, 10:90], class_map[10:50, 90:110] = 1, 2
    region_map = np.where(np.arange(120) < 50, 1, np.where(np.arange(120) < 90, 2, 3)) * (class_map > 0)
    as_one, apart = (draw_overlay(photo, class_map, label_set, region_map=each) for each in (None, region_map.astype(np.int32)))
    color = label_set.labels[1].color
    assert (apart[12:48, 49:52] == color).all(axis=2).sum() > 36 > (as_one[12:48, 49:52] == color).all(axis=2).sum()
    assert (apart[:, 85:] == as_one[:, 85:]).all()  # where can and box meet
    signs = [(each[20:40] == color).all(axis=2).sum() for each in (as_one, apart)]
    assert signs[1] > 1.5 * signs[0]
