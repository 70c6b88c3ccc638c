"""Photos that are in the data twice: in two splits, as one file or as two shots of one scene, or repeated within one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np

from models.image import NO_LIMITS, InvalidImage, decode_reduced
from pipelines.data.findings import Finding
from pipelines.data.records import LabelledData, Record
from pipelines.diagnosis.examine import SIGNATURE_SIDE, Checkup
from pipelines.diagnosis.processes import map_in_processes

_ORDER = ("test", "val", "train")  # what a repair keeps first
_ALIKE = 0.6  # correlation of the signatures of two shots of one scene, at least; many others have that too
_LIKELY = 0.8  # few pairs are so alike, and all of these are compared; of the others, the likeliest
_LIKELIEST = 2
_MOST_CANDIDATES = 12  # for each photo of the other split
_NEARLY_EQUAL = 0.99
_LEAST_CONTRAST = 3  # grey levels, standard deviation; in flat pictures everything is alike
_LONG_SIDE = 320
# On 1,400 candidates from 1,220 real photos, judged by eye, these numbers keep bursts and drop products of one label in two places.
_FEWEST_INLIERS = 12
_SMALLEST_OVERLAP = 0.5
_CORRELATION = 0.75
_LARGEST_CHANGE = 25  # grey levels; on 8 real pairs, one photo stored twice had up to 19, two shots had 44 and more
_BLOCK = 512


@dataclass(frozen=True)
class Pair:
    """Two photos to compare: the first is the one that a repair would leave out."""

    split: str
    record: Record
    other_split: str
    other: Record


@dataclass(frozen=True)
class Alignment:
    """How well the first photo of a pair, moved onto the second, agrees with it.

    Matched points, overlap 0 to 1, correlation -1 to 1, and the largest change of a spot, in grey levels at equal contrast.
    """

    num_inliers: int = 0
    overlap: float = 0.0
    correlation: float = 0.0
    largest_change: float = 255.0

    @property
    def shows_one_scene(self) -> bool:
        return self.num_inliers >= _FEWEST_INLIERS and self.overlap >= _SMALLEST_OVERLAP and self.correlation >= _CORRELATION

    @property
    def shows_one_photo(self) -> bool:
        return self.shows_one_scene and self.largest_change <= _LARGEST_CHANGE


def find_twins(data: LabelledData, checkups: dict[Path, Checkup]) -> list[Finding]:
    """Findings of photos that are there twice. Equal files are told by their bytes, others by two comparisons.

    First a small grey picture of each photo, all with all, which leaves few candidates; then points that match under one
    motion of the camera, and the agreement of the whole photos after that motion.
    """
    equal = _equal_files(data, checkups)
    known = {(pair.record.image_path, pair.other.image_path) for pair in equal}
    similar = [pair for pair in _candidates(data, checkups) if (pair.record.image_path, pair.other.image_path) not in known]
    alignments = map_in_processes(_align_files, similar, crashed=_not_alike, what="comparing", few=256)
    findings = [_finding(pair, "is the same file as") for pair in equal]
    for pair, alignment in zip(similar, alignments):
        if alignment.shows_one_photo:
            findings.append(_finding(pair, "is the same photo as"))
        elif alignment.shows_one_scene and pair.split != pair.other_split:
            findings.append(_finding(pair, "shows the scene of", f" ({alignment.num_inliers} points match)"))
    return findings


def _finding(pair: Pair, relation: str, evidence: str = "") -> Finding:
    path, other = pair.record.image_path, pair.other.image_path
    if relation == "shows the scene of":
        name = "burst-across-splits"
    else:
        name = "photo-in-two-splits" if pair.split != pair.other_split else "repeated-photo"
    what = f"{relation} {other.name} in {pair.other_split}{evidence}"
    return Finding(name, path, what, split=pair.split, other=other, record=pair.record)


def _equal_files(data: LabelledData, checkups: dict[Path, Checkup]) -> list[Pair]:
    first: dict[bytes, tuple[str, Record]] = {}
    pairs = []
    for split, record in _in_order(data):
        digest = checkups[record.image_path].file_digest
        if digest in first:
            pairs.append(Pair(split, record, *first[digest]))
        else:
            first[digest] = (split, record)
    return pairs


def _candidates(data: LabelledData, checkups: dict[Path, Checkup]) -> Iterator[Pair]:
    """Pairs whose signatures agree: across splits the most alike, within a split only those that nearly equal each other."""
    signatures = {}
    for split in dict.fromkeys(split for split, _ in _in_order(data)):
        records = [record for record in data.splits[split] if _has_contrast(checkups[record.image_path])]
        signatures[split] = (records, _normalized([checkups[record.image_path].signature for record in records]))
    for split, (records, vectors) in signatures.items():
        for first, second in _nearly_equal(vectors):
            yield Pair(split, records[second], split, records[first])
    for (other_split, (others, other_vectors)), (split, (records, vectors)) in combinations(signatures.items(), 2):
        for other_index, index in _most_alike(other_vectors, vectors):
            yield Pair(split, records[index], other_split, others[other_index])


def _in_order(data: LabelledData) -> Iterator[tuple[str, Record]]:
    splits = sorted(data.splits, key=lambda split: _ORDER.index(split) if split in _ORDER else len(_ORDER))
    for split in splits:
        for record in data.splits[split]:
            yield split, record


def _has_contrast(checkup: Checkup) -> bool:
    return bool(checkup.signature) and np.frombuffer(checkup.signature, np.uint8).std() > _LEAST_CONTRAST


def _normalized(signatures: list[bytes]) -> np.ndarray:
    """(n, 256) float32: each signature at 16 x 16, zero mean, length 1, so that a product is a correlation."""
    pictures = np.frombuffer(b"".join(signatures), np.uint8).reshape(-1, SIGNATURE_SIDE // 2, 2, SIGNATURE_SIDE // 2, 2)
    vectors = pictures.mean(axis=(2, 4), dtype=np.float32).reshape(len(pictures), (SIGNATURE_SIDE // 2) ** 2)
    vectors -= vectors.mean(axis=1, keepdims=True)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def _nearly_equal(vectors: np.ndarray) -> Iterator[tuple[int, int]]:
    for start in range(0, len(vectors), _BLOCK):
        correlation = vectors[start : start + _BLOCK] @ vectors[start:].T
        for first, second in zip(*(axis.tolist() for axis in np.nonzero(np.triu(correlation > _NEARLY_EQUAL, 1)))):
            yield start + first, start + second


def _most_alike(others: np.ndarray, vectors: np.ndarray) -> Iterator[tuple[int, int]]:
    for start in range(0, len(others), _BLOCK):
        correlation = others[start : start + _BLOCK] @ vectors.T
        best = np.argsort(-correlation, axis=1)[:, :_MOST_CANDIDATES].tolist()
        for row, columns in enumerate(best):
            for rank, column in enumerate(columns):
                if correlation[row, column] > (_ALIKE if rank < _LIKELIEST else _LIKELY):
                    yield start + row, column


def _not_alike(pair: Pair) -> Alignment:
    return Alignment()


def _align_files(pair: Pair) -> Alignment:
    try:
        return align(_grey(pair.record.image_path), _grey(pair.other.image_path))
    except (OSError, InvalidImage):
        return Alignment()


def _grey(path: Path) -> np.ndarray:
    picture = cv2.cvtColor(decode_reduced(path.read_bytes(), _LONG_SIDE // 2, NO_LIMITS), cv2.COLOR_RGB2GRAY)
    scale = _LONG_SIDE / max(picture.shape)
    size = [max(1, round(side * scale)) for side in picture.shape[::-1]]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def align(first: np.ndarray, second: np.ndarray) -> Alignment:
    """The alignment of two grey pictures (h, w) uint8 by ORB points and one homography (RANSAC)."""
    detector = cv2.ORB_create(800)
    (points, descriptors), (other_points, other_descriptors) = (detector.detectAndCompute(each, None) for each in (first, second))
    if min(len(points), len(other_points)) < _FEWEST_INLIERS:
        return Alignment()
    matches = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(descriptors, other_descriptors, k=2)
    clear = [best for best, *rest in matches if rest and best.distance < 0.75 * rest[0].distance]
    if len(clear) < _FEWEST_INLIERS:
        return Alignment()
    source = np.float32([points[match.queryIdx].pt for match in clear])
    target = np.float32([other_points[match.trainIdx].pt for match in clear])
    cv2.setRNGSeed(0)  # RANSAC draws
    motion, inliers = cv2.findHomography(source, target, cv2.RANSAC, 4)
    if motion is None:
        return Alignment()
    return _compare(first, second, motion, int(inliers.sum()))


def _compare(first: np.ndarray, second: np.ndarray, motion: np.ndarray, num_inliers: int) -> Alignment:
    """The alignment after `motion` (3, 3) of the first picture; smoothed, so that a pixel's noise is no difference."""
    size = second.shape[::-1]
    whole = cv2.copyMakeBorder(np.full_like(first[1:-1, 1:-1], 255), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    covered = cv2.erode(cv2.warpPerspective(whole, motion, size), np.ones((5, 5), np.uint8)) == 255
    moved, still = (cv2.blur(each, (9, 9)).astype(np.float64)[covered] for each in (cv2.warpPerspective(first, motion, size), second))
    if covered.sum() < 2 or min(moved.std(), still.std()) == 0:
        return Alignment()
    contrast = moved.std() / still.std()
    change = np.abs(moved - moved.mean() - contrast * (still - still.mean())).max()
    return Alignment(num_inliers, float(covered.mean()), float(np.corrcoef(moved, still)[0, 1]), float(change))
