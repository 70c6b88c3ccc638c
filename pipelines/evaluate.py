"""Measures a bundle, or a running service, on one split of labelled data, at the photos' native resolution.

python -m pipelines.evaluate --data oxford_pets:PATH --split test --model models:/pets@champion
python -m pipelines.evaluate --data oxford_pets:PATH --split test --service http://127.0.0.1:8000
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import requests
import tyro
from PIL import Image
from tqdm import tqdm

from models.bundle import load_bundle
from models.label_set import LabelSet
from models.metrics import SegmentationCounts, summarize
from models.spec import InvalidBundle
from pipelines.counting import Evaluation, count_images
from pipelines.data.records import InvalidData, Record
from pipelines.data.sources import read_data
from pipelines.tracking import download_bundle

_CONNECTIONS = 4
_TIMEOUT_S = 60


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a bundle or a running service on labelled photos; one of `model` and `service` is needed."""

    data: str
    """oxford_pets:PATH, coco:PATH, masks:PATH or scenes."""
    split: str = "val"
    model: str | None = None
    """A bundle: its directory, runs:/<id>/model, models:/<name>/<version> or models:/<name>@<alias>."""
    service: str | None = None
    """The address of a running service, such as http://127.0.0.1:8000."""
    json_file: Path | None = None
    """Write the metrics and the counts here too."""


def count_answers(address: str, records: Sequence[Record], num_classes: int) -> Iterator[SegmentationCounts]:
    """The counts of the index PNGs that the service at `address` answers with, in the records' order."""

    def count(record: Record) -> SegmentationCounts:
        data, mask = record.read()
        answer = requests.post(f"{address}/v1/segment", params={"format": "png"}, data=data, timeout=_TIMEOUT_S)
        answer.raise_for_status()
        return SegmentationCounts.of(mask, np.array(Image.open(io.BytesIO(answer.content))), num_classes)

    with ThreadPoolExecutor(_CONNECTIONS) as threads:
        yield from threads.map(count, records)


def metrics_table(metrics: dict[str, float]) -> str:
    """The metrics as lines of text, with the rules that they follow."""
    width = max(len(name) for name in metrics)
    rows = [f"{name:<{width}}  {value:.4f}" for name, value in metrics.items()]
    rules = "native resolution; foreground is every class but background; a class absent from masks and predictions is left out of means"
    return "\n".join([*rows, f"({rules})"])


def main(config: EvaluateConfig) -> None:
    """Prints the metrics."""
    data = read_data(config.data)
    if config.split not in data.splits:
        raise InvalidData(f"{config.data} has no split {config.split!r}; choose one of {', '.join(data.splits)}")
    records = data.splits[config.split]
    if config.service:
        address = config.service.rstrip("/")
        _check_labels(_served_names(address), data.label_set)
        counts = count_answers(address, records, len(data.label_set))
    elif config.model:
        segmenter = load_bundle(download_bundle(config.model))
        _check_labels(segmenter.spec.label_set.names, data.label_set)
        counts = count_images(segmenter, records)
    else:
        raise ValueError("nothing to measure; give --model or --service")
    evaluation = Evaluation.of(tqdm(counts, total=len(records), unit="image", disable=None), data.label_set)
    metrics = summarize(evaluation.total, data.label_set)
    print(f"{config.service or config.model} on {config.data}, {config.split}: {len(records)} images")
    print(metrics_table(metrics))
    if config.json_file:
        config.json_file.write_text(json.dumps({"metrics": metrics, "counts": evaluation.total.confusion.tolist()}, indent=2))


def _served_names(address: str) -> list[str]:
    answer = requests.get(f"{address}/v1/model", timeout=_TIMEOUT_S)
    answer.raise_for_status()
    return [label["name"] for label in answer.json()["labels"]]


def _check_labels(names: list[str], label_set: LabelSet) -> None:
    if names != label_set.names:
        raise InvalidData(
            f"the model's classes are {names}, the data's {label_set.names}; measure on data with the same classes in the same order"
        )


if __name__ == "__main__":
    try:
        main(tyro.cli(EvaluateConfig))
    except (InvalidData, InvalidBundle, ValueError, requests.RequestException) as error:
        sys.exit(f"error: {error}")
