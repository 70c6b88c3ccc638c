"""Drawn fruit: apples and lemons, each a sprite with its own size, colour and shading."""

import colorsys

import numpy as np

from pipelines.data.scenes_shapes import Sprite, coverage_of, ellipse, paint, smooth_noise


def draw_apple(rng: np.random.Generator, scale: float) -> Sprite:
    """An apple: red, green or both, with a hollow, a stem, at times a leaf, and a highlight."""
    radius = scale * rng.uniform(14.5, 19)
    flat = rng.uniform(0.86, 0.98)
    stem = radius * rng.uniform(0.35, 0.6)
    centre = radius + 3, radius * flat + stem + 3
    size = int(np.ceil(centre[1] + radius * flat + 3)), int(np.ceil(2 * radius + 6))
    outline = _apple_outline(centre, radius, radius * flat)
    picture = _apple_skin(rng, size)
    _shade_ball(picture, centre, (radius, radius * flat), light=0.85)
    hollow = centre[1] - radius * flat * 0.8
    for grow, strength in ((1.0, 0.25), (0.65, 0.35)):
        paint(picture, ellipse(centre[0], hollow, radius * 0.36 * grow, radius * 0.14 * grow), (0.2, 0.12, 0.04), strength=strength)
    lean = radius * rng.uniform(-0.25, 0.25)
    thick = max(radius * 0.06, 0.9)
    top = hollow - stem - radius * 0.1
    bend = centre[0] + lean
    stalk = np.array([(centre[0] - thick, hollow), (bend - thick, top), (bend + thick, top), (centre[0] + thick, hollow + 1)])
    paint(picture, stalk, (0.36, 0.24, 0.12))
    parts = [outline, stalk]
    if rng.uniform() < 0.35:
        leaf = _leaf(centre[0] + lean * 0.6, hollow - stem * 0.5, radius * 0.62, 1 if lean < 0 else -1)
        paint(picture, leaf, (0.25, 0.5, 0.16))
        parts.append(leaf)
    return _fruit_sprite(picture, parts, size, (centre[0], centre[1] + radius * flat * 0.9), radius * 0.75)


def draw_lemon(rng: np.random.Generator, scale: float) -> Sprite:
    """A lemon lying on its side: yellow, dimpled, a pointed tip at either end, turned a little."""
    length = scale * rng.uniform(17.5, 22.5)
    thick = length * rng.uniform(0.6, 0.7)
    angle = rng.uniform(-0.55, 0.55)
    turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    outline = _lemon_outline(length, thick) @ turn
    low, high = outline.min(axis=0), outline.max(axis=0)
    centre = 3 - low[0], 3 - low[1]
    outline = outline + centre
    size = int(np.ceil(high[1] - low[1] + 6)), int(np.ceil(high[0] - low[0] + 6))
    tone = colorsys.hsv_to_rgb(rng.uniform(0.125, 0.165), rng.uniform(0.75, 0.92), rng.uniform(0.9, 0.99))
    picture = np.empty((*size, 3), np.float32)
    picture[:] = tone
    picture *= (1 + 0.05 * smooth_noise(rng, size, (max(size[0] // 2, 2), max(size[1] // 2, 2))))[..., None]
    tip = int(rng.choice((-1, 1)))
    for end, reach in ((tip, 0.22), (-tip, 0.1)):
        x, y = np.array((end * length, 0)) @ turn + centre
        paint(picture, ellipse(x, y, length * reach, length * reach), (0.62, 0.66, 0.16), strength=0.5)
    _shade_ball(picture, centre, (length, thick), light=0.55, turn=turn)
    return _fruit_sprite(picture, [outline], size, (centre[0], float(high[1]) + centre[1] - thick * 0.12), length * 0.72)


def _fruit_sprite(picture, outlines, size, anchor, radius) -> Sprite:
    coverage = np.max([coverage_of(outline, size) for outline in outlines], axis=0)
    np.clip(picture, 0, 1, out=picture)
    return Sprite(picture, coverage, np.ones(size, np.float32), anchor, radius, radius * 0.3)


def _apple_outline(centre: tuple[float, float], radius_x: float, radius_y: float) -> np.ndarray:
    """A round outline that dips at the top and narrows towards the bottom."""
    angle = np.arange(48) * (2 * np.pi / 48)
    x, y = np.cos(angle), np.sin(angle)
    dip = 0.2 * np.clip(1 - np.abs(x) / 0.42, 0, 1) ** 2
    y = np.where(y < 0, y + dip, y - dip * 0.3)
    return np.stack([centre[0] + radius_x * x * (1 - 0.12 * np.clip(y, 0, 1)), centre[1] + radius_y * y], axis=1)


def _apple_skin(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """The skin as a picture: one main tone, streaks of another, freckles of noise."""
    red = colorsys.hsv_to_rgb(rng.uniform(0.96, 1.015) % 1, rng.uniform(0.75, 0.92), rng.uniform(0.6, 0.86))
    green = colorsys.hsv_to_rgb(rng.uniform(0.2, 0.28), rng.uniform(0.6, 0.8), rng.uniform(0.62, 0.82))
    share = (0.05, 0.95, 0.3)[int(rng.choice(3, p=(0.45, 0.3, 0.25)))]
    streaks = smooth_noise(rng, size, (2, 9)) * 0.25 + smooth_noise(rng, size, (3, 3)) * 0.3
    mix = np.clip(share + streaks * (0.5 if 0.1 < share < 0.9 else 0.35), 0, 1)[..., None]
    skin = (1 - mix) * np.asarray(red, np.float32) + mix * np.asarray(green, np.float32)
    return (skin * (1 + 0.04 * smooth_noise(rng, size, (max(size[0] // 2, 2), max(size[1] // 2, 2))))[..., None]).astype(np.float32)


def _lemon_outline(length: float, thick: float) -> np.ndarray:
    """An oval along x whose ends run out into short tips, around (0, 0)."""
    t = np.linspace(-1, 1, 61)
    body = np.sqrt(np.clip(1 - (t / 0.9) ** 2, 0, 1))
    tips = 0.3 * np.sqrt(np.clip(1 - np.clip((np.abs(t) - 0.76) / 0.24, 0, 1) ** 2, 0, 1))
    half = thick * np.maximum(body, tips)
    return np.concatenate([np.stack([length * t, -half], 1), np.stack([length * t, half], 1)[::-1]])


def _leaf(x: float, y: float, length: float, side: int) -> np.ndarray:
    t = np.linspace(0, 1, 11)
    bulge = length * 0.9 * t * (1 - t)
    spine = np.stack([x + side * length * t, y - length * 0.35 * t], axis=1)
    return np.concatenate([spine - np.stack([0 * t, bulge], 1), (spine + np.stack([0 * t, bulge * 0.5], 1))[::-1]])


def _shade_ball(picture, centre, radii, *, light: float, turn: np.ndarray | None = None) -> None:
    """Nothing; the picture is shaded as a ball lit from the upper left, with a highlight of strength `light`."""
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]].astype(np.float32) + np.float32(0.5)
    x, y = columns - np.float32(centre[0]), rows - np.float32(centre[1])
    if turn is not None:
        x, y = x * np.float32(turn[0, 0]) + y * np.float32(turn[0, 1]), x * np.float32(turn[1, 0]) + y * np.float32(turn[1, 1])
    x, y = x / np.float32(radii[0]), y / np.float32(radii[1])
    z = np.sqrt(np.clip(1 - x * x - y * y, 0, 1))
    shade = 0.56 + 0.64 * np.clip(0.72 * z - 0.36 * x - 0.5 * y, 0, 1)
    glint = np.clip(1 - ((x + 0.36) ** 2 + (y + 0.4) ** 2) / 0.07, 0, 1)
    picture *= shade[..., None].astype(np.float32)
    picture += (light * glint * glint)[..., None].astype(np.float32) * (1 - picture) * np.float32(0.8)
