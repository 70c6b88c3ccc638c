"""Measures a model, a running service, or a folder of predicted masks on one split of labelled photos, at their native resolution.

python -m pipelines.evaluate --data oxford_pets:PATH --split test --model models:/pets@champion
python -m pipelines.evaluate --data oxford_pets:PATH --split test --service http://127.0.0.1:8000
python -m pipelines.evaluate --data oxford_pets:PATH --split test --predictions FOLDER
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
import tyro
from tqdm import tqdm

from models.bundle import load_bundle
from models.instance_mask import InstanceMask
from models.instance_metrics import INSTANCE_RULES
from models.label_set import LabelSet
from models.metrics import RULES, SegmentationCounts
from models.rand_error import RAND_RULE
from models.spec import InvalidBundle
from pipelines.bootstrap import CONFIDENCE, Interval
from pipelines.counting import Evaluation, count_images, predict_class_map
from pipelines.data.records import InvalidData, LabelledData, Record
from pipelines.data.sources import read_data
from pipelines.object_evaluation import evaluate_objects, marks_objects, mean_rand_error, predict_objects, regions_of_class_map
from pipelines.predicted_masks import count_masks, pair_with_masks, read_predicted_mask
from pipelines.registry import download_bundle
from pipelines.report import Report
from pipelines.served_masks import MeasuredService, ServiceFailed


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a model, a running service or a folder of predicted masks; one of --model, --service and --predictions."""

    data: str
    """oxford_pets:PATH, coco:PATH, masks:PATH or scenes."""
    split: str = "val"
    repair: bool = False
    """Apply the doctor's safe remedies to what is read, as a training with --repair does; no file is changed."""
    model: str | None = None
    """A bundle: its directory, runs:/<id>/model, models:/<name>/<version> or models:/<name>@<alias>."""
    service: str | None = None
    """The address of a running service, such as http://127.0.0.1:8000. MASKWORKS_API_KEY, where set, goes along."""
    predictions: Path | None = None
    """A folder of index PNGs named like the images: a pixel's value is the index of its class, as `python -m deployments.client` writes."""
    confidence: bool = False
    """Ask a service for its confidence too, for the calibration error; each photo is then sent twice."""
    connections: int = 4
    """Photos that a service is sent at the same time."""
    device: str | None = None
    """Where a model computes, such as cpu or cuda. Default: the GPU, where there is one."""
    json_file: Path | None = None
    """Write metrics, intervals, counts, rules and each photo's metrics here too."""
    rand_error_class: str | None = None
    """Measure how well the parts of this class are kept apart too: the Rand error after thinning, as for cells of the ISBI challenge."""
    report: Path | None = None
    """A folder for pages to look at: each class's metrics, the confusion matrix, and the worst photos with their edge errors."""

    def __post_init__(self) -> None:
        given = [name for name in ("model", "service", "predictions") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"{' and '.join(given) or 'nothing'} is to be measured; give one of --model, --service and --predictions")
        if self.connections < 1:
            raise ValueError(f"connections is {self.connections}; use 1 or more")
        if self.json_file and not self.json_file.parent.is_dir():
            raise ValueError(f"the folder of {self.json_file} does not exist; create it first")

    @property
    def subject(self) -> str:
        """What is measured."""
        return str(self.model or self.service or self.predictions)


@dataclass(frozen=True)
class Measured:
    """What is measured: the counts of each record in their order, and what gives a record's class map and its objects."""

    counts: Iterator[SegmentationCounts]
    class_map: Callable[[Record], np.ndarray]
    objects: Callable[[Record], list[InstanceMask]]


def main(config: EvaluateConfig) -> None:
    """Prints the metrics."""
    data = read_data(config.data, repair=config.repair)
    if config.split not in data.splits:
        raise InvalidData(f"{config.data} has no split {config.split!r}; choose one of {', '.join(data.splits)}")
    if config.rand_error_class not in (None, *data.label_set.names):
        raise InvalidData(f"{config.data} has no class {config.rand_error_class!r}; choose one of {', '.join(data.label_set.names)}")
    records = data.splits[config.split]
    measured = _measured(config, data, records)
    counts = tqdm(measured.counts, total=len(records), unit="image", disable=None)
    report = Report.of(Evaluation.of(counts, data.label_set), records, data.label_set)
    print(f"{config.subject} on {config.data}, {config.split}: {len(records)} images")
    print(metrics_table(report))
    of_objects = _measure_objects(config, data.label_set, records, measured)
    if config.json_file:
        content = {"measured": config.subject, "data": config.data, "split": config.split} | report.as_json() | {"objects": of_objects}
        _write(config.json_file, json.dumps(content, indent=2) + "\n")
    if config.report:
        report.write(config.report, measured.class_map)


def _measured(config: EvaluateConfig, data: LabelledData, records: list[Record]) -> Measured:
    """All that can be refused is refused now."""
    num_classes = len(data.label_set)
    if config.predictions:
        masks = pair_with_masks(config.predictions, records, chain.from_iterable(data.splits.values()))
        mask_of = {record.image_path: mask for record, mask in zip(records, masks)}

        def class_map(record: Record) -> np.ndarray:
            return read_predicted_mask(mask_of[record.image_path], record.read()[0], num_classes)

        return Measured(
            count_masks(masks, records, num_classes), class_map, lambda record: regions_of_class_map(class_map(record), data.label_set)
        )
    if config.service:
        service = MeasuredService(config.service, connections=config.connections)
        _check_labels(service.class_names(), data.label_set)
        counts = service.count(records, num_classes, with_confidence=config.confidence)
        return Measured(counts, service.class_map, service.objects)
    device = config.device or ("cuda" if torch.cuda.is_available() else "cpu")
    segmenter = load_bundle(download_bundle(config.model), device)
    _check_labels(segmenter.spec.label_set.names, data.label_set)
    return Measured(count_images(segmenter, records), partial(predict_class_map, segmenter), partial(predict_objects, segmenter))


def _measure_objects(config: EvaluateConfig, label_set: LabelSet, records: list[Record], measured: Measured) -> dict[str, float]:
    """Prints and returns the metrics of single objects, in a pass of their own; none where the data marks none."""
    num_threads = config.connections if config.service else 1
    metrics: dict[str, float] = {}
    if marks_objects(records):
        metrics = evaluate_objects(records, label_set, measured.objects, num_threads=num_threads).summary()
        print("\n" + "\n".join(f"{name:<18}{value:>7.4f}" for name, value in metrics.items() if "/" not in name))
        print(f"objects: {INSTANCE_RULES}")
    if config.rand_error_class:
        index = label_set.names.index(config.rand_error_class)
        metrics["rand_error"] = mean_rand_error(records, measured.class_map, index, num_threads=num_threads)
        print(f"\n{'rand_error':<18}{metrics['rand_error']:>7.4f}   of {config.rand_error_class}: {RAND_RULE}")
    return metrics


def metrics_table(report: Report) -> str:
    """Metrics with their intervals, then a line for each class, then the rules that they follow."""
    found, names = report.intervals, report.label_set.names
    lines = [f"{'':<20}value   {CONFIDENCE:.0%} interval"]
    lines += [f"{name:<18}{_cell(found, name)}" for name in found if "/" not in name]
    width = max(5, *map(len, names)) + 1
    lines += [
        "",
        f"{'class':<{width}}{'images':>8}{'pixels':>14}    dice     IoU   {CONFIDENCE:.0%} interval     boundary IoU   {CONFIDENCE:.0%} interval",
    ]
    for name, num_images, num_pixels in zip(names, report.num_images_of_class, report.num_pixels_of_class):
        dice = f"{found[f'dice/{name}'].value:.4f}" if f"dice/{name}" in found else "     -"
        lines.append(
            f"{name:<{width}}{num_images:>8,}{num_pixels:>14,}  {dice} {_cell(found, f'iou/{name}')}         {_cell(found, f'boundary_iou/{name}')}"
        )
    return "\n".join([*(line.rstrip() for line in lines), "", *(f"{subject}: {rule}" for subject, rule in RULES.items())])


def _cell(found: dict[str, Interval], name: str) -> str:
    if name not in found:
        return f"{'-':>7}{'':<19}"
    each = found[name]
    return f"{each.value:>7.4f}   {each.low:.4f} to {each.high:.4f}"


def _write(path: Path, content: str) -> None:
    """The whole file or none."""
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(content)
    draft.replace(path)


def _check_labels(names: list[str], label_set: LabelSet) -> None:
    if names != label_set.names:
        raise InvalidData(
            f"the model's classes are {names}, the data's {label_set.names}; measure on data with the same classes in the same order"
        )


if __name__ == "__main__":
    try:
        main(tyro.cli(EvaluateConfig))
    except (InvalidData, InvalidBundle, ServiceFailed, ValueError) as error:
        sys.exit(f"error: {error}")
