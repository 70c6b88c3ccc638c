"""What every reader gives: records in splits, their label set, and the files it refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from models.image import NO_LIMITS, decode_image
from models.instance_mask import InstanceMask
from models.label_set import LabelSet

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
_READER_THREADS = 8  # reading headers waits for the disk, or for a network's file system


class InvalidData(ValueError):
    """Data that cannot be trained on: a file or a whole folder."""


class Annotation(Protocol):
    """What people drew over one image."""

    def class_map(self, image: bytes) -> np.ndarray:
        """The class index of each pixel of the upright image, (h, w) uint8, `IGNORE_INDEX` where nobody says."""

    def instance_map(self, image: bytes) -> np.ndarray | None:
        """Which object each pixel shows, (h, w) int32: 0 none, else from 1, perhaps with gaps. None where objects are not told apart."""

    def instances(self, image: bytes) -> list[InstanceMask] | None:
        """Each object whole, also where another hides it; crowds too. None where objects are not told apart."""


@dataclass(frozen=True)
class Record:
    """One labelled image."""

    image_path: Path
    annotation: Annotation

    def read(self) -> tuple[bytes, np.ndarray]:
        """The image file's bytes and its class map (h, w) uint8."""
        image = self.image_path.read_bytes()
        return image, self.annotation.class_map(image)


@dataclass(frozen=True)
class Refusal:
    """A file that a reader does not trust, with the reason and the remedy."""

    path: Path
    reason: str


@dataclass(frozen=True)
class LabelledData:
    """A data set: records by split (`train`, `val`, perhaps `test`), a label set, and what was refused."""

    source: str
    label_set: LabelSet
    splits: dict[str, list[Record]]
    refused: list[Refusal]

    def digest(self) -> str:
        """A SHA-256 (hex) that changes when a split, an image or an annotation does; reads every file."""
        total = hashlib.sha256(repr(self.label_set).encode())
        for split, records in sorted(self.splits.items()):
            total.update(split.encode())
            for piece in _in_threads(_record_digest, records):
                total.update(piece)
        return total.hexdigest()


def check_records(records: list[Record]) -> tuple[list[Record], list[Refusal]]:
    """The records whose image and annotation can be read and agree in size, in their order; and the others, with reasons."""
    reasons = _in_threads(_what_is_wrong, records)
    kept = [record for record, reason in zip(records, reasons) if reason is None]
    return kept, [Refusal(record.image_path, reason) for record, reason in zip(records, reasons) if reason]


def hold_out(names: Iterable[str], share: float) -> set[str]:
    """A part of `names` (at least one) chosen by their hash, so that it stays the same wherever and whenever it is made."""
    ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    return set(ranked[: max(1, round(share * len(ranked)))])


def _what_is_wrong(record: Record) -> str | None:
    try:
        image, class_map = record.read()
        photo = decode_image(image, NO_LIMITS)
    except (ValueError, OSError) as error:
        return str(error)
    return None if photo.shape[:2] == class_map.shape else f"the class map is {class_map.shape}, the photo {photo.shape[:2]}"


def _record_digest(record: Record) -> bytes:
    image, class_map = record.read()
    maps = [class_map, record.annotation.instance_map(image)]
    return b"".join(hashlib.sha256(part).digest() for part in (image, *(each.tobytes() for each in maps if each is not None)))


def _in_threads(function: Callable, items: list) -> list:
    with ThreadPoolExecutor(_READER_THREADS) as threads:
        return list(threads.map(function, items))
