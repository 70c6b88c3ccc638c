"""Splits and classes: empty ones, those with nothing to tell apart, classes that are missing or rare."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipelines.data.findings import Finding
from pipelines.data.records import LabelledData
from pipelines.diagnosis.examine import Checkup

_RARE = 20  # times fewer photos than the commonest class
_NEEDED_SPLITS = ("train", "val")


def check_balance(data: LabelledData, checkups: dict[Path, Checkup]) -> list[Finding]:
    """Findings about splits as a whole; their path is the data's own."""
    root = Path(data.source.partition(":")[2])
    photos = {split: _photos_of_classes(data, split, checkups) for split in data.splits if data.splits[split]}
    findings = [
        Finding("empty-split", root, f"{split} has no usable photo", split=split) for split in _NEEDED_SPLITS if split not in photos
    ]
    names = data.label_set.names
    for split, counts in photos.items():
        if np.count_nonzero(counts) == 1:
            findings.append(Finding("one-class-split", root, f"{split} holds only {names[int(counts.argmax())]}", split=split))
    if photos:
        nowhere = np.flatnonzero(sum(photos.values()) == 0).tolist()
        findings += [Finding("absent-class", root, f"{names[index]} is nowhere") for index in nowhere]
    if "train" in photos:
        findings += _against_train(root, names, data.label_set.foreground, photos)
    return findings


def _photos_of_classes(data: LabelledData, split: str, checkups: dict[Path, Checkup]) -> np.ndarray:
    """In how many photos of the split each class is seen, (K,) int64."""
    return sum((np.array(checkups[record.image_path].num_pixels) > 0).astype(np.int64) for record in data.splits[split])


def _against_train(root: Path, names: list[str], foreground: list[int], photos: dict[str, np.ndarray]) -> list[Finding]:
    findings = []
    for split, counts in photos.items():
        unseen = np.flatnonzero((counts > 0) & (photos["train"] == 0)).tolist()
        findings += [
            Finding("unseen-class", root, f"{names[i]} is in {counts[i]} photo(s) of {split} and in none of train") for i in unseen
        ]
    present = [index for index in foreground if photos["train"][index]]
    if present:
        counts = photos["train"]
        common, rare = max(present, key=lambda i: counts[i]), min(present, key=lambda i: counts[i])
        if counts[common] > _RARE * counts[rare]:
            what = f"{names[rare]} is in {counts[rare]} photo(s) of train, {names[common]} in {counts[common]}"
            findings.append(Finding("imbalance", root, what, split="train"))
    return findings
