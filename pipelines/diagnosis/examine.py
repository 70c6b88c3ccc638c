"""One record on its own: can it be read, does the annotation fit the photo, and what is odd about either."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import singledispatch
from pathlib import Path

import cv2
import numpy as np

from models.image import ImageHeader, ImageLimits, decode_reduced, read_header
from models.label_set import LabelSet
from pipelines.data.coco import CocoAnnotation
from pipelines.data.findings import Finding
from pipelines.data.mask_files import MaskFile
from pipelines.data.records import Annotation, InvalidData, Record
from pipelines.diagnosis.frames import frame_findings
from pipelines.diagnosis.masks import examine_class_map, examine_mask
from pipelines.diagnosis.objects import examine_objects
from pipelines.diagnosis.verdict import Verdict, finding

SIGNATURE_SIDE = 32
_SHORTEST_SIDE = 160  # of the reduced picture: enough for edges and signatures
_LIMITS = ImageLimits(max_bytes=2**30, max_pixels=2**29)  # one's own files, but no bomb
_SUFFIXES = {
    "JPEG": {".jpg", ".jpeg"},
    "MPO": {".jpg", ".jpeg", ".mpo"},
    "PNG": {".png"},
    "WEBP": {".webp"},
    "GIF": {".gif"},
    "BMP": {".bmp"},
}


@dataclass(frozen=True)
class Checkup:
    """What became of a record.

    findings: in the order of their discovery. repaired: the annotation with all safe remedies applied, or None where there are
    none. num_pixels: pixels of each class. file_digest: SHA-256 of the photo's bytes. signature: the grey picture at 32 x 32,
    uint8 bytes. All are empty where the photo cannot be decoded.
    """

    findings: tuple[Finding, ...]
    repaired: Annotation | None = None
    num_pixels: tuple[int, ...] = ()
    file_digest: bytes = b""
    signature: bytes = b""


def examine(record: Record, label_set: LabelSet, input_size: tuple[int, int]) -> Checkup:
    """The checkup of one record; whatever is wrong with its files is a finding, never an exception."""
    path = record.image_path
    try:
        data = path.read_bytes()
        header = read_header(data)
        picture = decode_reduced(data, _SHORTEST_SIDE, _LIMITS)
    except FileNotFoundError:
        return _left_out(record, "missing-pair", f"{path.name} is named, but does not exist")
    except (OSError, ValueError) as error:  # ValueError: no image, or a name that no file can have
        return _left_out(record, "unreadable-image", str(error))
    findings, verdict = _misnamed(path, header), Verdict()
    try:
        verdict = examine_annotation(record.annotation, data, label_set, input_size)
        findings += [*verdict.findings, *frame_findings(record.annotation, data, header, picture)]
    except InvalidData as error:
        findings.append(finding(error.finding, str(error), leaves_out=True))
    except Exception as error:  # a hostile annotation must not end the report of the others
        findings.append(finding("unreadable-annotation", f"{type(error).__name__}: {error}", leaves_out=True))
    drawn_from = tuple(replace(each, path=path, record=record) for each in findings)
    return Checkup(drawn_from, verdict.repaired, verdict.num_pixels, hashlib.sha256(data).digest(), _signature(picture))


@singledispatch
def examine_annotation(annotation: Annotation, image: bytes, label_set: LabelSet, input_size: tuple[int, int]) -> Verdict:
    """What is odd about an annotation of any kind. Raises `InvalidData` where it cannot be drawn."""
    return examine_class_map(annotation.class_map(image), label_set)


examine_annotation.register(CocoAnnotation, examine_objects)
examine_annotation.register(MaskFile, examine_mask)


def _left_out(record: Record, name: str, what: str) -> Checkup:
    return Checkup((Finding(name, record.image_path, what, leaves_out=True, record=record),))


def _misnamed(path: Path, header: ImageHeader) -> list[Finding]:
    if path.suffix.lower() in _SUFFIXES[header.format]:
        return []
    return [Finding("misnamed-file", path, f"{path.name} is a {header.format} file inside")]


def _signature(picture: np.ndarray) -> bytes:
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, (SIGNATURE_SIDE, SIGNATURE_SIDE), interpolation=cv2.INTER_AREA).tobytes()
