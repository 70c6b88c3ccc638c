"""Outlines, antialiased painting and sprites: what the drawn objects of a scene are made of.

A picture is (h, w, 3) float32 RGB in 0..1. An outline is an (n, 2) array of (x, y) in pixels; pixel (row i, column j)
covers x in [j, j + 1), y in [i, i + 1). Per-pixel arithmetic keeps to + - * / and sqrt, whose results are the same on
every machine; sin and cos appear in outlines alone.
"""

import colorsys
from dataclasses import dataclass

import cv2
import numpy as np

SUBPIXELS = 4  # coverage is counted on a grid of SUBPIXELS x SUBPIXELS points per pixel
FULL = 15 * SUBPIXELS * SUBPIXELS  # 240: a uint8 that every coverage divides without a rest

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Sprite:
    """One drawn object, not yet placed.

    colour: (h, w, 3) float32; coverage and opacity: (h, w) float32 in 0..1. A pixel is the object's where coverage is
    at least 0.5, however translucent it is. anchor: (x, y) of the middle of its base; radius and depth: half the
    base's width and half its extent front to back as seen, in pixels.
    """

    colour: np.ndarray
    coverage: np.ndarray
    opacity: np.ndarray
    anchor: tuple[float, float]
    radius: float
    depth: float


def coverage_of(outline: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The share of each pixel that lies inside the outline, (h, w) float32 in 0..1, in steps of 1/16."""
    height, width = size
    grid = np.zeros((height * SUBPIXELS, width * SUBPIXELS), np.uint8)
    points = np.rint((np.asarray(outline) * SUBPIXELS - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(grid, [points], FULL, shift=4)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / FULL


def paint(picture: np.ndarray, outline: np.ndarray, value, *, strength: float = 1.0) -> None:
    """Nothing; `picture` changes in place towards `value`, a colour or a picture of the same size, inside the outline."""
    height, width = picture.shape[:2]
    outline = np.asarray(outline, np.float64)
    left, top = np.clip(np.floor(outline.min(axis=0)).astype(int) - 1, 0, (width, height))
    right, bottom = np.clip(np.ceil(outline.max(axis=0)).astype(int) + 1, 0, (width, height))
    if left >= right or top >= bottom:
        return
    window = np.s_[top:bottom, left:right]
    share = coverage_of(outline - (left, top), (bottom - top, right - left))[..., None] * np.float32(strength)
    value = np.asarray(value, np.float32)
    picture[window] += share * ((value[window] if value.ndim == 3 else value) - picture[window])


def paste(picture: np.ndarray, instance_mask: np.ndarray, sprite: Sprite, at: tuple[float, float], number: int) -> None:
    """Nothing; the sprite is drawn with its anchor at `at` (x, y, to the nearest pixel) and its pixels become `number`."""
    rows, columns, part = overlap(sprite, at, instance_mask.shape)
    covered = sprite.coverage[part]
    alpha = (covered * sprite.opacity[part])[..., None]
    picture[rows, columns] += alpha * (sprite.colour[part] - picture[rows, columns])
    instance_mask[rows, columns][covered >= 0.5] = number


def overlap(sprite: Sprite, at: tuple[float, float], size: tuple[int, int]) -> tuple[slice, slice, tuple[slice, slice]]:
    """The rows and columns of a picture of `size` that the sprite meets, and the part of the sprite that meets them."""
    spans = []
    for axis in (0, 1):
        start = int(np.rint(at[1 - axis] - sprite.anchor[1 - axis]))
        first = min(max(start, 0), size[axis])
        last = min(max(start + sprite.coverage.shape[axis], first), size[axis])
        spans.append((slice(first, last), slice(first - start, last - start)))
    return spans[0][0], spans[1][0], (spans[0][1], spans[1][1])


def rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """The outline of an upright rectangle."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)


def ellipse(x: float, y: float, radius_x: float, radius_y: float, *, num_points: int = 40) -> np.ndarray:
    """The outline of an upright ellipse around (x, y)."""
    angle = np.arange(num_points) * (2 * np.pi / num_points)
    return np.stack([x + radius_x * np.cos(angle), y + radius_y * np.sin(angle)], axis=1)


def front_arc(x: float, y: float, radius: float, depth: float, *, num_points: int = 17) -> np.ndarray:
    """The near half of a horizontal circle seen from above, from left to right: it hangs `depth` below y."""
    t = np.linspace(-1, 1, num_points)
    return np.stack([x + radius * t, y + depth * np.sqrt(1 - t * t)], axis=1)


def printed_shape(rng: np.random.Generator) -> list[np.ndarray]:
    """The outlines of one printed mark in the square -1..1: disc, diamond, star, leaf, bars or ring segments."""
    kind = int(rng.integers(6))
    if kind == 0:
        return [ellipse(0, 0, 0.9, 0.9)]
    if kind == 1:
        return [np.array([(0, -1), (0.8, 0), (0, 1), (-0.8, 0)])]
    if kind == 2:
        angle = np.arange(10) * (np.pi / 5) - np.pi / 2
        reach = np.where(np.arange(10) % 2 == 0, 1.0, 0.45)
        return [np.stack([reach * np.cos(angle), reach * np.sin(angle)], axis=1)]
    if kind == 3:
        t = np.linspace(-1, 1, 13)
        bulge = 0.45 * (1 - t * t)
        return [np.concatenate([np.stack([t + bulge, t - bulge], 1), np.stack([t - bulge, t + bulge], 1)[::-1]]) * 0.9]
    if kind == 4:
        return [rectangle(-0.9, y, 0.9, y + 0.35) for y in (-0.8, -0.15, 0.5)]
    return [ellipse(x, y, 0.42, 0.42, num_points=20) for x, y in ((-0.45, 0.35), (0.45, 0.35), (0, -0.4))]


def package_colour(rng: np.random.Generator) -> Colour:
    """A colour that a packed product may have: any hue, at times nearly white, grey or black."""
    hue, pale = rng.uniform(), rng.uniform()
    saturation = rng.uniform(0.02, 0.15) if pale < 0.18 else rng.uniform(0.45, 0.92)
    return colorsys.hsv_to_rgb(hue, saturation, rng.uniform(0.35, 0.95))


def accent_colour(rng: np.random.Generator, base: Colour) -> Colour:
    """A colour that stands out against `base`: cream or dark ink by its brightness, or its shifted hue."""
    hue = colorsys.rgb_to_hsv(*base)[0]
    bright = 0.3 * base[0] + 0.6 * base[1] + 0.1 * base[2] > 0.5
    if rng.uniform() < 0.6:
        return (0.16, 0.14, 0.2) if bright else (0.97, 0.94, 0.86)
    return colorsys.hsv_to_rgb((hue + rng.uniform(0.3, 0.7)) % 1, rng.uniform(0.5, 0.9), 0.35 if bright else 0.95)


def smooth_noise(rng: np.random.Generator, size: tuple[int, int], cells: tuple[int, int]) -> np.ndarray:
    """Noise that varies over `cells` (rows, columns) patches, (h, w) float32 in -1..1."""
    coarse = rng.integers(0, 256, cells, dtype=np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_LINEAR).astype(np.float32) / 127.5 - 1
