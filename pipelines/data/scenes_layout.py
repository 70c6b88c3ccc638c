"""Which objects stand where in a scene: groups of one product, side by side, touching, overlapping or apart."""

from dataclasses import dataclass

import numpy as np

from pipelines.data.scenes_fruit import draw_apple, draw_lemon
from pipelines.data.scenes_packages import draw_bottle, draw_box, draw_can
from pipelines.data.scenes_shapes import Sprite
from pipelines.data.scenes_shelf import Surface

DRAW = {1: draw_can, 2: draw_box, 3: draw_bottle, 4: draw_apple, 5: draw_lemon}  # by class index
FRUIT = (4, 5)
TALLEST = 86  # pixels that the tallest object reaches at scale 1
MAX_OBJECTS = 12


@dataclass(frozen=True)
class Placed:
    """A sprite of a class, its anchor at (x, y) of the scene."""

    class_index: int
    sprite: Sprite
    at: tuple[float, float]


def arrange(rng: np.random.Generator, surfaces: tuple[Surface, ...], size: tuple[int, int]) -> list[Placed]:
    """2 to 12 objects in drawing order, far ones first."""
    total = int(rng.integers(2, MAX_OBJECTS + 1))
    share = int(rng.binomial(total, 0.5)) if len(surfaces) == 2 else 0
    if total - share < 2:  # the last surface is the one that is seen best: it holds two at least
        share = total - 2
    placed = []
    for surface, quota in zip(surfaces[::-1], (total - share, share), strict=False):
        placed += _fill(rng, surface, quota, size[1])
    return sorted(placed, key=lambda item: item.at[1])


def _fill(rng: np.random.Generator, surface: Surface, quota: int, width: int) -> list[Placed]:
    """`quota` objects on one surface: a row from left to right, what does not fit in it behind or in front of it."""
    scale = min(surface.headroom / TALLEST, width / 320 * (2.4 - 0.09 * quota)) * rng.uniform(0.86, 1.0)
    depth = surface.front - surface.back
    row = surface.back + depth * rng.uniform(0.4, 0.6)
    placed, cursor = [], rng.uniform(-0.06 * min(width, surface.headroom), width * max(0.4 - 0.05 * quota, 0.05))
    while len(placed) < quota and cursor < width * 0.95:
        group = int(rng.choice((1, 2, 3), p=(0.45, 0.4, 0.15)))
        for class_index, sprite in _group(rng, min(group, quota - len(placed)), scale):
            if cursor >= width * 0.95:
                break
            y = row + depth * rng.uniform(-0.08, 0.08)
            placed.append(Placed(class_index, sprite, (cursor + sprite.radius, y)))
            cursor += 2 * sprite.radius * rng.choice((0.8, 0.9, 0.97, 1.05), p=(0.15, 0.25, 0.4, 0.2))
        cursor += width * rng.choice((0.0, 0.05, 0.16), p=(0.4, 0.35, 0.25))
    while len(placed) < quota:
        ahead = rng.uniform() < 0.5
        class_index = int(rng.choice(FRUIT if ahead else tuple(DRAW)))
        sprite = DRAW[class_index](rng, scale)
        y = surface.back + depth * (rng.uniform(0.75, 0.9) if ahead else rng.uniform(0.05, 0.2))
        placed.append(Placed(class_index, sprite, (rng.uniform(0.05, 0.95) * width, y)))
    return placed


def _group(rng: np.random.Generator, num: int, scale: float) -> list[tuple[int, Sprite]]:
    """`num` objects of one class: facings of the same product, or different pieces of the same fruit."""
    class_index = int(rng.choice(tuple(DRAW)))
    if class_index in FRUIT:
        return [(class_index, DRAW[class_index](rng, scale)) for _ in range(num)]
    return [(class_index, DRAW[class_index](rng, scale))] * num
