"""Pictures for people: the photo with the classes' colours, outlines and names over it."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from models.label_set import IGNORE_INDEX, Label, LabelSet
from models.objects import present_classes

_MAX_NAMES = 200  # for each class, on its largest parts


def draw_overlay(
    photo: np.ndarray, class_map: np.ndarray, label_set: LabelSet, *, region_map: np.ndarray | None = None, opacity: float = 0.45
) -> np.ndarray:
    """The photo (h, w, 3) uint8 RGB with every class but background tinted, outlined and named; a new array.

    Pixels of no class (`IGNORE_INDEX`) stay as they are, like background. Where `region_map` (h, w) int32 tells touching objects of
    one class apart, each is outlined and named by itself.
    """
    present = present_classes(class_map, label_set)
    palette = np.zeros((1, IGNORE_INDEX + 1, 3), np.uint8)
    palette[0, : len(label_set)] = [label.color for label in label_set.labels]
    tint = cv2.LUT(cv2.merge([class_map] * 3), palette)
    picture = cv2.addWeighted(photo, 1 - opacity, tint, opacity, 0)
    for index in {label_set.background, IGNORE_INDEX} - {None}:
        cv2.copyTo(photo, cv2.inRange(class_map, index, index), picture)
    thickness = max(1, round(min(class_map.shape) / 240))
    apart = class_map if region_map is None else _cut(class_map, region_map, thickness)
    for index in present:
        cv2.drawContours(picture, _outlines(apart == index), -1, label_set.labels[index].color, thickness)
    _write_names(picture, apart, [label_set.labels[index] for index in present])
    return picture


def _cut(class_map: np.ndarray, region_map: np.ndarray, thickness: int) -> np.ndarray:
    """`class_map` without the pixels along the lines where two objects of one class meet, which become `IGNORE_INDEX`."""
    window = np.ones((thickness + 1, thickness + 1), np.uint8)

    def is_mixed(values: np.ndarray) -> np.ndarray:
        values = values.astype(np.float32)  # OpenCV compares no int32
        return cv2.dilate(values, window) != cv2.erode(np.where(region_map > 0, values, np.float32(np.inf)), window)

    is_line = is_mixed(region_map) & ~is_mixed(np.where(region_map > 0, class_map + np.float32(1), 0))
    return np.where(is_line & (region_map > 0), np.uint8(IGNORE_INDEX), class_map)


def _outlines(region: np.ndarray) -> list[np.ndarray]:
    return list(cv2.findContours(region.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0])


def _write_names(picture: np.ndarray, class_map: np.ndarray, labels: list[Label]) -> None:
    height = max(10, min(picture.shape[:2]) // 24)
    font = ImageFont.load_default(size=height)
    for label in labels:
        for center in _wide_places(class_map == label.index, narrowest=height):
            _write_name(picture, label.name, center, font, label.color)


def _wide_places(region: np.ndarray, narrowest: int) -> list[tuple[int, int]]:
    """The (x, y) deepest inside each connected part, largest first, of those at least `narrowest` wide there: where a name fits."""
    step = max(1, narrowest // 12)  # of a large picture every few pixels will do
    narrowest //= step
    region = np.ascontiguousarray(region[::step, ::step])
    _, parts, stats, _ = cv2.connectedComponentsWithStats(region.view(np.uint8), connectivity=8)
    largest = (np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")[:_MAX_NAMES] + 1).tolist()
    places = []
    for part in largest:
        left, top, width, height, area = stats[part].tolist()
        if min(width, height) < narrowest or area < narrowest**2:
            continue
        inside = (parts[top : top + height, left : left + width] == part).view(np.uint8)
        depth = cv2.distanceTransform(cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 3)
        _, deepest, _, (x, y) = cv2.minMaxLoc(depth)
        if 2 * deepest >= narrowest:
            places.append(((left + x - 1) * step, (top + y - 1) * step))
    return places


def _write_name(picture: np.ndarray, name: str, center: tuple[int, int], font: ImageFont.FreeTypeFont, color: tuple) -> None:
    """Puts the name on a sign of its own colour into `picture`; what would stand beyond the frame is cut off."""
    left, top, right, bottom = (round(side) for side in font.getbbox(name, anchor="mm"))
    dark = sum(weight * value for weight, value in zip((0.299, 0.587, 0.114), color)) < 140
    sign = Image.new("RGB", (right - left + 7, bottom - top + 5), color)
    ImageDraw.Draw(sign).text((3 - left, 2 - top), name, font=font, anchor="mm", fill="white" if dark else "black")
    x, y = center[0] + left - 3, center[1] + top - 2
    covered = picture[max(y, 0) : y + sign.height, max(x, 0) : x + sign.width]
    height, width = covered.shape[:2]
    start_x, start_y = max(-x, 0), max(-y, 0)
    covered[:] = np.asarray(sign)[start_y : start_y + height, start_x : start_x + width]
