"""Contact sheets of findings: each photo with its annotation, and what is wrong marked."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import cv2
import numpy as np
from faster_coco_eval import mask as coco_mask
from PIL import Image, ImageDraw, ImageFont

from models.image import InvalidImage, decode_reduced, orient, read_header
from models.label_set import LabelSet
from models.overlay import draw_overlay
from pipelines.data.coco import CocoAnnotation, CocoObject, run_lengths
from pipelines.data.findings import KINDS, Finding
from pipelines.data.records import InvalidData, LabelledData, Record
from pipelines.diagnosis.report import one_per_file_first

_SIDE = 300  # pixels of a panel
_CAPTION = 62
_LETTER = 13
_PER_SHEET = 12
_COLUMNS = 4  # panels side by side
_RED = (230, 0, 40)
_YELLOW = (255, 220, 0)
_WHITE = 255


def draw_sheets(data: LabelledData) -> Iterator[tuple[str, np.ndarray]]:
    """For each kind of finding that a photo can show, its name and a sheet (h, w, 3) uint8 RGB of the first dozen.

    Outlines have their class's colour, the objects in question are red; a yellow frame is the size that the annotation is for.
    """
    for name in KINDS:
        found = [each for each in data.findings if each.name == name and each.path.is_file() and (each.record or each.other)]
        if found:
            yield name, _sheet([_cell(finding, data.label_set) for finding in one_per_file_first(found)[:_PER_SHEET]])


def _sheet(cells: list[np.ndarray]) -> np.ndarray:
    width = max(cell.shape[1] for cell in cells)
    columns = max(1, min(len(cells), _COLUMNS * _SIDE // width))
    blank = np.full((_SIDE + _CAPTION, width, 3), _WHITE, np.uint8)
    cells = [*cells, *[blank] * (-len(cells) % columns)]
    return cv2.vconcat([cv2.hconcat(cells[start : start + columns]) for start in range(0, len(cells), columns)])


def _cell(finding: Finding, label_set: LabelSet) -> np.ndarray:
    """One finding: its photo, beside it the other of a pair, and a caption."""
    panels = [_panel(finding.record, finding.marks, label_set)] if finding.record else []
    if finding.other:
        panels.append(_photo(finding.other))
    picture = cv2.hconcat([_square(panel) for panel in panels])
    return cv2.vconcat([picture, _caption(f"{finding.path.name}: {finding.what}", picture.shape[1])])


def _panel(record: Record, marks: tuple[int, ...], label_set: LabelSet) -> np.ndarray:
    photo = _photo(record.image_path)
    try:
        if isinstance(record.annotation, CocoAnnotation):
            return _draw_objects(photo, record, marks, label_set)
        class_map = record.annotation.class_map(record.image_path.read_bytes())
        small = cv2.resize(class_map, photo.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        return draw_overlay(photo, small, label_set)
    except (ValueError, OSError):
        return photo  # the annotation cannot be drawn, which is the finding


def _draw_objects(photo: np.ndarray, record: Record, marks: tuple[int, ...], label_set: LabelSet) -> np.ndarray:
    annotation, data = record.annotation, record.image_path.read_bytes()
    header = read_header(data)
    try:
        size, upright = annotation.frame(data)
    except InvalidData:  # for another size: drawn as if it were for this photo, which shows whether only the size is wrong
        size = upright = header.upright_size
        _draw_frame(photo, annotation.size, upright)
    for index, each in sorted(enumerate(annotation.objects), key=lambda entry: entry[0] in marks):
        region = _small_region(each, size, photo.shape[:2] if size == upright else photo.shape[1::-1])
        region = region if size == upright else orient(region, data)
        outlines = cv2.findContours(region, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0]
        marked = index in marks
        cv2.drawContours(photo, outlines, -1, _RED if marked else label_set.labels[each.class_index].color, 2 if marked else 1)
    return photo


def _small_region(each: CocoObject, size: tuple[int, int], small: tuple[int, int]) -> np.ndarray:
    """The object's pixels, uint8, in a picture of `small` (height, width) instead of `size`."""
    if isinstance(each.segmentation, dict):
        return cv2.resize(coco_mask.decode(run_lengths(each.segmentation, size)), small[::-1], interpolation=cv2.INTER_NEAREST)
    scale = np.array([small[1] / size[1], small[0] / size[0]])
    polygons = [(np.reshape(polygon, (-1, 2)) * scale).ravel().tolist() for polygon in each.segmentation]
    return coco_mask.decode(run_lengths(polygons, small))


def _draw_frame(photo: np.ndarray, stated: tuple[int, int], size: tuple[int, int]) -> None:
    corner = [round(stated[axis] * photo.shape[axis] / size[axis]) - 1 for axis in (1, 0)]
    cv2.rectangle(photo, (0, 0), corner, _YELLOW, 2)


def _photo(path) -> np.ndarray:
    """The upright photo with a long side of `_SIDE`; grey where it cannot be read."""
    try:
        picture = decode_reduced(path.read_bytes(), _SIDE)
    except (OSError, InvalidImage):
        return np.full((_SIDE, _SIDE, 3), 128, np.uint8)
    scale = _SIDE / max(picture.shape[:2])
    size = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _square(panel: np.ndarray) -> np.ndarray:
    square = np.full((_SIDE, _SIDE, 3), _WHITE, np.uint8)
    square[: panel.shape[0], : panel.shape[1]] = panel
    return square


def _caption(text: str, width: int) -> np.ndarray:
    sign = Image.new("RGB", (width, _CAPTION), "white")
    lines = textwrap.wrap(text, int(width / (0.6 * _LETTER)), max_lines=_CAPTION // (_LETTER + 2), placeholder=" ...")
    ImageDraw.Draw(sign).text((3, 2), "\n".join(lines), fill="black", font=ImageFont.load_default(size=_LETTER))
    return np.asarray(sign)
