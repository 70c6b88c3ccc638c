import numpy as np
import pytest

from models.label_set import LabelSet
from models.metrics import (
    SegmentationCounts,
    class_dice,
    class_iou,
    confusion_counts,
    foreground_iou,
    pixel_accuracy,
    region_outcomes,
    summarize,
)

LABELS = LabelSet.from_names(["background", "can", "box", "jar"])


def counts_of(confusion: list[list[int]]) -> SegmentationCounts:
    zeros = SegmentationCounts.zeros(len(confusion))
    return SegmentationCounts(np.array(confusion), zeros.boundary, zeros.calibration)


def photos(num_photos: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Masks, predictions and confidences of photos of several sizes; some pixels ignored, class 3 in no photo."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(num_photos):
        size = tuple(random.integers(5, 14, 2))
        mask, predicted = random.integers(0, 3, (2, *size), dtype=np.uint8)
        mask[random.random(size) < 0.1] = 255
        found.append((mask, predicted, random.integers(0, 256, size, dtype=np.uint8)))
    return found


def by_definition(photos: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> dict[str, float]:
    """The metrics from their definitions, over sets of (photo, row, column) in plain Python."""
    true, claimed, true_band, claimed_band = ({index: set() for index in range(4)} for _ in range(4))
    bins: dict[int, list[tuple[bool, float]]] = {}
    for number, (mask, predicted, confidence) in enumerate(photos):
        height, width = mask.shape
        reach = max(1, round(0.02 * (height**2 + width**2) ** 0.5))
        labelled = {(y, x) for y in range(height) for x in range(width) if mask[y, x] != 255}
        for place in labelled:
            true[int(mask[place])].add((number, *place))
            claimed[int(predicted[place])].add((number, *place))
            level = int(confidence[place])
            bins.setdefault(level * 15 // 256, []).append((mask[place] == predicted[place], level / 255))
        for regions, bands in ((true, true_band), (claimed, claimed_band)):
            for index, region in regions.items():
                for photo, y, x in region:
                    around = {(number, y + dy, x + dx) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1)}
                    if photo == number and not around <= region:
                        bands[index].add((photo, y, x))
    num_pixels = sum(map(len, true.values()))
    iou = {index: len(true[index] & claimed[index]) / len(true[index] | claimed[index]) for index in (0, 1, 2)}
    dice = {index: 2 * len(true[index] & claimed[index]) / (len(true[index]) + len(claimed[index])) for index in (0, 1, 2)}
    edge = {index: len(true_band[index] & claimed_band[index]) / len(true_band[index] | claimed_band[index]) for index in (0, 1, 2)}
    foreground = [regions[1] | regions[2] for regions in (true, claimed)]
    gaps = [abs(sum(right for right, _ in each) - sum(sure for _, sure in each)) for each in bins.values()]
    metrics = {
        "miou": sum(iou.values()) / 3,
        "mean_dice": sum(dice.values()) / 3,
        "pixel_accuracy": sum(len(true[index] & claimed[index]) for index in (0, 1, 2)) / num_pixels,
        "foreground_iou": len(foreground[0] & foreground[1]) / len(foreground[0] | foreground[1]),
        "boundary_iou": sum(edge.values()) / 3,
        "calibration_error": sum(gaps) / num_pixels,
    }
    for name, values in {"iou": iou, "dice": dice, "boundary_iou": edge}.items():
        metrics |= {f"{name}/{LABELS.names[index]}": value for index, value in values.items()}
    return metrics


def test_half_of_the_predicted_pixels_are_right():
    counts = confusion_counts(np.array([[1, 1, 0, 0]], np.uint8), np.array([[1, 1, 1, 1]], np.uint8), 2)
    assert counts.tolist() == [[0, 2], [0, 2]]
    outcomes = region_outcomes(counts)
    assert outcomes.tolist() == [[0, 0, 2], [2, 2, 0]]
    assert class_iou(outcomes)[1] == 0.5
    assert class_dice(outcomes)[1] == pytest.approx(2 / 3)
    assert pixel_accuracy(outcomes) == 0.5


def test_ignored_pixels_are_not_counted():
    counts = confusion_counts(np.array([[255, 1]], np.uint8), np.array([[0, 1]], np.uint8), 2)
    assert counts.tolist() == [[0, 0], [0, 1]]


def test_all_metrics_are_those_of_their_definitions():
    many = photos(12)
    counts = sum((SegmentationCounts.of(m, p, 4, c) for m, p, c in many), SegmentationCounts.zeros(4))
    assert summarize(counts, LABELS) == pytest.approx(by_definition(many))


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_any_partition_adds_up_to_the_same_integers(num_workers):
    each = [SegmentationCounts.of(m, p, 4, c) for m, p, c in photos(13)]
    shards = [sum(each[rank::num_workers], SegmentationCounts.zeros(4)) for rank in range(num_workers)]
    total = sum(each, SegmentationCounts.zeros(4)).vector
    assert total.dtype == np.int64
    assert (sum(shard.vector for shard in shards) == total).all()
    assert (SegmentationCounts.from_vector(total, 4).vector == total).all()


def test_an_absent_class_is_left_out_of_the_mean_and_a_missed_one_is_not():
    metrics = summarize(counts_of([[3, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]), LABELS)
    assert metrics["iou/can"] == 0
    assert "iou/box" not in metrics
    assert metrics["miou"] == pytest.approx((0.75 + 0) / 2)


def test_without_confidence_there_is_no_calibration_error_and_the_rest_stays():
    ((mask, predicted, confidence),) = photos(1)
    sure = summarize(SegmentationCounts.of(mask, predicted, 4, confidence), LABELS)
    unsure = summarize(SegmentationCounts.of(mask, predicted, 4), LABELS)
    assert sure.pop("calibration_error") > 0
    assert unsure == sure


def test_no_photo_has_no_metrics():
    assert summarize(SegmentationCounts.zeros(4), LABELS) == {}


def test_border_counts_as_foreground():
    label_set = LabelSet.from_names(["pet", "background", "border"])
    counts = np.array([[4, 1, 5], [2, 10, 0], [3, 0, 0]])
    assert foreground_iou(region_outcomes(counts), label_set) == pytest.approx(12 / 15)


def test_a_label_set_without_background_has_no_foreground():
    label_set = LabelSet.from_names(["cell", "membrane"])
    assert "foreground_iou" not in summarize(counts_of([[4, 1], [2, 10]]), label_set)


def test_sizes_that_differ_are_refused():
    with pytest.raises(ValueError, match="own size"):
        confusion_counts(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), 2)


@pytest.mark.parametrize(("mask", "predicted"), [(2, 0), (0, 2), (0, 255)])
def test_values_that_are_no_class_are_refused(mask, predicted):
    with pytest.raises(ValueError, match="classes are 0 to 1"):
        confusion_counts(np.full((1, 1), mask, np.uint8), np.full((1, 1), predicted, np.uint8), 2)
