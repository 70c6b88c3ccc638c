import json

import numpy as np
import pytest
from faster_coco_eval import mask as coco_mask

from models.instance_mask import InstanceMask
from models.instance_metrics import InstanceEvaluation, masks_of_answer
from models.label_set import LabelSet

LABELS = LabelSet.from_names(["background", "can", "box"])


def mask(x: int, width: int, class_index: int = 1, **facts) -> InstanceMask:
    """An object 10 pixels high from column x on, in a photo of 10 x 40."""
    drawn = np.zeros((10, 40), np.uint8, order="F")
    drawn[:, x : x + width] = 1
    code = coco_mask.encode(drawn)
    return InstanceMask(class_index, {"size": [10, 40], "counts": code["counts"].decode()}, **facts)


def summary(*photos) -> dict[str, float]:
    evaluation = InstanceEvaluation(LABELS)
    for number, (true, predicted) in enumerate(photos):
        evaluation.add(number, true, predicted)
    return evaluation.summary()


def test_what_is_found_exactly_is_perfect():
    objects = [mask(0, 10), mask(10, 10), mask(25, 5, class_index=2)]
    metrics = summary((objects, objects))
    assert metrics == {
        **dict.fromkeys(["ap", "ap50", "ap/can", "ap/box", "pq", "sq", "rq", "pq/can", "pq/box"], pytest.approx(1)),
        "counting_error": 0,
    }


def test_panoptic_quality_worked_by_hand():
    # can: one match of IoU 0.8, one missed, one wrong: 0.8 / (1 + 0.5 + 0.5); box: nothing found of one: 0
    true = [mask(0, 10), mask(20, 10), mask(32, 4, class_index=2)]
    metrics = summary((true, [mask(0, 8), mask(12, 4)]))
    assert metrics["pq/can"] == pytest.approx(0.4) and metrics["pq/box"] == 0 and metrics["pq"] == pytest.approx(0.2)
    assert metrics["sq"] == pytest.approx(0.8) and metrics["rq"] == pytest.approx(0.25)


def test_average_precision_worked_by_hand():
    # IoU 0.8 is right at 7 of the 10 thresholds (0.50 to 0.80)
    assert summary(([mask(0, 10)], [mask(0, 8)]))["ap"] == pytest.approx(0.7)
    # the wrong one is surer: precision 1/2 at every recall
    metrics = summary(([mask(0, 10)], [mask(20, 10, score=0.9), mask(0, 10, score=0.8)]))
    assert metrics["ap50"] == pytest.approx(0.5)
    # less sure, it does no harm
    metrics = summary(([mask(0, 10)], [mask(20, 10, score=0.7), mask(0, 10, score=0.8)]))
    assert metrics["ap50"] == pytest.approx(1)


def test_two_that_are_found_as_one_are_missed_and_miscounted():
    metrics = summary(([mask(0, 10), mask(10, 10)], [mask(0, 20)]))
    assert metrics["ap50"] == 0 or metrics["ap50"] < 0.51  # IoU is just 0.5: COCO takes it for one of the two
    assert metrics["pq"] == 0 and metrics["counting_error"] == 1


def test_counts_are_compared_for_the_classes_that_are_there_or_were_found():
    one, other = [mask(0, 5), mask(10, 5), mask(20, 5, 2)], [mask(0, 5), mask(30, 5, 2, score=0.2)]
    # photo 1: one can too few, the box missed, though something unsure was found; photo 2: right, and no box to count
    assert summary((one, other), ([mask(0, 5)], [mask(0, 5)]))["counting_error"] == pytest.approx((1 + 1 + 0) / 3)


def test_what_lies_on_a_crowd_counts_neither_way():
    crowd = mask(20, 20, is_crowd=True)
    metrics = summary(([mask(0, 10), crowd], [mask(0, 10), mask(22, 4), mask(30, 4)]))
    assert metrics["ap"] == metrics["pq"] == pytest.approx(1) and "counting_error" not in metrics


def test_nothing_true_and_nothing_found_leave_out_what_they_cannot_tell():
    assert summary() == {} and summary(([], [])) == {}
    assert summary(([mask(0, 5)], [])) == {"ap": 0, "ap50": 0, "pq": 0, "rq": 0, "pq/can": 0, "counting_error": 1}
    assert summary(([], [mask(0, 5)])) == {"pq": 0, "rq": 0, "pq/can": 0, "counting_error": 1}


def test_order_and_grouping_of_photos_change_nothing():
    random = np.random.default_rng(0)
    photos = {
        number: tuple([mask(int(x), 6, score=float(score)) for x, score in zip(random.integers(0, 30, 3), random.random(3))] for _ in "tp")
        for number in range(8)
    }
    whole, parts = InstanceEvaluation(LABELS), [InstanceEvaluation(LABELS) for _ in range(3)]
    for number in photos:
        whole.add(number, *photos[number])
    for number in reversed(photos):
        parts[number % 3].add(number, *photos[number])
    parts[2].update(parts[0])
    parts[2].update(parts[1])
    assert parts[2].summary() == whole.summary()
    with pytest.raises(ValueError, match="added already"):
        whole.add(0, [], [])


def test_a_services_answer_is_read_back():
    code = mask(3, 4).run_lengths
    answer = json.loads(json.dumps({"objects": [{"class_index": 2, "score": 0.5, "segmentation": code}]}))
    assert masks_of_answer(answer) == [InstanceMask(2, code, 0.5)]
