"""The place of a scene: wall, shelf boards or a table, shadows, and the camera's light, blur and noise."""

import colorsys
from dataclasses import dataclass

import cv2
import numpy as np

from pipelines.data.scenes_shapes import Sprite, ellipse, overlap, package_colour, paint, rectangle, smooth_noise


@dataclass(frozen=True)
class Surface:
    """A board seen from above: objects stand on it with their base between back and front; the edge hangs below.

    back, front and edge are rows of the picture (y, pixels); headroom is the height that is free above the middle.
    """

    back: float
    front: float
    edge: float
    headroom: float


def draw_place(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, tuple[Surface, ...]]:
    """An empty scene and the surfaces in it, from back to front: one shelf board, two, or a table."""
    height = size[0]
    picture = draw_wall(rng, size)
    tone = _board_colour(rng)
    kind = rng.choice(("one shelf", "two shelves", "table"), p=(0.3, 0.4, 0.3))
    if kind == "two shelves":
        front = rng.uniform(0.43, 0.47) * height
        spans = [(front - rng.uniform(0.06, 0.09) * height, front), (rng.uniform(0.84, 0.87) * height, rng.uniform(0.93, 0.96) * height)]
    elif kind == "one shelf":
        front = rng.uniform(0.84, 0.93) * height
        spans = [(front - rng.uniform(0.1, 0.18) * height, front)]
    else:
        spans = [(rng.uniform(0.55, 0.68) * height, 1.05 * height)]
    surfaces, ceiling = [], 0.0
    for back, front in spans:
        edge = front + rng.uniform(0.025, 0.05) * height
        surface = Surface(back, front, edge, (back + min(front, height)) / 2 - ceiling)
        _draw_board(rng, picture, surface, tone)
        surfaces.append(surface)
        ceiling = edge
    return picture, tuple(surfaces)


def draw_wall(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A wall: plain, tiled, of planks, striped, dotted or of bricks, in a muted colour."""
    height, width = size
    unit = min(height, width * 0.75) / 240
    tone = colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.04, 0.42), rng.uniform(0.36, 0.84))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    pitch = np.float32(max(rng.uniform(16, 40) * unit, 4))
    depth = rng.uniform(0.05, 0.13) * rng.choice((-1, 1))
    kind = int(rng.integers(6))
    if kind == 0:
        pattern = np.zeros(size, np.float32)
    elif kind == 1:
        pattern = (x % pitch < 1.5) | (y % pitch < 1.5)
    elif kind == 2:
        shades = rng.uniform(-0.5, 0.5, int(width / pitch) + 2).astype(np.float32)
        pattern = shades[(x / pitch).astype(int)] - (x % pitch < 1.2)
    elif kind == 3:
        pattern = x % pitch < pitch * 0.5
    elif kind == 4:
        shifted = x + pitch * 0.5 * (np.floor(y / pitch) % 2)
        pattern = (shifted % pitch - pitch / 2) ** 2 + (y % pitch - pitch / 2) ** 2 < (0.22 * pitch) ** 2
    else:
        row = pitch * np.float32(0.5)
        pattern = ((x + pitch * 0.6 * (np.floor(y / row) % 2)) % (pitch * 1.2) < 1.3) | (y % row < 1.3)
    light = 1 + np.float32(depth) * pattern.astype(np.float32) + np.float32(0.05) * smooth_noise(rng, size, (5, 6))
    return light[..., None] * np.asarray(tone, np.float32)


def cast_shadows(rng, picture: np.ndarray, surfaces, placed: list[tuple[Sprite, tuple[float, float]]]) -> None:
    """Nothing; soft shadows fall on the boards around each base and, fainter, on the wall behind."""
    height, width = picture.shape[:2]
    unit = min(height, width * 0.75) / 240
    ground, behind = np.zeros((2, height, width), np.uint8)
    lean = rng.uniform(0.1, 0.7)
    for sprite, (x, y) in placed:
        wide = sprite.radius
        for grow in (0.25, 0.6, 1.0):
            shape = ellipse(x + wide * lean * grow, y + sprite.depth * 0.1, wide * 1.08, sprite.depth * 1.15 + 1.5)
            cv2.fillPoly(ground, [np.rint(shape).astype(np.int32)], 255)
        rows, columns, part = overlap(sprite, (x + wide * 0.5, y + 3 * unit), (height, width))
        behind[rows, columns] |= (sprite.coverage[part] >= 0.5).astype(np.uint8) * np.uint8(255)
    on_board = np.zeros((height, 1), bool)
    for surface in surfaces:
        on_board[round(surface.back) : round(surface.front)] = True
    narrow, broad = int(2.5 * unit) * 2 + 3, int(6 * unit) * 2 + 3
    ground, behind = cv2.blur(cv2.blur(ground, (narrow, narrow)), (narrow, narrow)), cv2.blur(behind, (broad, broad))
    shadow = np.where(on_board, np.maximum(ground * np.float32(0.55), behind * np.float32(0.12)), behind * np.float32(0.25))
    picture *= (1 - shadow / np.float32(255))[..., None]


def develop(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """The picture as a camera would give it, (h, w, 3) uint8 RGB: lit unevenly, tinted, a little blurred and noisy."""
    height, width = picture.shape[:2]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    slope_x, slope_y, corner = rng.uniform((-0.13, -0.1, 0.0), (0.13, 0.06, 0.1)).astype(np.float32)
    light = np.float32(rng.uniform(0.94, 1.18)) * (1 + slope_x * x + slope_y * y - corner * (x * x + y * y))
    tint = 1 + np.asarray(rng.uniform(-1, 1) * np.array((0.05, 0.0, -0.06)), np.float32)
    picture = picture * light[..., None] * tint
    spread = np.float32(rng.uniform(0.02, 0.2))
    for axis in (0, 1):
        first, middle, last = (np.s_[:-2], np.s_[1:-1], np.s_[2:]) if axis == 0 else (np.s_[:, :-2], np.s_[:, 1:-1], np.s_[:, 2:])
        picture[middle] += spread * (picture[first] + picture[last] - 2 * picture[middle])
    picture += np.float32(rng.uniform(0.004, 0.02)) * rng.standard_normal(picture.shape, dtype=np.float32)
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _board_colour(rng: np.random.Generator) -> np.ndarray:
    """Wood most times, otherwise white, grey or a painted tone."""
    kind = rng.uniform()
    if kind < 0.6:
        return np.asarray(colorsys.hsv_to_rgb(rng.uniform(0.06, 0.11), rng.uniform(0.3, 0.62), rng.uniform(0.42, 0.86)))
    if kind < 0.85:
        return np.full(3, rng.uniform(0.45, 0.92)) * np.array((1, 1, rng.uniform(0.95, 1.03)))
    return np.asarray(package_colour(rng)) * 0.5 + 0.3


def _draw_board(rng, picture: np.ndarray, surface: Surface, tone: np.ndarray) -> None:
    """Nothing; the board's top with its grain, its front edge with price tags, and its shade on the wall below."""
    height, width = picture.shape[:2]
    unit = min(height, width * 0.75) / 240
    top, front, edge = (min(round(y), height) for y in (surface.back, surface.front, surface.edge))
    grain = smooth_noise(rng, (height, width), (max(height // 2, 2), 5))[..., None]
    board = (1 + np.float32(0.07) * grain) * np.asarray(tone, np.float32)
    fade = np.linspace(0.82, 1.06, max(front - top, 1), dtype=np.float32)[: max(front - top, 0), None, None]
    picture[top:front] = board[top:front] * fade
    picture[max(top - 1, 0) : top] *= np.float32(0.8)
    picture[front:edge] = board[front:edge] * np.float32(0.72)
    picture[front : front + 1] = board[front : front + 1] * np.float32(1.15)
    below = picture[edge : edge + round(16 * unit)]
    below *= np.linspace(0.5, 1, len(below), dtype=np.float32)[:, None, None]
    if edge < height and rng.uniform() < 0.5:
        for slot in rng.choice(8, int(rng.integers(1, 5)), replace=False):
            x = (slot + rng.uniform(0, 0.4)) * width / 8
            tag = rectangle(x, front + 1, x + 20 * unit, edge + 3 * unit)
            paint(picture, tag, (0.95, 0.94, 0.88) if rng.uniform() < 0.7 else (0.96, 0.82, 0.2))
            paint(picture, rectangle(x + 3 * unit, front + 3 * unit, x + 12 * unit, front + 5 * unit), (0.2, 0.2, 0.22))
