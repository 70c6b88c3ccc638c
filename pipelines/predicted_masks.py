"""Predictions that somebody wrote to a folder: index PNGs named like the photos."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from models.label_set import IGNORE_INDEX
from models.metrics import SegmentationCounts
from pipelines.data.mask_files import MaskFile
from pipelines.data.records import InvalidData, Record

_NAMES_SHOWN = 5


def pair_with_masks(folder: Path, records: Sequence[Record], others: Iterable[Record] = ()) -> list[Path]:
    """The predicted mask of each record: its image's name with .png, in the same sub-folder as among the other images.

    Masks of `others`, the data's other splits, may be there too. Raises `InvalidData` where masks are missing, and where some
    belong to no image.
    """
    if not folder.is_dir():
        raise InvalidData(f"{folder} is no folder; name the one that holds the predicted masks")
    root = Path(os.path.commonpath([record.image_path.parent for record in records]))
    masks = [_mask_path(folder, root, record) for record in records]
    missing = [str(mask.relative_to(folder)) for mask in masks if not mask.is_file()]
    if missing:
        raise InvalidData(f"{folder} lacks {len(missing)} of {len(masks)} masks: {_some(missing)}; predict every image of the split")
    known = {_mask_path(folder, root, record) for record in others if root in record.image_path.parents}.union(masks)
    extra = sorted(str(path.relative_to(folder)) for path in set(folder.rglob("*.png")) - known)
    if extra:
        raise InvalidData(
            f"{folder} holds {len(extra)} masks of no image in the data: {_some(extra)}; name them like their images, or move them"
        )
    return masks


def count_masks(masks: Sequence[Path], records: Sequence[Record], num_classes: int) -> Iterator[SegmentationCounts]:
    """The counts of each record with its mask, in their order. Raises `InvalidData` for a mask of another size or with other values."""

    def count(path: Path, record: Record) -> SegmentationCounts:
        image, mask = record.read()
        return SegmentationCounts.of(mask, read_predicted_mask(path, image, num_classes), num_classes)

    threads = ThreadPoolExecutor(os.cpu_count())
    try:
        yield from threads.map(count, masks, records)
    finally:
        threads.shutdown(cancel_futures=True)


def read_predicted_mask(path: Path, image: bytes, num_classes: int) -> np.ndarray:
    """The predicted class of each pixel of the upright image, (h, w) uint8. Raises `InvalidData`."""
    predicted = MaskFile(path, num_classes).class_map(image)
    if (predicted == IGNORE_INDEX).any():
        raise InvalidData(f"{path.name} holds {IGNORE_INDEX}, which is no class; a prediction names a class for every pixel")
    return predicted


def _mask_path(folder: Path, root: Path, record: Record) -> Path:
    return folder / record.image_path.relative_to(root).with_suffix(".png")


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
