"""Looks at what a model is given and what it makes of it, without labels, and tells how far that is from the validation pictures."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from deployments.giving_way import be_nice
from models.fit import InputImage
from models.label_set import LabelSet
from models.prediction import Prediction
from models.watch import DriftWindow, Measures, Reference, measure

_BUDGET = 0.01  # of the time at most is spent on looking
_ENOUGH = 32  # images, before which chance alone would show as drift
logger = logging.getLogger("ray.serve")

TellDrift = Callable[[Measures], None]


class Watch:
    """Measures now and then one of the images that a model has answered, on a thread of its own that gives way to requests.

    Where little happens it is every image, under load as many as the budget of time allows.
    """

    def __init__(self, reference: Reference, label_set: LabelSet, tell: TellDrift) -> None:
        self._window, self._label_set, self._tell = DriftWindow(reference), label_set, tell
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="watch", initializer=be_nice)
        self._next = 0.0

    def see(self, images: Sequence[InputImage], predictions: Sequence[Prediction | object]) -> None:
        """Takes the last image of a batch, if it is time for one. Costs the caller nothing to speak of."""
        if time.monotonic() < self._next or not isinstance(predictions[-1], Prediction):
            return
        self._next = float("inf")  # until this one is measured
        self._thread.submit(self._look, images[-1], predictions[-1])

    def wait(self) -> None:
        """Returns when nothing is being measured."""
        self._thread.submit(lambda: None).result()

    def _look(self, image: InputImage, prediction: Prediction) -> None:
        start, cpu_start = time.monotonic(), time.thread_time()
        try:
            self._window.add(measure(image, prediction, self._label_set))
            if self._window.num_seen >= _ENOUGH:
                self._tell(self._window.drift())
        except Exception:
            logger.exception("an image could not be measured; its answer is not touched")
        self._next = start + (time.thread_time() - cpu_start) / _BUDGET
