"""Objects one by one and in pairs: beyond the photo, without a pixel, too small, boxes for outlines, marked twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from faster_coco_eval import mask as coco_mask

from models.fit import content_of
from models.label_set import LabelSet
from pipelines.data.coco import CocoAnnotation, CocoObject, run_lengths
from pipelines.data.findings import Finding
from pipelines.data.records import InvalidData
from pipelines.diagnosis.verdict import Verdict, finding

_TOLERANCE = 2.0  # pixels beyond the border, or 1 % of the side: a hand that slipped, not another frame
_TOLERATED_SHARE = 0.01
_SAME = 0.9  # IoU of two masks of one object
_SAME_BOX = 0.8  # IoU of the boxes, where one of the two masks is a box itself
_FEWEST_PIXELS = 4  # at the model's input size
_MOST_COMPARED = 1000  # objects of one photo; pairs grow with the square


def examine_objects(annotation: CocoAnnotation, image: bytes, label_set: LabelSet, input_size: tuple[int, int]) -> Verdict:
    """The verdict on one photo's objects. Raises `InvalidData` where they do not fit the photo or cannot be drawn."""
    size, upright = annotation.frame(image)
    codes = [_checked(each, size) for each in annotation.objects]
    if not codes:
        return Verdict(num_pixels=(size[0] * size[1], *[0] * (len(label_set) - 1)))
    areas, boxes = coco_mask.area(codes), coco_mask.toBbox(codes)
    findings = _alone(annotation.objects, size, areas, _pixel_scale(upright, input_size))
    is_box = np.array([_is_box(each, box) for each, box in zip(annotation.objects, boxes)])
    twice, dropped = _in_pairs(annotation.objects, codes, boxes, is_box)
    findings += twice
    alone = [index for index in np.flatnonzero(is_box).tolist() if index not in dropped]
    findings += [finding("box-outline", f"{_name(annotation.objects[i])} is a box of 4 points", marks=(i,)) for i in alone]
    kept = tuple(each for index, each in enumerate(annotation.objects) if index not in dropped)
    repaired = replace(annotation, objects=kept) if dropped else None
    return Verdict(findings, repaired, _num_pixels(annotation.objects, codes, areas, size, label_set))


def _checked(each: CocoObject, size: tuple[int, int]) -> dict:
    """The object's run lengths; those that came from a file are decoded once, because only that shows whether they fill the picture."""
    code = run_lengths(each.segmentation, size)
    if isinstance(each.segmentation, dict):
        try:
            coco_mask.decode(code)
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            raise InvalidData(f"{_name(each)} cannot be read ({error}); export it as polygons or run lengths") from error
    return code


def _alone(objects: tuple[CocoObject, ...], size: tuple[int, int], areas: np.ndarray, scale: float) -> list[Finding]:
    findings = []
    for index, (each, area) in enumerate(zip(objects, areas.tolist())):
        beyond = _pixels_beyond(each, size)
        if beyond:
            findings.append(finding("off-photo", f"{_name(each)} reaches {beyond:.0f} pixels beyond the photo", marks=(index,)))
        if not area:
            findings.append(finding("empty-object", f"{_name(each)} covers no pixel", marks=(index,)))
        elif area * scale < _FEWEST_PIXELS:
            what = f"{_name(each)} has {area} pixels, {area * scale:.1f} at the model's input size"
            findings.append(finding("vanishing-object", what, marks=(index,)))
    return findings


def _pixels_beyond(each: CocoObject, size: tuple[int, int]) -> float:
    """How far the farthest point lies off the photo, or 0 within the tolerance."""
    if isinstance(each.segmentation, dict):
        return 0.0
    points = np.concatenate([np.asarray(polygon, np.float64) for polygon in each.segmentation]).reshape(-1, 2)
    sides = np.array(size[::-1], np.float64)
    beyond = np.maximum(-points, points - sides).max(axis=0)
    off = beyond[beyond > np.maximum(_TOLERANCE, _TOLERATED_SHARE * sides)]
    return float(off.max()) if len(off) else 0.0


def _is_box(each: CocoObject, box: np.ndarray) -> bool:
    """Whether the outline is one upright rectangle of 4 points (the first perhaps repeated)."""
    if isinstance(each.segmentation, dict) or len(each.segmentation) != 1 or len(each.segmentation[0]) not in (8, 10):
        return False
    xs, ys = np.asarray(each.segmentation[0], np.float64).reshape(-1, 2).T
    return all(np.minimum(side - side.min(), side.max() - side).max() <= 0.5 for side in (xs, ys)) and min(box[2:]) > 2


def _in_pairs(objects: tuple[CocoObject, ...], codes: list[dict], boxes: np.ndarray, is_box: np.ndarray) -> tuple[list[Finding], set[int]]:
    """Findings of objects that are marked twice, and which to drop: of one class the box, else the later one; of two classes none."""
    findings, dropped = [], set()
    for first, second, overlap in _same_pairs(codes, boxes, is_box):
        if {first, second} & dropped:
            continue
        one, other = objects[first], objects[second]
        if one.is_crowd or other.is_crowd:
            continue
        if one.class_index == other.class_index:
            how = "as box and as outline" if is_box[first] != is_box[second] else "twice"
            what = f"{_name(one)} and {other.id} mark one object {how} (IoU {overlap:.2f})"
            dropped.add(first if is_box[first] and not is_box[second] else second)
            findings.append(finding("duplicate-object", what, marks=(first, second)))
        elif overlap > _SAME:
            what = f"{_name(one)} and {other.id} mark the same pixels (IoU {overlap:.2f}) as two classes"
            findings.append(finding("contested-object", what, marks=(first, second)))
    return findings, dropped


def _same_pairs(codes: list[dict], boxes: np.ndarray, is_box: np.ndarray) -> list[tuple[int, int, float]]:
    """Pairs (first, second, IoU) that cover the same thing, the most alike first."""
    codes, boxes, is_box = codes[:_MOST_COMPARED], boxes[:_MOST_COMPARED], is_box[:_MOST_COMPARED]
    no_crowds = [0] * len(codes)
    overlaps, box_overlaps = np.asarray(coco_mask.iou(codes, codes, no_crowds)), np.asarray(coco_mask.iou(boxes, boxes, no_crowds))
    box_on_outline = is_box[:, None] != is_box[None]
    same = (overlaps > _SAME) | (box_on_outline & (box_overlaps > _SAME_BOX) & (overlaps > 0.5))
    firsts, seconds = np.nonzero(np.triu(same, 1))
    return sorted(zip(firsts.tolist(), seconds.tolist(), overlaps[firsts, seconds].tolist()), key=lambda pair: -pair[2])


def _num_pixels(objects, codes: list[dict], areas: np.ndarray, size: tuple[int, int], label_set: LabelSet) -> tuple[int, ...]:
    """Pixels of each class; where objects overlap, they count for each."""
    counts = [0] * len(label_set)
    for each, area in zip(objects, areas.tolist()):
        if not each.is_crowd:
            counts[each.class_index] += area
    counts[0] += size[0] * size[1] - int(coco_mask.area(coco_mask.merge(codes)))
    return tuple(counts)


def _pixel_scale(size: tuple[int, int], input_size: tuple[int, int]) -> float:
    """The area of one of the photo's pixels at the model's input size."""
    content = content_of(size, input_size, "letterbox")
    return content.height * content.width / (size[0] * size[1])


def _name(each: CocoObject) -> str:
    return f"annotation {each.id}"
