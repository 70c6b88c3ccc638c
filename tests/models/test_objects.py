import numpy as np
import pytest
from faster_coco_eval import mask as coco_mask

from models.label_set import IGNORE_INDEX, LabelSet
from models.objects import find_objects, keep_classes
from models.run_lengths import coco_run_lengths, count_runs, find_runs

LABELS = LabelSet.from_names(["background", "can", "box"])
NO_BACKGROUND = LabelSet.from_names(["can", "box"])


def certain(class_map: np.ndarray) -> np.ndarray:
    return np.full(class_map.shape, 255, np.uint8)


def test_objects_have_box_area_and_mean_confidence():
    class_map = np.zeros((5, 6), np.uint8)
    class_map[1:3, 2:5] = 1
    confidence = np.full((5, 6), 255, np.uint8)
    confidence[1, 2:5] = 51
    (found,) = find_objects(class_map, confidence, LABELS).objects
    assert (found.class_index, found.box, found.area, found.score) == (1, (2, 1, 3, 2), 6, 0.6)
    assert (class_map[found.slices] == 1).all()


def test_the_box_of_a_region_that_goes_on_in_the_next_row():
    class_map = np.array([[0, 0, 1], [1, 1, 1], [0, 0, 0]], np.uint8)  # one run along the rows: places 2 to 5
    (found,) = find_objects(class_map, certain(class_map), LABELS).objects
    assert found.box == (0, 0, 3, 2) and found.area == 4


def test_regions_that_touch_at_a_corner_are_one_and_classes_are_apart():
    class_map = np.array([[1, 0, 2], [0, 1, 2], [0, 0, 0]], np.uint8)
    found = find_objects(class_map, certain(class_map), LABELS)
    assert sorted((each.class_index, each.area) for each in found.objects) == [(1, 2), (2, 2)]


def test_objects_are_numbered_by_their_area():
    class_map = np.array([[1, 0, 2, 2], [0, 0, 2, 2]], np.uint8)
    found = find_objects(class_map, certain(class_map), LABELS)
    assert [each.area for each in found.objects] == [4, 1]
    assert found.region_map.tolist() == [[2, 0, 1, 1], [0, 0, 1, 1]]


def test_the_objects_together_are_the_class_map():
    class_map = np.random.default_rng(0).integers(0, 3, (40, 50), dtype=np.uint8)
    rebuilt = np.zeros_like(class_map)
    found = find_objects(class_map, certain(class_map), LABELS)
    for each, run_lengths in zip(found.objects, coco_run_lengths(found.region_map, len(found.objects))):
        rebuilt[coco_mask.decode(run_lengths).astype(bool)] = each.class_index
    assert (rebuilt == class_map).all() and (found.class_map == class_map).all()


@pytest.mark.parametrize("mask", [[[0, 1], [1, 1]], [[1, 0], [0, 0]], [[1]], [[0, 1, 0]], [[1], [0], [1]]])
def test_run_lengths_are_cocos(mask):
    region_map = np.array(mask, np.int32)
    (run_lengths,) = coco_run_lengths(region_map, 1)
    library = coco_mask.encode(np.asfortranarray(region_map, np.uint8))
    assert run_lengths == {"size": list(region_map.shape), "counts": library["counts"].decode()}


def test_runs_by_hand():
    region_map = np.array([[1, 1, 0], [2, 1, 1]], np.int32)
    one, two = find_runs(region_map, 2)
    assert one.tolist() == [[0, 2], [4, 6]] and two.tolist() == [[3, 4]]
    assert count_runs(one, 6) == [0, 2, 2, 2] and count_runs(two, 6) == [3, 1, 2]
    assert count_runs(np.array([[1, 3], [3, 4]]), 6) == [1, 3, 2]


def test_an_empty_map_has_no_objects():
    empty = np.zeros((4, 4), np.uint8)
    assert find_objects(empty, empty, LABELS).objects == ()
    assert find_objects(empty + np.uint8(IGNORE_INDEX), empty, LABELS).objects == ()
    assert coco_run_lengths(np.zeros((4, 4), np.int32), 0) == []


def test_a_lower_score_than_asked_for_makes_a_region_background():
    class_map = np.array([[1, 1, 0, 2], [0, 0, 0, 0], [1, 0, 2, 2]], np.uint8)
    confidence = np.array([[255, 51, 0, 204], [0, 0, 0, 0], [0, 0, 102, 102]], np.uint8)  # scores 0.6, 0.8; 0, 0.4
    found = find_objects(class_map, confidence, LABELS, min_score=0.6)
    assert [(each.class_index, each.score) for each in found.objects] == [(1, 0.6), (2, 0.8)]
    assert found.class_map.tolist() == [[1, 1, 0, 2], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert found.region_map.tolist() == [[1, 1, 0, 2], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_without_background_what_is_left_out_has_no_class():
    class_map = np.array([[0, 0, 1]], np.uint8)
    found = find_objects(class_map, np.array([[255, 255, 51]], np.uint8), NO_BACKGROUND, min_score=0.5)
    assert found.class_map.tolist() == [[0, 0, IGNORE_INDEX]] and len(found.objects) == 1
    assert keep_classes(class_map, [1], NO_BACKGROUND).tolist() == [[IGNORE_INDEX, IGNORE_INDEX, 1]]


def test_only_the_classes_that_are_asked_for_stay():
    class_map = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    assert keep_classes(class_map, [2], LABELS).tolist() == [[0, 0, 2], [2, 0, 0]]
    assert keep_classes(class_map, [0], LABELS).tolist() == [[0, 0, 0], [0, 0, 0]]
