"""Drawn packages: cans, boxes and bottles. Their colours overlap on purpose, so that shape alone tells them apart."""

import numpy as np

from pipelines.data.scenes_shapes import (
    Sprite,
    accent_colour,
    coverage_of,
    ellipse,
    front_arc,
    package_colour,
    paint,
    printed_shape,
    rectangle,
)

MARGIN = 2  # empty pixels around a sprite, so that its antialiased edge is whole


def draw_can(rng: np.random.Generator, scale: float) -> Sprite:
    """A can: a squat tin or a slim drinks can with a narrower lid, label, print, rims and at times a ring pull."""
    slim = rng.uniform() < 0.4
    radius = scale * (rng.uniform(12, 14.5) if slim else rng.uniform(14, 19.5))
    lid = radius * (rng.uniform(0.8, 0.87) if slim else 0.97)
    height = radius * (rng.uniform(3.3, 3.8) if slim else rng.uniform(1.5, 2.9))
    tilt = rng.uniform(0.2, 0.32)
    x, top = radius + MARGIN, lid * tilt + MARGIN
    bottom = top + height
    size = int(np.ceil(bottom + radius * tilt + MARGIN)), int(np.ceil(2 * x))
    neck = top + (radius * 0.28 if slim else 1.5)
    lid_outline = ellipse(x, top, lid, lid * tilt)
    base = front_arc(x, bottom, radius, radius * tilt)
    body = np.array([(x - lid, top), (x - radius, neck), *base, (x + radius, neck), (x + lid, top)])
    picture = np.empty((*size, 3), np.float32)
    picture[:] = rng.uniform(0.7, 0.84)
    rim = height * rng.uniform(0.02, 0.1)
    upper, lower = (neck if slim else top + rim + 1, bottom - rim - 1)
    _wrap_label(rng, picture, (x, radius, tilt), (upper, lower))
    half_widths = np.full(size[0], radius)
    _shade_round(picture, x, half_widths, shine=rng.uniform(0.25, 0.6))
    for y, tone in ((bottom - 0.6, 0.4), (lower, 0.55), (upper, 0.6)):
        paint(picture, _wrap(x, radius, tilt, y - 0.7, y + 0.5), (tone * 0.6,) * 3, strength=0.4)
    _paint_lid(rng, picture, (x, top), (lid, lid * tilt))
    coverage = np.maximum(coverage_of(body, size), coverage_of(lid_outline, size))
    return Sprite(picture, coverage, np.ones(size, np.float32), (x, bottom), radius, radius * tilt)


def draw_box(rng: np.random.Generator, scale: float) -> Sprite:
    """A box: a printed front, a top face and, most times, a darker side face in oblique perspective."""
    width, height = scale * rng.uniform(26, 46), scale * rng.uniform(36, 68)
    if rng.uniform() < 0.2:
        width, height = scale * rng.uniform(40, 50), scale * rng.uniform(22, 32)
    slide = 0.0 if rng.uniform() < 0.25 else scale * rng.uniform(5, 12) * rng.choice((-1, 1))
    rise = scale * rng.uniform(2.5, 6)
    left, top = MARGIN + max(-slide, 0), MARGIN + rise
    right, bottom = left + width, top + height
    size = int(np.ceil(bottom + MARGIN)), int(np.ceil(right + max(slide, 0) + MARGIN))
    base = package_colour(rng)
    ink = accent_colour(rng, base)
    picture = np.empty((*size, 3), np.float32)
    picture[:] = base
    _print_front(rng, picture, (left, top, right, bottom), ink)
    picture *= np.linspace(1.04, 0.9, size[0], dtype=np.float32)[:, None, None]
    base = np.asarray(base)
    lid = np.array([(left, top), (left + slide, top - rise), (right + slide, top - rise), (right, top)])
    paint(picture, lid, np.clip(base * 1.05 + 0.12, 0, 1))
    if slide:
        near = right if slide > 0 else left
        side = np.array([(near, top), (near + slide, top - rise), (near + slide, bottom - rise), (near, bottom)])
        paint(picture, side, base * (0.58 if slide > 0 else 0.74))
        stripe = side.copy()
        stripe[:2, 1] += height * 0.62
        stripe[2:, 1] -= height * 0.2
        paint(picture, stripe, np.asarray(ink) * 0.7, strength=0.8)
        paint(picture, rectangle(near - 0.5, top, near + 0.5, bottom), np.clip(base * 1.2 + 0.08, 0, 1), strength=0.6)
    paint(picture, rectangle(left, top - 0.5, right, top + 0.5), np.clip(base * 1.2 + 0.1, 0, 1), strength=0.7)
    corners = [(left, bottom), (left, top), *lid[1:3], (right, top), (right, bottom)]
    if slide > 0:
        corners[4] = right + slide, bottom - rise
    elif slide < 0:
        corners[1] = left + slide, bottom - rise
    coverage = coverage_of(np.array(corners), size)
    anchor = (left + right + slide) / 2, bottom - rise / 2
    return Sprite(np.clip(picture, 0, 1), coverage, np.ones(size, np.float32), anchor, (width + abs(slide)) / 2, rise)


def draw_bottle(rng: np.random.Generator, scale: float) -> Sprite:
    """A bottle: body, shoulder, neck, cap and label, of glass that lets the background through or of plain plastic."""
    radius = scale * rng.uniform(10, 14)
    height = min(radius * rng.uniform(5.2, 7.4), scale * 84)
    tilt = 0.16
    x, top = radius + MARGIN, MARGIN + 1.0
    bottom = top + height
    size = int(np.ceil(bottom + radius * tilt + MARGIN)), int(np.ceil(2 * x))
    heights, halves = _bottle_profile(rng)
    rows = (bottom - (np.arange(size[0]) + 0.5)) / height
    half_widths = radius * np.interp(rows, heights, halves)
    glass = rng.uniform() < 0.65
    tint = np.asarray(package_colour(rng))
    picture = np.empty((*size, 3), np.float32)
    picture[:] = tint
    if glass:
        level = bottom - height * rng.uniform(0.5, 0.8)
        paint(picture, rectangle(0, 0, size[1], level), np.clip(tint * 0.5 + 0.45, 0, 1), strength=0.75)
        paint(picture, ellipse(x, level, radius, radius * tilt), np.clip(tint * 0.8 + 0.2, 0, 1), strength=0.6)
    label = bottom - height * rng.uniform(0.4, 0.5), bottom - height * rng.uniform(0.1, 0.16)
    _wrap_label(rng, picture, (x, radius, tilt), label)
    _shade_round(picture, x, half_widths, shine=0.75 if glass else 0.3)
    cap = bottom - height * heights[-3]
    lid = package_colour(rng)
    cap_radius = radius * halves[-3]
    paint(picture, _wrap(x, cap_radius + 1, tilt, 0, cap), lid)
    columns = (np.arange(size[1], dtype=np.float32) + 0.5 - x) / cap_radius
    crown = int(cap) + 1
    picture[:crown] *= (1.05 - 0.4 * np.clip(np.abs(columns + 0.3), 0, 1.2)).astype(np.float32)[None, :, None]
    paint(picture, ellipse(x, top + 1, cap_radius * 0.9, cap_radius * 0.22), np.clip(np.asarray(lid) * 0.8 + 0.25, 0, 1))
    opacity = np.ones((*size, 1), np.float32)
    if glass:
        opacity[:] = rng.uniform(0.66, 0.85)
        paint(opacity, _wrap(x, radius + 1, tilt, *label), (1.0,))
        paint(opacity, _wrap(x, radius + 1, tilt, 0, cap), (1.0,))
    base = front_arc(x, bottom - 1, radius * 0.97, radius * tilt)
    left, right = (np.stack([x + side * radius * halves, bottom - height * heights], 1) for side in (-1, 1))
    outline = np.concatenate([left[::-1], base, right])
    return Sprite(np.clip(picture, 0, 1), coverage_of(outline, size), opacity[..., 0], (x, bottom), radius, radius * tilt * 1.5)


def _bottle_profile(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Heights above the base (0..1, rising) and the half width there as a share of the radius; the cap is the last 3."""
    body, neck = rng.uniform(0.45, 0.66), rng.uniform(0.32, 0.52)
    shoulder = min(body + rng.uniform(0.1, 0.24), 0.82)
    rise = np.linspace(0, 1, 9)
    bend = rise * rise * (3 - 2 * rise)
    cap = rng.uniform(0.87, 0.92)
    heights = np.concatenate([[0.02], body + (shoulder - body) * rise, [cap - 0.005, cap, 0.985, 1.0]])
    wide = neck * rng.uniform(1.1, 1.3)
    halves = np.concatenate([[1.0], 1 - (1 - neck) * bend, [neck, wide, wide, wide * 0.8]])
    return heights, halves


def _wrap(x: float, radius: float, tilt: float, top: float, bottom: float) -> np.ndarray:
    """The outline of a band around an upright cylinder between two heights."""
    return np.concatenate([front_arc(x, top, radius, radius * tilt), front_arc(x, bottom, radius, radius * tilt)[::-1]])


def _wrap_label(rng, picture, cylinder: tuple[float, float, float], span: tuple[float, float]) -> None:
    """Nothing; a label with stripes or a printed mark is painted around the cylinder (x, radius, tilt)."""
    x, radius, tilt = cylinder
    top, bottom = span
    base = package_colour(rng)
    ink, second = accent_colour(rng, base), accent_colour(rng, base)
    height = bottom - top
    paint(picture, _wrap(x, radius + 1, tilt, top, bottom), base)
    style = int(rng.integers(4))
    bands = ([], [(0.0, 0.16), (0.84, 1.0)], [(0.62, 0.9)], [(0.25, 0.78)])[style]
    for start, end in bands:
        paint(picture, _wrap(x, radius + 1, tilt, top + height * start, top + height * end), ink if style != 3 else second)
    reach = min(radius * 0.58, height * 0.3)
    middle = top + height * (0.36 if style == 2 else 0.5)
    for mark in printed_shape(rng):
        across = np.clip(mark[:, 0] * reach / radius, -1, 1)
        drop = radius * tilt * np.sqrt(1 - across * across)
        paint(picture, np.stack([x + across * radius, middle + mark[:, 1] * reach + drop], 1), second if style != 3 else base)


def _shade_round(picture: np.ndarray, x: float, half_widths: np.ndarray, *, shine: float) -> None:
    """Nothing; each row is shaded as an upright cylinder of that half width, lit from the left."""
    columns = np.arange(picture.shape[1], dtype=np.float32) + np.float32(0.5 - x)
    across = columns[None] / np.maximum(half_widths, 1).astype(np.float32)[:, None]
    shade = np.clip(1.08 - 0.5 * (across + 0.3) ** 2, 0.35, 1.1)
    glint = np.clip(1 - ((across + 0.5) / 0.2) ** 2, 0, 1)
    edge = np.clip((across - 0.7) / 0.3, 0, 1) * 0.12
    picture *= shade[..., None]
    picture += (shine * 0.55 * glint + edge * shine)[..., None].astype(np.float32) * (1 - picture)
    np.clip(picture, 0, 1, out=picture)


def _paint_lid(rng, picture, centre: tuple[float, float], radii: tuple[float, float]) -> None:
    """Nothing; a metal lid with a bright rim, a sunken plate, a groove and at times a ring pull."""
    (x, y), (wide, deep) = centre, radii
    metal = rng.uniform(0.74, 0.86)
    for grow, light in ((1.0, 0.75), (0.97, 1.16), (0.86, 0.62), (0.8, 0.95), (0.6, 0.85), (0.56, 1.0)):
        sunken = 0.4 if grow < 0.9 else 0.0
        paint(picture, ellipse(x, y + sunken, wide * grow, deep * grow), (min(metal * light, 1.0),) * 3)
    if rng.uniform() < 0.6:
        paint(picture, ellipse(x, y + deep * 0.25, wide * 0.26, deep * 0.32), (metal * 0.5,) * 3)
        paint(picture, ellipse(x, y + deep * 0.32, wide * 0.14, deep * 0.16), (metal * 1.05,) * 3)


def _print_front(rng, picture, front: tuple[float, float, float, float], ink) -> None:
    """Nothing; a box front gets a band, a panel or a slanted field, one printed mark and lines that stand for text."""
    left, top, right, bottom = front
    width, height = right - left, bottom - top
    field = package_colour(rng)
    style = int(rng.integers(4))
    if style == 0:
        paint(picture, rectangle(left, top + height * 0.62, right, top + height * 0.8), ink)
    elif style == 1:
        paint(picture, rectangle(left + width * 0.1, top + height * 0.12, right - width * 0.1, top + height * 0.66), field)
    elif style == 2:
        paint(picture, np.array([(left, top + height * 0.55), (right, top + height * 0.3), (right, bottom), (left, bottom)]), field)
    else:
        paint(picture, rectangle(left, top, right, top + height * 0.2), ink)
    reach = min(width * 0.3, height * 0.2)
    centre = np.array((left + width / 2, top + height * 0.4))
    mark_colour = accent_colour(rng, field) if style == 1 else ink
    for mark in printed_shape(rng):
        paint(picture, centre + mark * reach, mark_colour)
    for line in range(int(rng.integers(1, 4))):
        y = bottom - height * (0.06 + 0.055 * line)
        paint(picture, rectangle(left + width * 0.14, y - height * 0.018, left + width * rng.uniform(0.5, 0.88), y), ink, strength=0.8)
