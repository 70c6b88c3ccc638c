from dataclasses import replace

import numpy as np
import pytest

from models.instance_decoder import Instances
from models.instance_restore import restore_instances
from models.label_set import LabelSet
from models.objects import find_objects
from models.outlines import find_polygons
from models.prediction import Prediction, compact
from models.restore import restore_class_map, restore_confidence

LABELS = LabelSet.from_names(["background", "can", "box"])


def predict(class_map: np.ndarray, instance_map: np.ndarray, size: tuple[int, int], sharpness: float = 0.8) -> Prediction:
    """A prediction that is as sure of every cell's class as `sharpness` says."""
    probabilities = np.full((3, *class_map.shape), (1 - sharpness) / 2)
    np.put_along_axis(probabilities, class_map[None].astype(np.intp), sharpness, axis=0)
    prediction = compact(class_map, np.full(class_map.shape, 255, np.uint8), probabilities.astype(np.float16), size)
    return replace(prediction, instances=Instances(instance_map, np.linspace(0.5, 1, int(instance_map.max()))))


def test_two_touching_cans_are_two_objects_at_the_photos_size_with_masks_and_outlines_of_their_own():
    cells = np.array([[0, 0, 0, 0, 0], [0, 1, 1, 2, 2], [0, 1, 1, 2, 2]], np.uint8)
    prediction = predict((cells > 0).astype(np.uint8), cells, (30, 50))
    class_map = restore_class_map(prediction)
    instance_map = restore_instances(prediction, class_map)
    assert ((instance_map > 0) == (class_map == 1)).all()
    assert (instance_map[25] == np.repeat([0, 1, 2], [10, 20, 20])).all()
    found = find_objects(class_map, restore_confidence(prediction), LABELS, instances=(instance_map, prediction.instances.certainty))
    areas = [int((instance_map == number).sum()) for number in (2, 1)]
    assert [(each.class_index, each.area, each.score) for each in found.objects] == [(1, areas[0], 1.0), (1, areas[1], 0.7071)]
    outlines = find_polygons(found)
    assert [len(polygons) for polygons in outlines] == [1, 1]
    assert min(x for x, _ in outlines[0][0][0].tolist()) == max(x for x, _ in outlines[1][0][0].tolist()) == 30


def test_the_border_between_objects_is_cut_at_half_way_and_not_at_the_cells():
    cells = np.array([[1, 1], [1, 2]], np.uint8)
    prediction = predict(np.ones((2, 2), np.uint8), cells, (8, 8))
    corner = restore_instances(prediction, np.ones((8, 8), np.uint8)) == 2
    weight = np.clip((np.arange(8) + 0.5) / 4 - 0.5, 0, 1)
    assert (corner == (np.outer(weight, weight) > 0.5)).all()


@pytest.mark.parametrize("size", [(67, 93), (9, 7), (20, 20), (3, 200)])
def test_every_pixel_of_a_class_is_an_object_of_that_class_and_background_is_none(size):
    random = np.random.default_rng(0)
    cells = random.integers(0, 9, (20, 20)).astype(np.uint8)
    class_of = np.array([0, 1, 1, 1, 1, 2, 2, 2, 2], np.uint8)
    prediction = predict(class_of[cells], cells, size, sharpness=0.4)
    class_map = restore_class_map(prediction)
    instance_map = restore_instances(prediction, class_map)
    assert (class_of[instance_map] == class_map).all()


def test_at_the_models_own_size_the_objects_are_the_cells():
    cells = np.random.default_rng(0).integers(0, 3, (12, 15)).astype(np.uint8)
    prediction = predict(cells, cells, (12, 15))
    assert (restore_instances(prediction, cells) == cells).all()


def test_a_class_that_wins_only_between_cells_goes_to_the_nearest_of_its_objects_or_to_none():
    probabilities = np.array([[[0.6, 0.0, 0.0]], [[0.0, 0.6, 0.0]], [[0.4, 0.4, 1.0]]], np.float16)
    class_map = probabilities.argmax(0).astype(np.uint8)  # 0 1 2
    prediction = compact(class_map, np.full((1, 3), 255, np.uint8), probabilities, (1, 12))
    restored = restore_class_map(prediction)
    assert restored[0, 3] == 2  # between background and can
    with_box = replace(prediction, instances=Instances(np.array([[0, 1, 2]], np.uint8), np.ones(2)))
    assert restore_instances(with_box, restored)[0, 3] == 2
    only_can = replace(
        prediction, class_map=np.array([[0, 1, 1]], np.uint8), instances=Instances(np.array([[0, 1, 1]], np.uint8), np.ones(1))
    )
    assert restore_instances(only_can, restored)[0, 3] == 0


def test_pixels_of_no_object_are_objects_by_their_regions_and_objects_of_unwanted_classes_are_none():
    class_map = np.array([[1, 1, 0, 2, 2]], np.uint8)
    instance_map = np.array([[0, 0, 0, 1, 2]], np.int32)
    certain = np.full((1, 5), 255, np.uint8)
    found = find_objects(class_map, certain, LABELS, instances=(instance_map, np.array([0.5, 0.25])))
    assert [(each.class_index, each.area, each.score) for each in found.objects] == [(1, 2, 1), (2, 1, 0.7071), (2, 1, 0.5)]
    without_boxes = np.array([[1, 1, 0, 0, 0]], np.uint8)
    found = find_objects(without_boxes, certain, LABELS, instances=(instance_map, np.array([0.5, 0.25])))
    assert [each.class_index for each in found.objects] == [1] and found.region_map.tolist() == [[1, 1, 0, 0, 0]]
