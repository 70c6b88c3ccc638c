"""Counts of each photo, from which metrics are made: of a segmenter, photo by photo and in any grouping the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from threading import Lock

import numpy as np
import torch

from models.label_set import LabelSet
from models.metrics import Outcomes, SegmentationCounts
from models.prediction import Prediction
from models.restore import restore_class_map, restore_confidence
from models.segmenter import Segmenter
from pipelines.data.records import Record
from pipelines.dataset import read_example

_GPU_BATCH_SIZE = 8


@dataclass(frozen=True)
class Evaluation:
    """What was counted: over all photos, and in each photo by itself, `images`, which has one leading axis over them."""

    total: SegmentationCounts
    images: Outcomes

    @classmethod
    def of(cls, counts: Iterable[SegmentationCounts], label_set: LabelSet) -> Evaluation:
        """The evaluation of photos with these counts, at least one."""
        total, outcomes = SegmentationCounts.zeros(len(label_set)), []
        for each in counts:
            total += each
            outcomes.append(each.outcomes)
        return cls(total, Outcomes.stack(outcomes))


def count_images(segmenter: Segmenter, records: Sequence[Record]) -> Iterator[SegmentationCounts]:
    """The counts of each record, in their order; the same integers whatever the number of workers and threads that share the records.

    For that, what the network computes of a photo may not depend on its batch: a convolution takes another algorithm for a larger
    batch or more threads, and a pixel in a million changes its class. So on a CPU each photo is computed alone, on one thread, and
    on a GPU in batches of always the same size. Photos are read and compared in several threads.
    """
    on_cpu = segmenter.device.type == "cpu"
    size = 1 if on_cpu else _GPU_BATCH_SIZE
    turn = nullcontext() if on_cpu else Lock()

    def count(batch: Sequence[Record]) -> list[SegmentationCounts]:
        examples = [read_example(record, segmenter.spec) for record in batch]
        images = [image for image, _ in examples]
        with turn:
            predictions = segmenter.predict(images + images[:1] * (size - len(images)))
        return [_compare(mask, prediction, len(segmenter.spec.label_set)) for (_, mask), prediction in zip(examples, predictions)]

    num_threads = torch.get_num_threads()
    threads = ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        batches = [records[start : start + size] for start in range(0, len(records), size)]
        yield from chain.from_iterable(threads.map(count, batches))
    finally:
        threads.shutdown(cancel_futures=True)
        torch.set_num_threads(num_threads)


def predict_class_map(segmenter: Segmenter, record: Record) -> np.ndarray:
    """The class that the segmenter gives each of the photo's pixels, (h, w) uint8."""
    image, _ = read_example(record, segmenter.spec)
    return restore_class_map(segmenter.predict([image])[0])


def _compare(mask: np.ndarray, prediction: Prediction, num_classes: int) -> SegmentationCounts:
    return SegmentationCounts.of(mask, restore_class_map(prediction), num_classes, restore_confidence(prediction))
