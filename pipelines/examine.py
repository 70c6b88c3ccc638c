"""The last look at a trained model, where the data and perhaps a GPU are: measured once more, with intervals and pages to look at."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import torch

from models.segmenter import Segmenter
from models.spec import SegmenterSpec
from models.unet import NormalizedNetwork
from pipelines.counting import Evaluation, count_images, predict_class_map
from pipelines.data.records import Record
from pipelines.report import Report
from pipelines.tracking import TrackedRun

PAGES = "evaluation"


def examine(network: NormalizedNetwork, spec: SegmenterSpec, records: list[Record], run: TrackedRun) -> Report:
    """What the network achieves on the records; its pages are in the run's artifacts, under `evaluation`."""
    segmenter = Segmenter(network.eval(), spec, "cuda" if torch.cuda.is_available() else "cpu")
    report = Report.of(Evaluation.of(count_images(segmenter, records), spec.label_set), records, spec.label_set)
    with tempfile.TemporaryDirectory() as folder:
        report.write(Path(folder), partial(predict_class_map, segmenter))
        run.log_folder(Path(folder), PAGES)
    return report
