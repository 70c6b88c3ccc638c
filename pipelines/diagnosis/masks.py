"""Class maps that are stored whole: what their values say, and which wrong encodings can be read all the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.label_set import LabelSet
from pipelines.data.mask_files import MaskFile
from pipelines.data.records import InvalidData
from pipelines.diagnosis.verdict import Verdict, finding


def examine_mask(annotation: MaskFile, image: bytes, label_set: LabelSet, input_size: tuple[int, int]) -> Verdict:
    """The verdict on a mask file; one that is left out for its encoding comes with the annotation that reads it, where that is safe.

    Raises `InvalidData` where no remedy is known.
    """
    try:
        return examine_class_map(annotation.class_map(image), label_set)
    except InvalidData as error:
        mended = _mended(annotation, error.finding)
        if mended is None:
            raise
        try:
            verdict = examine_mask(mended, image, label_set, input_size)
        except InvalidData:
            raise error from None
        wrong = finding(error.finding, str(error), leaves_out=True)
        return replace(verdict, findings=[wrong, *verdict.findings], repaired=verdict.repaired or mended)


def _mended(annotation: MaskFile, name: str) -> MaskFile | None:
    """The annotation read otherwise, or None where that would be a guess or was tried already."""
    if name == "colour-mask" and not annotation.grey_as_index:
        return replace(annotation, grey_as_index=True)
    if name == "binary-mask" and annotation.num_classes == 2 and annotation.first_value == 0:
        return replace(annotation, white_as_first_class=True)
    return None


def examine_class_map(class_map: np.ndarray, label_set: LabelSet) -> Verdict:
    """The verdict on a class map (h, w) uint8."""
    num_pixels = np.bincount(class_map.ravel(), minlength=256)
    present = np.flatnonzero(num_pixels)
    findings = []
    if len(present) == 1:
        name = label_set.names[present[0]] if present[0] < len(label_set) else "ignored"
        findings = [finding("empty-mask", f"every pixel is {name}")]
    return Verdict(findings, num_pixels=tuple(num_pixels[: len(label_set)].tolist()))
