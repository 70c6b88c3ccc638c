import numpy as np
from faster_coco_eval import mask as coco_mask

from models.label_set import LabelSet
from models.objects import encode_rle, find_objects

LABELS = LabelSet.from_names(["background", "can", "box"])


def test_objects_have_box_area_and_mean_confidence():
    class_map = np.zeros((5, 6), np.uint8)
    class_map[1:3, 2:5] = 1
    confidence = np.full((5, 6), 255, np.uint8)
    confidence[1, 2:5] = 51
    (found,) = find_objects(class_map, confidence, LABELS)
    assert (found.class_index, found.box, found.area, found.score) == (1, (2, 1, 3, 2), 6, 0.6)


def test_regions_that_touch_at_a_corner_are_one_and_classes_are_apart():
    class_map = np.array([[1, 0, 2], [0, 1, 2], [0, 0, 0]], np.uint8)
    found = find_objects(class_map, np.full((3, 3), 255, np.uint8), LABELS)
    assert sorted((each.class_index, each.area) for each in found) == [(1, 2), (2, 2)]


def test_the_objects_together_are_the_class_map():
    class_map = np.random.default_rng(0).integers(0, 3, (40, 50), dtype=np.uint8)
    rebuilt = np.zeros_like(class_map)
    for each in find_objects(class_map, np.full((40, 50), 128, np.uint8), LABELS):
        rebuilt[coco_mask.decode(each.rle).astype(bool)] = each.class_index
    assert (rebuilt == class_map).all()


def test_run_lengths_are_cocos():
    mask = np.array([[0, 1], [1, 1]], np.uint8)
    assert coco_mask.decode(encode_rle(mask)).tolist() == mask.tolist()
    assert encode_rle(mask)["size"] == [2, 2]


def test_an_empty_map_has_no_objects():
    assert find_objects(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8), LABELS) == []
