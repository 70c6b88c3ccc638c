import numpy as np
import pytest

from models.label_set import LabelSet
from models.metrics import Outcomes, SegmentationCounts
from pipelines.bootstrap import difference_intervals, intervals

LABELS = LabelSet.from_names(["background", "can"])


def stack(confusions: list) -> Outcomes:
    """Photos with these confusion tables, and no more known of them."""
    zeros = SegmentationCounts.zeros(2)
    return Outcomes.stack(SegmentationCounts(np.array(each), zeros.boundary, zeros.calibration).outcomes for each in confusions)


def photos(num_photos: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 50, (num_photos, 2, 2))


def test_two_photos_have_the_interval_of_their_four_draws():
    """One right photo of 10 pixels, one wrong: the draws' accuracies are 0, 1/2, 1/2 and 1, so 95 % lie between 0 and 1."""
    found = intervals(stack([[[5, 0], [0, 5]], [[0, 5], [5, 0]]]), LABELS)["pixel_accuracy"]
    assert (found.value, found.low, found.high) == (0.5, 0, 1)


def test_intervals_are_those_of_drawing_photos_one_by_one():
    confusions = photos(30)
    found = intervals(stack(confusions), LABELS, num_resamples=4000)["miou"]
    random, drawn = np.random.default_rng(7), []
    for _ in range(4000):
        (a, b), (c, d) = confusions[random.integers(0, 30, 30)].sum(axis=0)
        drawn.append((a / (a + b + c) + d / (b + c + d)) / 2)
    assert [found.low, found.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.003)


def test_the_same_seed_gives_the_same_interval_and_more_photos_a_narrower_one():
    few, many = stack(photos(20)), stack(photos(500))
    assert intervals(few, LABELS) == intervals(few, LABELS)
    assert intervals(few, LABELS) != intervals(few, LABELS, seed=1)
    widths = [found.high - found.low for found in (intervals(few, LABELS)["miou"], intervals(many, LABELS)["miou"])]
    assert widths[1] < 0.4 * widths[0]


def test_one_photo_has_an_interval_without_width_and_undefined_metrics_have_none():
    found = intervals(stack([[[8, 2], [0, 0]]]), LABELS)
    assert found["iou/background"].low == found["iou/background"].high == 0.8
    assert "calibration_error" not in found


def test_a_class_that_some_draws_lack_has_the_interval_of_the_others():
    found = intervals(stack([[[9, 1], [0, 0]]] * 3 + [[[0, 0], [5, 5]]]), LABELS)["iou/can"]
    assert 0 <= found.low <= found.value <= found.high


def test_a_paired_difference_is_sure_where_each_interval_alone_is_wide():
    """The candidate has two pixels more right in each photo, whose difficulty differs far more than that."""
    reference = photos(40)
    candidate = reference + np.array([[1, -1], [-1, 1]])
    found = difference_intervals(stack(candidate), stack(reference), LABELS)["pixel_accuracy"]
    alone = intervals(stack(reference), LABELS)["pixel_accuracy"]
    assert found.value == pytest.approx(2 * 40 / reference.sum())
    assert 0 < found.low < found.value < found.high
    assert found.high - found.low < 0.1 * (alone.high - alone.low)


def test_the_difference_of_a_model_to_itself_is_zero():
    assert {
        (found.value, found.low, found.high) for found in difference_intervals(stack(photos(9)), stack(photos(9)), LABELS).values()
    } == {(0, 0, 0)}


def test_a_difference_needs_the_same_photos():
    with pytest.raises(ValueError, match="5 photos against 4"):
        difference_intervals(stack(photos(5)), stack(photos(4)), LABELS)
