"""The gate's judgement: whether a challenger may take the champion's place, and if not, why. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.bootstrap import Interval
    from pipelines.comparison import Comparison

_FEW_PICTURES = 5  # that show a class: too few for a bootstrap to say what is noise


@dataclass(frozen=True)
class Limits:
    """How much worse than the champion a challenger may be."""

    max_class_drop: float = 0.05
    """The most IoU that a class may lose, beyond noise; the most mask AP that objects may lose."""
    max_slowdown: float = 1.5
    """The most time for a picture, as a multiple of the champion's."""

    def __post_init__(self) -> None:
        if self.max_class_drop < 0 or self.max_slowdown <= 0:
            raise ValueError(f"max_class_drop is {self.max_class_drop}, max_slowdown {self.max_slowdown}; 0 or more, and above 0")


def judge(comparison: Comparison, limits: Limits) -> list[str]:
    """The reasons to refuse the challenger, each a sentence; none where it may become champion."""
    reasons = [
        f"{title} fell by {-change.value:.4f}, which is more than noise (95 % interval {change.low:+.4f} to {change.high:+.4f})"
        for metric, title in (("miou", "mIoU"), ("boundary_iou", "boundary IoU"))
        if (change := comparison.differences.get(metric)) and change.high < 0
    ]
    reasons += [
        f"IoU of {name} fell by {-change.value:.4f} in {comparison.pictures_of[name]} pictures, and {limits.max_class_drop:g} is allowed "
        f"(95 % interval {change.low:+.4f} to {change.high:+.4f})"
        for name in comparison.label_set.names
        if (change := comparison.differences.get(f"iou/{name}")) and _lost_class(comparison, name, change, limits)
    ]
    lost_ap = comparison.champion.get("ap", 0) - comparison.challenger.get("ap", 0)
    if lost_ap > limits.max_class_drop:
        reasons.append(f"mask AP of objects fell by {lost_ap:.4f}, and {limits.max_class_drop:g} is allowed")
    if comparison.slowdown and comparison.slowdown > limits.max_slowdown:
        reasons.append(f"a picture takes {comparison.slowdown:.2f} times as long, and {limits.max_slowdown:g} is allowed")
    return reasons


def _lost_class(comparison: Comparison, name: str, change: Interval, limits: Limits) -> bool:
    """Whether the class lost more than is allowed, beyond noise; where few pictures show it, whether it lost half of its IoU."""
    if change.value >= -limits.max_class_drop:
        return False
    if comparison.pictures_of[name] < _FEW_PICTURES:
        return comparison.challenger[f"iou/{name}"] <= comparison.champion[f"iou/{name}"] / 2
    return change.high < 0
