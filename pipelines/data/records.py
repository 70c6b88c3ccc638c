"""What every reader gives: records in splits, their label set, and what is wrong with them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from models.instance_mask import InstanceMask
from models.label_set import LabelSet
from pipelines.data.findings import Finding

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
_READER_THREADS = 8  # they wait for the disk, or for a network's file system


class InvalidData(ValueError):
    """Data that cannot be trained on: a file or a whole folder. `finding` names its kind, a key of `findings.KINDS`."""

    def __init__(self, message: str, finding: str = "unreadable-annotation") -> None:
        super().__init__(message)
        self.finding = finding

    def __reduce__(self):
        return InvalidData, (*self.args, self.finding)


class Annotation(Protocol):
    """What people drew over one image."""

    def class_map(self, image: bytes) -> np.ndarray:
        """The class index of each pixel of the upright image, (h, w) uint8, `IGNORE_INDEX` where nobody says."""

    def instance_map(self, image: bytes) -> np.ndarray | None:
        """Which object each pixel shows, (h, w) int32: 0 none, else from 1, perhaps with gaps. None where objects are not told apart."""

    def instances(self, image: bytes) -> list[InstanceMask] | None:
        """Each object whole, also where another hides it; crowds too. None where objects are not told apart."""

    def content(self) -> bytes:
        """What decides all maps, wherever the files lie; equal for equal annotations."""


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
class LabelledData:
    """A data set: records by split (`train`, `val`, perhaps `test`), a label set, and what is wrong with it.

    Layouts are listed first, with the findings that need no photo; `pipelines.diagnosis` then looks at every file, adds its
    findings, and leaves out the records that cannot be trained on.
    """

    source: str
    label_set: LabelSet
    splits: dict[str, list[Record]]
    findings: list[Finding] = field(default_factory=list)

    def digest(self) -> str:
        """A SHA-256 (hex) that changes when a split, an image or an annotation does; reads every file."""
        total = hashlib.sha256(repr(self.label_set).encode())
        for split, records in sorted(self.splits.items()):
            total.update(split.encode())
            with ThreadPoolExecutor(_READER_THREADS) as threads:
                for piece in threads.map(_record_digest, records):
                    total.update(piece)
        return total.hexdigest()


def hold_out(names: Iterable[str], share: float) -> set[str]:
    """A part of `names` (at least one) chosen by their hash, so that it stays the same wherever and whenever it is made."""
    ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    return set(ranked[: max(1, round(share * len(ranked)))])


def _record_digest(record: Record) -> bytes:
    return hashlib.sha256(record.image_path.read_bytes()).digest() + hashlib.sha256(record.annotation.content()).digest()
