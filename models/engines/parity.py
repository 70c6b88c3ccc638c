"""How well an engine agrees with another one."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from models.engines import Engine, EngineOptions, EngineRefused
from models.metrics import class_iou, confusion_counts, pixel_accuracy, region_outcomes
from models.spec import SegmenterSpec

_BATCH_SIZE = 8
_NUM_DRAWN = 4  # each waits for two engines, before a process is ready


@dataclass(frozen=True)
class Parity:
    """`pixel_agreement`: the share of pixels given the same class. `class_iou`: IoU of each class with the reference's masks as the
    truth, None for a class in neither. `largest_difference`: of any two numbers of the output."""

    num_images: int
    pixel_agreement: float
    class_iou: list[float | None]
    largest_difference: float


def compare(reference: Engine, engine: Engine, images: np.ndarray, num_classes: int) -> Parity:
    """The agreement over all `images` (N, H, W, 3) uint8, alone and in batches. Padding counts as any other pixel does."""
    counts, largest = 0, 0.0
    starts = [0, *range(1, len(images), _BATCH_SIZE)]
    for start, end in zip(starts, [*starts[1:], len(images)]):
        expected, given = (each.compute(images[start:end]).float().cpu().numpy() for each in (reference, engine))
        classes = [outputs[:, :num_classes].argmax(axis=1).astype(np.uint8) for outputs in (expected, given)]
        counts = counts + confusion_counts(*classes, num_classes)
        largest = max(largest, float(np.abs(expected - given).max()))
    outcomes = region_outcomes(counts)
    iou = [None if np.isnan(value) else float(value) for value in class_iou(outcomes)]
    return Parity(len(images), float(pixel_accuracy(outcomes)), iou, largest)


def refuse_below_floor(engine: Engine, reference: Engine, spec: SegmenterSpec, options: EngineOptions) -> None:
    """Raises `EngineRefused` where the engine gives too few pixels of some drawn images the class that `reference` gives them."""
    images = drawn_images(spec.input_size, _NUM_DRAWN)
    agreement = compare(reference, engine, images, len(spec.label_set)).pixel_agreement
    if agreement < options.min_parity:
        raise EngineRefused(
            f"engine {options.name} agrees with torch on {agreement:.4%} of the pixels of {_NUM_DRAWN} drawn images, "
            f"and min_parity asks for {options.min_parity:.4%}; serve with engine=torch, or lower min_parity"
        )


def drawn_images(input_size: tuple[int, int], num_images: int) -> np.ndarray:
    """Images of smooth colour, shapes and noise, always the same: (N, H, W, 3) uint8."""
    return np.stack([_draw(input_size, np.random.default_rng(seed)) for seed in range(num_images)])


def _draw(input_size: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    height, width = input_size
    image = cv2.resize(random.integers(0, 255, (3, 4, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(6):
        x, y, radius = (int(random.integers(0, side)) for side in (width, height, max(2, min(input_size) // 3)))
        cv2.circle(image, (x, y), radius, random.integers(0, 255, 3).tolist(), cv2.FILLED)
    noisy = image + random.normal(0, 8, image.shape)
    return noisy.clip(0, 255).astype(np.uint8)
