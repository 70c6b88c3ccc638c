"""Single objects of labelled photos, compared with those that a model, a service or a folder of masks gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from models.instance_mask import InstanceMask
from models.instance_metrics import InstanceEvaluation, masks_of_objects, masks_of_prediction
from models.label_set import LabelSet
from models.objects import find_objects
from models.rand_error import class_rand_error
from models.segmenter import Segmenter
from pipelines.data.records import Record
from pipelines.dataset import read_example


def marks_objects(records: Sequence[Record]) -> bool:
    """Whether the records' annotations tell objects of one class apart."""
    return records[0].annotation.instances(records[0].image_path.read_bytes()) is not None


def evaluate_objects(
    records: Sequence[Record], label_set: LabelSet, predict: Callable[[Record], list[InstanceMask]], *, num_threads: int
) -> InstanceEvaluation:
    """The comparison of all records; `predict` gives a record's objects, and is called from several threads."""

    def compare(record: Record) -> tuple[list[InstanceMask], list[InstanceMask]]:
        return record.annotation.instances(record.image_path.read_bytes()), predict(record)

    evaluation = InstanceEvaluation(label_set)
    for number, pair in enumerate(_in_threads(compare, records, num_threads)):
        evaluation.add(number, *pair)
    return evaluation


def predict_objects(segmenter: Segmenter, record: Record) -> list[InstanceMask]:
    """The objects that the segmenter finds on a photo."""
    image, _ = read_example(record, segmenter.spec)
    return masks_of_prediction(segmenter.predict([image])[0], segmenter.spec.label_set)


def regions_of_class_map(class_map: np.ndarray, label_set: LabelSet) -> list[InstanceMask]:
    """The connected regions of a class map (h, w) uint8 that says no more than that."""
    return masks_of_objects(find_objects(class_map, np.full_like(class_map, 255), label_set))


def mean_rand_error(records: Sequence[Record], predict: Callable[[Record], np.ndarray], class_index: int, *, num_threads: int) -> float:
    """The mean over photos of the Rand error of a class's parts; NaN where no photo has the class. `predict` gives class maps."""

    def measure(record: Record) -> float:
        return class_rand_error(record.read()[1], predict(record), class_index)

    errors = np.array(list(_in_threads(measure, records, num_threads)))
    return float("nan") if np.isnan(errors).all() else float(np.nanmean(errors))


def _in_threads(work: Callable, records: Sequence[Record], num_threads: int) -> Iterable:
    threads = ThreadPoolExecutor(num_threads)
    try:
        yield from threads.map(work, records)
    finally:
        threads.shutdown(cancel_futures=True)  # after an error the rest is not done
