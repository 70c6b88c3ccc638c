"""What was measured, as files for a person and for programs: tables, the confusion matrix, the worst photos."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from models.label_set import LabelSet
from models.metrics import RULES, metrics_of
from pipelines.bootstrap import Interval, intervals
from pipelines.confusion_picture import confusion_png
from pipelines.counting import Evaluation
from pipelines.data.records import Record
from pipelines.pictures import Comparison, error_sheet

_NUM_WORST = 12
_OF_EACH_IMAGE = ("miou", "pixel_accuracy", "foreground_iou", "boundary_iou")


@dataclass(frozen=True)
class Report:
    """An evaluation of these records in their order, and the intervals of its metrics by name."""

    records: list[Record]
    label_set: LabelSet
    evaluation: Evaluation
    intervals: dict[str, Interval]

    @classmethod
    def of(cls, evaluation: Evaluation, records: list[Record], label_set: LabelSet) -> Report:
        """The report with intervals from the evaluation's photos."""
        return cls(records, label_set, evaluation, intervals(evaluation.images, label_set))

    @property
    def num_images_of_class(self) -> np.ndarray:
        """In how many photos each class is, (K,) int64."""
        regions = self.evaluation.images.regions
        return np.count_nonzero(regions[..., 0] + regions[..., 2], axis=0)

    @property
    def num_pixels_of_class(self) -> np.ndarray:
        """How many pixels each class has, (K,) int64."""
        return self.evaluation.total.confusion.sum(axis=1)

    def as_json(self) -> dict:
        """All that was measured, in a form that JSON can hold."""
        by_image = metrics_of(self.evaluation.images, self.label_set)
        return {
            "metrics": {name: each.value for name, each in self.intervals.items()},
            "intervals": {name: [each.low, each.high] for name, each in self.intervals.items()},
            "classes": self.label_set.names,
            "counts": {name: counts.tolist() for name, counts in asdict(self.evaluation.total).items()},
            "rules": RULES,
            "images": [
                {"file": str(record.image_path)}
                | {name: float(by_image[name][i]) for name in _OF_EACH_IMAGE if not np.isnan(by_image[name][i])}
                for i, record in enumerate(self.records)
            ],
        }

    def as_csv(self) -> str:
        """A line for each class: photos, pixels, metrics and their intervals; empty where one is undefined."""
        metrics = ("iou", "dice", "boundary_iou")
        columns = [f"{metric}{end}" for metric in metrics for end in ("", "_low", "_high")]
        file = io.StringIO()
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["class", "images", "pixels", *columns])
        for name, num_images, num_pixels in zip(self.label_set.names, self.num_images_of_class, self.num_pixels_of_class):
            found = [self.intervals.get(f"{metric}/{name}") for metric in metrics]
            cells = [f"{value:.4f}" if each else "" for each in found for value in ((each.value, each.low, each.high) if each else [0] * 3)]
            lines.writerow([name, num_images, num_pixels, *cells])
        return file.getvalue()

    def write(self, folder: Path, predict: Callable[[Record], np.ndarray]) -> None:
        """Writes the pages into `folder`; `predict` gives the class map (h, w) uint8 of a record once more."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "evaluation.json").write_text(json.dumps(self.as_json(), indent=2) + "\n")
        (folder / "per_class.csv").write_text(self.as_csv())
        (folder / "confusion_matrix.png").write_bytes(confusion_png(self.evaluation.total.confusion, self.label_set))
        worst = cv2.cvtColor(error_sheet(self._worst(predict), self.label_set), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / "worst_images.jpg"), worst)

    def _worst(self, predict: Callable[[Record], np.ndarray]) -> list[Comparison]:
        """The photos of lowest mIoU, the worst one first."""
        by_image = metrics_of(self.evaluation.images, self.label_set)
        worst = np.argsort(by_image["miou"], kind="stable")[:_NUM_WORST]  # undefined ones are last
        return [
            Comparison.of(
                self.records[index],
                predict(self.records[index]),
                f"{self.records[index].image_path.name}   mIoU {by_image['miou'][index]:.3f}   boundary IoU {by_image['boundary_iou'][index]:.3f}",
            )
            for index in worst
        ]
