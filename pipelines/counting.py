"""Counts of each photo, from which metrics are made: of a segmenter, photo by photo and in any grouping the same."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from models.label_set import LabelSet
from models.metrics import Outcomes, SegmentationCounts
from models.prediction import Prediction
from models.restore import restore_class_map, restore_confidence
from models.segmenter import Segmenter
from pipelines.data.records import Record
from pipelines.dataset import read_example


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


def count_images(segmenter: Segmenter, records: Sequence[Record], *, batch_size: int = 8) -> Iterator[SegmentationCounts]:
    """The counts of each record, in their order; the sum over any partition of the records is the same.

    Photos are read and masks compared in threads beside the model, a batch ahead of it and a batch behind.
    """
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        batches = [records[start : start + batch_size] for start in range(0, len(records), batch_size)]
        ahead = [threads.submit(read_example, record, segmenter.spec) for record in batches[0]] if batches else []
        behind: list[Future[SegmentationCounts]] = []
        for index, _ in enumerate(batches):
            examples = [future.result() for future in ahead]
            following = batches[index + 1] if index + 1 < len(batches) else []
            ahead = [threads.submit(read_example, record, segmenter.spec) for record in following]
            predictions = segmenter.predict([image for image, _ in examples])
            yield from (future.result() for future in behind)
            behind = [
                threads.submit(_compare, mask, prediction, len(segmenter.spec.label_set))
                for (_, mask), prediction in zip(examples, predictions)
            ]
        yield from (future.result() for future in behind)


def _compare(mask: np.ndarray, prediction: Prediction, num_classes: int) -> SegmentationCounts:
    return SegmentationCounts.of(mask, restore_class_map(prediction), num_classes, restore_confidence(prediction))
