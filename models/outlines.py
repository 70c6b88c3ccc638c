"""Outlines along the edges of pixels, so that filling them gives exactly the pixels back.

Coordinates are those of pixel corners: pixel (x, y) is the square from (x, y) to (x + 1, y + 1). All regions are traced in one
pass: straight stretches of pixel sides are found on the whole map, then each is followed by the one that begins where it ends.
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from models.objects import ObjectMap, label_regions

Polygon = list[np.ndarray]


def find_polygons(found: ObjectMap) -> list[list[Polygon]]:
    """For each object its polygons, each a list of rings (n, 2) int64 of corners [x, y]: the exterior, then the holes.

    An object has one polygon for each part that hangs together by the sides of pixels; parts meet at corners. No ring touches
    itself, none repeats its first corner at its end, and no three corners in a row lie on a line. Exteriors have a positive
    area in (x, y), which is clockwise on the screen, holes a negative one.
    """
    part_map, num_parts = _label_parts(found)
    polygons: list[Polygon] = [[] for _ in range(num_parts)]
    for part, ring in _trace(part_map):
        polygons[part - 1].insert(0 if _area(ring) > 0 else len(polygons[part - 1]), ring)
    of_objects: list[list[Polygon]] = [[] for _ in found.objects]
    for polygon in filter(None, polygons):  # parts that touching objects shared have been numbered anew
        x, y = polygon[0][np.lexsort(polygon[0].T)[0]]  # of the top row's leftmost pixel
        of_objects[found.region_map[y, x] - 1].append(polygon)
    return of_objects


def _label_parts(found: ObjectMap) -> tuple[np.ndarray, int]:
    """A map (h, w) int32 of what hangs together by the sides of pixels and is of one object, numbered from 1, and how many they are."""
    part_map, num_parts = label_regions(found.class_map, sorted({each.class_index for each in found.objects}), connectivity=4)
    owner = np.zeros(num_parts + 1, np.int32)  # one of the objects in each part
    owner[part_map] = found.region_map
    is_shared = np.zeros(num_parts + 1, bool)
    is_shared[part_map[owner[part_map] != found.region_map]] = True
    if not is_shared.any():
        return part_map, num_parts
    touching = is_shared[part_map]
    part_map[touching] = 0
    for number in np.unique(found.region_map[touching]).tolist():
        box = found.objects[number - 1].slices
        num_labels, labels = cv2.connectedComponents((touching[box] & (found.region_map[box] == number)).view(np.uint8), connectivity=4)
        np.add(labels, num_parts, out=part_map[box], where=labels > 0)
        num_parts += num_labels - 1
    return part_map, num_parts


def _area(ring: np.ndarray) -> int:
    """Twice the signed area."""
    x, y = ring.T
    return x[:-1] @ y[1:] - x[1:] @ y[:-1] + x[-1] * y[0] - x[0] * y[-1]


def _trace(part_map: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Each ring with the part that it belongs to."""
    padded = np.pad(part_map, 1)
    width = padded.shape[1]
    across, down = _horizontal_sides(padded), _vertical_sides(padded)
    # By part and corner, the ends of one kind are the starts of the other.
    after_across, after_down = np.empty((2, len(across)), np.int64)
    after_across[_order(across, 2)] = _order(down, 1)
    after_down[_order(down, 2)] = _order(across, 1)
    follower = after_down[after_across]
    corners = across[:, 1:]
    order, bounds = _cycles(follower.tolist())
    part_of, corners = across[order, 0], corners[order].ravel()
    rings = []
    for start, stop in pairwise(bounds):
        for ring in _split(corners[2 * start : 2 * stop]):
            rings.append((int(part_of[start]), np.stack([ring % width, ring // width], axis=1)))
    return rings


def _order(sides: np.ndarray, corner_column: int) -> np.ndarray:
    return np.lexsort((sides[:, corner_column], sides[:, 0]))


def _horizontal_sides(padded: np.ndarray) -> np.ndarray:
    """Straight stretches (n, 3) of [part, first corner, last corner], the part to the right of who walks along them.

    A corner (x, y) is the number y * width + x, width being that of `padded`.
    """
    above, below = padded[:-1].ravel(), padded[1:].ravel()
    place = np.flatnonzero(above != below)
    tops = _join(place, below[place])
    bottoms = _join(place, above[place])
    return np.concatenate(
        [
            np.stack([tops[:, 0], tops[:, 1] - 1, tops[:, 2]], axis=1),
            np.stack([bottoms[:, 0], bottoms[:, 2], bottoms[:, 1] - 1], axis=1),
        ]
    )


def _vertical_sides(padded: np.ndarray) -> np.ndarray:
    """As `_horizontal_sides`."""
    height, width = padded.shape
    y, x = np.nonzero(padded[:, :-1] != padded[:, 1:])
    order = np.lexsort((y, x))
    y, x = y[order], x[order]
    place = x * height + y
    lefts, rights = _join(place, padded[y, x + 1]), _join(place, padded[y, x])

    def corner(place: np.ndarray) -> np.ndarray:
        return place % height * width + place // height

    return np.concatenate(
        [
            np.stack([lefts[:, 0], corner(lefts[:, 2]), corner(lefts[:, 1] - 1)], axis=1),
            np.stack([rights[:, 0], corner(rights[:, 1] - 1), corner(rights[:, 2])], axis=1),
        ]
    )


def _join(place: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Neighbouring sides of one part as stretches (n, 3): [part, first place, last place]; sides of no part are left out."""
    place, part = place[part > 0], part[part > 0]
    is_new = np.ones(len(place) + 1, bool)
    is_new[1:-1] = (np.diff(place) != 1) | (np.diff(part) != 0)
    return np.stack([part[is_new[:-1]], place[is_new[:-1]], place[is_new[1:]]], axis=1)


def _cycles(follower: list[int]) -> tuple[list[int], list[int]]:
    """The numbers 0, 1, ... in the order of `follower`, cycle by cycle, and where in it each cycle begins, and the end."""
    order, bounds, seen = [], [0], bytearray(len(follower))
    for first in range(len(follower)):
        at = first
        while not seen[at]:
            seen[at] = True
            order.append(at)
            at = follower[at]
        if len(order) > bounds[-1]:
            bounds.append(len(order))
    return order, bounds


def _split(ring: np.ndarray) -> list[np.ndarray]:
    """The ring cut wherever it comes back to a corner, so that no part of it touches itself."""
    if len(np.unique(ring)) == len(ring):
        return [ring]
    rings, path, place = [], [], {}
    for corner in ring.tolist():
        if corner in place:
            start = place[corner]
            rings.append(np.array(path[start:]))
            for passed in path[start:]:
                del place[passed]
            del path[start:]
        place[corner] = len(path)
        path.append(corner)
    return [*rings, np.array(path)]
