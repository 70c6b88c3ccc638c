"""The last look at a trained model, where the data and perhaps a GPU are: measured with intervals, and pages to look at."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import torch

from models.segmenter import Segmenter
from models.spec import SegmenterSpec
from models.unet import NormalizedNetwork
from pipelines.counting import Evaluation, count_images, predict_class_map
from pipelines.data.records import LabelledData
from pipelines.data.sources import draw_if_missing
from pipelines.report import Report
from pipelines.tracking import TrackedRun

SPLIT = "val"


def examine(network: NormalizedNetwork, spec: SegmenterSpec, data: LabelledData, source: str, run: TrackedRun) -> Report:
    """What the network achieves on `val`; its pages go to the run's artifacts, under `evaluation`. `source` names the data."""
    draw_if_missing(source)
    segmenter = Segmenter(network, spec, "cuda" if torch.cuda.is_available() else "cpu")
    records = data.splits[SPLIT]
    report = Report.of(Evaluation.of(count_images(segmenter, records), spec.label_set), records, spec.label_set)
    with tempfile.TemporaryDirectory() as pages:
        report.write(Path(pages), partial(predict_class_map, segmenter))
        run.log_folder(Path(pages), "evaluation")
    return report
