"""The last look at a trained model, where the data and perhaps a GPU are: measured with intervals, and pages to look at."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import ray.train
import torch

from models.segmenter import Segmenter
from models.spec import SegmenterSpec
from models.unet import build_network
from pipelines.checkpoint import load_weights
from pipelines.counting import Evaluation, count_images, predict_class_map
from pipelines.data.records import LabelledData
from pipelines.data.sources import draw_if_missing
from pipelines.report import Report
from pipelines.tracking import TrackedRun

SPLIT = "val"


def examine(checkpoint: ray.train.Checkpoint, spec: SegmenterSpec, data: LabelledData, source: str, run: TrackedRun) -> Report:
    """What the checkpoint's model achieves on `val`; its pages go to the run's artifacts, under `evaluation`."""
    draw_if_missing(source)
    network = build_network(spec.architecture, len(spec.label_set))
    with checkpoint.as_directory() as folder:
        load_weights(Path(folder), network)
    segmenter = Segmenter(network.eval(), spec, "cuda" if torch.cuda.is_available() else "cpu")
    records = data.splits[SPLIT]
    report = Report.of(Evaluation.of(count_images(segmenter, records), spec.label_set), records, spec.label_set)
    with tempfile.TemporaryDirectory() as pages:
        report.write(Path(pages), partial(predict_class_map, segmenter))
        run.log_folder(Path(pages), "evaluation")
    return report
