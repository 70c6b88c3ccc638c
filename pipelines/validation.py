"""Validation while training: metrics over all of `val`, and pictures of some of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from models.metrics import SegmentationCounts, summarize
from models.segmenter import Segmenter
from models.spec import SegmenterSpec
from models.unet import NormalizedNetwork
from pipelines.counting import count_images
from pipelines.data.records import Record
from pipelines.pictures import prediction_sheet
from pipelines.workers import Workers

_NUM_PICTURES = 6


def validate(network: NormalizedNetwork, spec: SegmenterSpec, records: Sequence[Record], workers: Workers) -> dict[str, float]:
    """Metrics over all records: each worker counts its share, the integers are added up."""
    workers.align_buffers(network)
    segmenter = Segmenter(network, spec, workers.device)
    counts = sum(count_images(segmenter, workers.share_of(records)), SegmentationCounts.zeros(len(spec.label_set)))
    total = workers.add_up(torch.from_numpy(counts.vector))
    return summarize(SegmentationCounts.from_vector(total.cpu().numpy(), len(spec.label_set)), spec.label_set)


def validation_pictures(network: NormalizedNetwork, spec: SegmenterSpec, records: Sequence[Record], workers: Workers) -> np.ndarray:
    """The first records' photos, masks and predictions, (h, w, 3) uint8."""
    return prediction_sheet(Segmenter(network, spec, workers.device), records[:_NUM_PICTURES])
