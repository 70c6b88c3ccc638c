import numpy as np
import pytest

from models.label_set import LabelSet
from models.metrics import class_dice, class_iou, confusion_counts, foreground_iou, pixel_accuracy, summarize


def test_half_of_the_predicted_pixels_are_right():
    counts = confusion_counts(np.array([[1, 1, 0, 0]], np.uint8), np.array([[1, 1, 1, 1]], np.uint8), 2)
    assert counts.tolist() == [[0, 2], [0, 2]]
    assert class_iou(counts)[1] == 0.5
    assert class_dice(counts)[1] == pytest.approx(2 / 3)
    assert pixel_accuracy(counts) == 0.5


def test_ignored_pixels_are_not_counted():
    counts = confusion_counts(np.array([[255, 1]], np.uint8), np.array([[0, 1]], np.uint8), 2)
    assert counts.sum() == 1


def test_counts_of_parts_add_up_to_the_counts_of_the_whole():
    random = np.random.default_rng(0)
    mask, predicted = random.integers(0, 3, (2, 40, 30), dtype=np.uint8)
    halves = confusion_counts(mask[:20], predicted[:20], 3) + confusion_counts(mask[20:], predicted[20:], 3)
    assert (halves == confusion_counts(mask, predicted, 3)).all()


def test_an_absent_class_is_left_out_of_the_mean_and_a_missed_one_is_not():
    label_set = LabelSet.from_names(["background", "can", "box"])
    metrics = summarize(np.array([[3, 0, 0], [1, 0, 0], [0, 0, 0]]), label_set)
    assert metrics["iou/can"] == 0
    assert "iou/box" not in metrics
    assert metrics["miou"] == pytest.approx((0.75 + 0) / 2)


def test_border_counts_as_foreground():
    label_set = LabelSet.from_names(["pet", "background", "border"])
    counts = np.array([[4, 1, 5], [2, 10, 0], [3, 0, 0]])
    assert foreground_iou(counts, label_set) == pytest.approx(12 / 15)


def test_sizes_that_differ_are_refused():
    with pytest.raises(ValueError, match="own size"):
        confusion_counts(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), 2)
