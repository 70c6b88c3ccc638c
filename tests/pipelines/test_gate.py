"""The gate's judgement on small numbers, and what it measures of objects."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.label_set import LabelSet
from models.segmenter import Segmenter
from models.spec import Architecture, SegmenterSpec
from models.unet import build_network
from pipelines.bootstrap import Interval
from pipelines.comparison import Comparison, compare
from pipelines.data.scenes import write_scenes
from pipelines.data.sources import read_data
from pipelines.gate import Limits, judge

EQUAL = Comparison(
    label_set=LabelSet.from_names(["background", "can"]),
    num_pictures=30,
    pictures_of={"background": 30, "can": 30},
    challenger={"miou": 0.7, "iou/background": 0.8, "iou/can": 0.6},
    champion={"miou": 0.7, "iou/background": 0.8, "iou/can": 0.6},
    differences={name: Interval(0, -0.01, 0.01) for name in ("miou", "iou/background", "iou/can")},
    latency_s=0.1,
    champion_latency_s=0.1,
)


def changed(metric, value, low, high, pictures=30):
    """`EQUAL` with one metric that is `value` away from the champion's."""
    return replace(
        EQUAL,
        pictures_of=EQUAL.pictures_of | {"can": pictures},
        challenger=EQUAL.challenger | {metric: EQUAL.champion[metric] + value},
        differences=EQUAL.differences | {metric: Interval(value, low, high)},
    )


def test_equals_pass():
    assert judge(EQUAL, Limits()) == []


@pytest.mark.parametrize(
    ("comparison", "reason"),
    [
        (changed("miou", -0.01, -0.02, -0.001), "mIoU fell by 0.0100"),
        (changed("miou", -0.10, -0.30, 0.001), None),  # it may be noise
        (changed("iou/can", -0.06, -0.10, -0.02), "IoU of can fell by 0.0600 in 30 pictures"),
        (changed("iou/can", -0.04, -0.05, -0.03), None),  # so much is allowed
        (changed("iou/can", -0.06, -0.20, 0.01), None),  # it may be noise
        (changed("iou/can", -0.29, -0.29, -0.29, pictures=4), None),  # an interval of four pictures says nothing
        (changed("iou/can", -0.31, -0.60, 0.10, pictures=4), "IoU of can fell by 0.3100 in 4 pictures"),  # half is too much anyway
        (replace(EQUAL, latency_s=0.16), "a picture takes 1.60 times as long"),
        (replace(EQUAL, latency_s=0.14), None),
        (
            replace(EQUAL, champion=EQUAL.champion | {"ap": 0.5}, challenger=EQUAL.challenger | {"ap": 0.44}),
            "mask AP of objects fell by 0.0600",
        ),
    ],
)
def test_what_is_worse_is_refused_and_what_may_be_noise_is_not(comparison, reason):
    reasons = judge(comparison, Limits())
    assert len(reasons) == (reason is not None)
    assert all(each.startswith(reason) for each in reasons)


def test_mask_ap_is_measured_where_both_tell_objects_apart_and_the_data_marks_them(tmp_path):
    records = read_data(f"coco:{write_scenes(tmp_path / 'scenes', num_train=1, num_val=3, size=(64, 64))}").splits["val"]
    labels = read_data(f"coco:{tmp_path / 'scenes'}").label_set
    torch.manual_seed(0)
    specs = [SegmenterSpec(Architecture("unet", "tu-test_resnet", instances=with_head), labels, (64, 64)) for with_head in (True, False)]
    with_head, without = (Segmenter(build_network(spec.architecture, len(labels)).eval(), spec) for spec in specs)
    both = compare(with_head, with_head, records)
    assert both.challenger["ap"] == both.champion["ap"]
    assert np.isfinite(both.slowdown)
    assert "ap" not in compare(with_head, without, records).challenger
