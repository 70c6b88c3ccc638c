"""A challenger measured beside the champion on the same pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from models.label_set import LabelSet
from models.metrics import Outcomes, metrics_of
from models.segmenter import Segmenter
from pipelines.bootstrap import Interval, difference_intervals
from pipelines.counting import count_images
from pipelines.data.records import Record
from pipelines.dataset import one_thread, read_example

_TIMED_PICTURES = 40


class UnsoundModel(ValueError):
    """A segmenter that predicts nothing that could be used."""


@dataclass(frozen=True)
class Comparison:
    """What both are worth on the same pictures. Without a champion, `champion` and `differences` are empty and its latency None.

    `differences` are challenger minus champion; `pictures_of` says in how many pictures people drew each class; latencies are
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
    outcomes = _measure(challenger, records, "challenger")
    reference = _measure(champion, records, "champion") if champion else None
    latencies_s = _latencies([challenger, champion] if champion else [challenger], records)
    pictures_of = (outcomes.regions[..., 0] + outcomes.regions[..., 2] > 0).sum(axis=0)
    return Comparison(
        label_set=label_set,
        num_pictures=len(records),
        pictures_of=dict(zip(label_set.names, pictures_of.tolist())),
        challenger=_summed(outcomes, label_set),
        champion=_summed(reference, label_set) if reference else {},
        differences=difference_intervals(outcomes, reference, label_set) if reference else {},
        latency_s=latencies_s[0],
        champion_latency_s=latencies_s[1] if champion else None,
    )


def check_sound(segmenter: Segmenter, record: Record) -> None:
    """Raises `UnsoundModel` where weights or probabilities are not finite numbers."""
    broken = [name for name, tensor in segmenter.network.state_dict().items() if not torch.isfinite(tensor).all()]
    if broken:
        raise UnsoundModel(f"{len(broken)} tensors of its weights hold NaN or infinity ({broken[0]}, ...); train again")
    image, _ = read_example(record, segmenter.spec)
    if not torch.isfinite(segmenter.engine.probabilities(image.pixels[None])).all():
        raise UnsoundModel("it predicts probabilities that are NaN; train again")


def _measure(segmenter: Segmenter, records: Sequence[Record], title: str) -> Outcomes:
    counted = tqdm(count_images(segmenter, records), title, total=len(records), unit="picture")
    return Outcomes.stack(counts.outcomes for counts in counted)


def _summed(images: Outcomes, label_set: LabelSet) -> dict[str, float]:
    metrics = metrics_of(images.weighted(np.ones((1, len(images))))[0], label_set)
    return {name: float(value) for name, value in metrics.items() if not np.isnan(value)}


def _latencies(segmenters: list[Segmenter], records: Sequence[Record]) -> list[float]:
    """The median seconds of each for one picture, taken in turns, so that what else the machine does slows all of them."""
    timed = records[:: -(-len(records) // _TIMED_PICTURES)]
    seconds = np.empty((len(segmenters), len(timed)))
    with one_thread():
        for number, record in enumerate(timed):
            images = [read_example(record, segmenter.spec)[0] for segmenter in segmenters]
            turns = list(range(len(segmenters)))
            for which in turns if number % 2 else turns[::-1]:
                if number == 0:
                    segmenters[which].predict([images[which]])  # warms it
                start = time.perf_counter()
                segmenters[which].predict([images[which]])
                seconds[which, number] = time.perf_counter() - start
    return np.median(seconds, axis=1).tolist()
