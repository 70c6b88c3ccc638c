"""One object's mask as COCO has it: what annotations hold and what predictions are compared by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InstanceMask:
    """One object; `run_lengths` are COCO's: `size` [height, width] and `counts`, a string. `score` in [0, 1] ranks predictions.

    A crowd is a region of many objects that nobody told apart: what is predicted there counts neither way.
    """

    class_index: int
    run_lengths: dict
    score: float = 1.0
    is_crowd: bool = False
