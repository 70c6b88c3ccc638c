"""A challenger measured beside the champion on the same pictures."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from models.label_set import LabelSet
from models.metrics import summarize
from models.segmenter import Segmenter
from pipelines.bootstrap import Interval, difference_intervals
from pipelines.counting import Evaluation, count_images
from pipelines.data.records import Record
from pipelines.dataset import read_example
from pipelines.object_evaluation import evaluate_objects, marks_objects, predict_objects

_TIMED_PICTURES, _TIMED_ROUNDS = 20, 3


class UnsoundModel(ValueError):
    """A segmenter that predicts nothing that could be used."""


@dataclass(frozen=True)
class Comparison:
    """What both are worth on the same pictures. Without a champion, `champion` and `differences` are empty and its latency None.

    `differences` are challenger minus champion, of all but the metrics of objects; `pictures_of` says in how many pictures people drew each class; latencies are
    medians in seconds for one picture, engine torch on one thread.
    """

    label_set: LabelSet
    num_pictures: int
    pictures_of: dict[str, int]
    challenger: dict[str, float]
    champion: dict[str, float]
    differences: dict[str, Interval]
    latency_s: float
    champion_latency_s: float | None

    @property
    def slowdown(self) -> float | None:
        return self.champion_latency_s and self.latency_s / self.champion_latency_s


def compare(challenger: Segmenter, champion: Segmenter | None, records: Sequence[Record]) -> Comparison:
    """Both on the same records, at native resolution, with a bar that shows how far it is. Raises `UnsoundModel`."""
    check_sound(challenger, records[0])
    label_set = challenger.spec.label_set
    both = [challenger, champion] if champion else [challenger]
    own = _evaluate(challenger, records, "challenger")
    other = _evaluate(champion, records, "champion") if champion else None
    latencies_s = _latencies_s(both, records)
    objects = _measure_objects(both, records)
    pictures_of = (own.images.regions[..., 0] + own.images.regions[..., 2] > 0).sum(axis=0)
    return Comparison(
        label_set=label_set,
        num_pictures=len(records),
        pictures_of=dict(zip(label_set.names, pictures_of.tolist())),
        challenger=summarize(own.total, label_set) | objects[0],
        champion=summarize(other.total, label_set) | objects[1] if other else {},
        differences=difference_intervals(own.images, other.images, label_set) if other else {},
        latency_s=latencies_s[0],
        champion_latency_s=latencies_s[1] if champion else None,
    )


def check_sound(segmenter: Segmenter, record: Record) -> None:
    """Raises `UnsoundModel` where weights or probabilities are not finite numbers."""
    broken = [name for name, tensor in segmenter.network.state_dict().items() if not torch.isfinite(tensor).all()]
    if broken:
        raise UnsoundModel(f"{len(broken)} tensors of its weights hold NaN or infinity ({broken[0]}, ...); train again")
    image, _ = read_example(record, segmenter.spec)
    if not torch.isfinite(segmenter.engine.compute(image.pixels[None])).all():
        raise UnsoundModel("what it predicts is NaN or infinite; train again")


def _evaluate(segmenter: Segmenter, records: Sequence[Record], title: str) -> Evaluation:
    counts = count_images(segmenter, records)
    return Evaluation.of(tqdm(counts, title, total=len(records), unit="picture", disable=None), segmenter.spec.label_set)


@contextmanager
def _one_thread() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def _measure_objects(segmenters: list[Segmenter], records: Sequence[Record]) -> list[dict[str, float]]:
    """Mask AP and more of each; nothing where one of them has no head for objects, or the data marks none."""
    if not all(segmenter.spec.architecture.instances for segmenter in segmenters) or not marks_objects(records):
        return [{} for _ in segmenters]
    return [
        evaluate_objects(records, segmenter.spec.label_set, partial(predict_objects, segmenter), num_threads=1).summary()
        for segmenter in segmenters
    ]


def _latencies_s(segmenters: list[Segmenter], records: Sequence[Record]) -> list[float]:
    """The median of each over the pictures, in turns; of each picture the best of some rounds, since a busy machine only slows."""
    timed = records[:: -(-len(records) // _TIMED_PICTURES)]
    images = [[read_example(record, segmenter.spec)[0] for record in timed] for segmenter in segmenters]
    seconds = np.empty((_TIMED_ROUNDS, len(segmenters), len(timed)))
    with _one_thread():
        for segmenter, (first, *_) in zip(segmenters, images):
            segmenter.predict([first])  # warms it
        for round_, picture, which in np.ndindex(_TIMED_ROUNDS, len(timed), len(segmenters)):
            start = time.perf_counter()
            segmenters[which].predict([images[which][picture]])
            seconds[round_, which, picture] = time.perf_counter() - start
    return np.median(seconds.min(axis=0), axis=1).tolist()
