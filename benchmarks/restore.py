"""What the exact class map costs beside a nearest-neighbour resize: `python -m benchmarks.restore`.

`nearest` is OpenCV's, `indexing` NumPy's, both of the class map alone; `plain` upsamples the probabilities of all classes at all
pixels by the formula of `models.restore` and takes the argmax. Medians of interleaved rounds, every function on one thread; all but
`plain` several times in a row, so that none begins with the memory that another one left cold.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import tyro

from models.fit import content_of
from models.prediction import Prediction, compact
from models.restore import restore_class_map

_INPUT_SIZE = (256, 256)
_REPEATS = 9
_STRIP = 64  # pixel rows of the plain computation at a time: 25 classes of 12 megapixels would not fit into memory


@dataclass(frozen=True)
class Options:
    """What to measure."""

    json: Path | None = None
    """Where to write the rows as well."""
    sizes: tuple[tuple[int, int], ...] = ((427, 640), (512, 512), (3024, 4032))
    """Height and width of the photos; the model's input is 256 x 256, letterboxed."""
    num_classes: tuple[int, ...] = (3, 25)
    contents: tuple[Literal["objects", "noise"], ...] = ("objects", "noise")
    """Ellipses with soft borders, or every cell different from its neighbours."""
    rounds: int = 9


@dataclass(frozen=True)
class Row:
    content: str
    photo: str
    num_classes: int
    disputed: float
    nearest_ms: float
    indexing_ms: float
    ours_ms: float
    plain_ms: float
    ours_to_nearest: float
    ours_to_indexing: float
    plain_to_ours: float


def main(options: Options) -> None:
    """Measures and prints."""
    cv2.setNumThreads(1)
    rows: list[Row] = []
    print("  ".join(f"{name:>16}" for name in Row.__annotations__))
    for content in options.contents:
        for num_classes in options.num_classes:
            for size in options.sizes:
                rows.append(measure(content, size, num_classes, options.rounds))
                print("  ".join(f"{value:>16}" for value in asdict(rows[-1]).values()), flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def measure(content: Literal["objects", "noise"], size: tuple[int, int], num_classes: int, rounds: int) -> Row:
    """One row of the table; raises AssertionError where the restored class map is not the plain one."""
    H, W = (lambda fitted: (fitted.height, fitted.width))(content_of(size, _INPUT_SIZE, "letterbox"))
    scores = {"objects": objects, "noise": noise}[content](num_classes, H, W)
    probabilities = np.exp(scores - scores.max(0))
    probabilities = (probabilities / probabilities.sum(0)).astype(np.float16)
    prediction = compact(probabilities.argmax(0).astype(np.uint8), np.zeros((H, W), np.uint8), probabilities, size)
    assert (restore_class_map(prediction) == plain(probabilities, size)).all()
    ours, nearest, indexing, full = medians_ms(
        [
            lambda: restore_class_map(prediction),
            lambda: cv2.resize(prediction.class_map, size[::-1], interpolation=cv2.INTER_NEAREST),
            lambda: index_nearest(prediction),
            lambda: plain(probabilities, size),
        ],
        rounds,
    )
    cells = prediction.class_map
    disputed = (cells[:-1, :-1] != cells[1:, :-1]) | (cells[:-1, :-1] != cells[:-1, 1:]) | (cells[:-1, :-1] != cells[1:, 1:])
    return Row(
        content,
        f"{size[1]}x{size[0]}",
        num_classes,
        round(float(disputed.mean()), 3),
        *(round(value, 3) for value in (nearest, indexing, ours, full)),
        *(round(value, 1) for value in (ours / nearest, ours / indexing, full / ours)),
    )


def objects(num_classes: int, height: int, width: int) -> np.ndarray:
    """Scores (K, H, W) of ellipses over a background, as many as a shelf or a street shows."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    scores = random.normal(size=(num_classes, 1, 1)) - 6 + np.zeros((num_classes, height, width), np.float32)
    scores[0] = 0
    for index in range(24):
        center_y, center_x = random.uniform(0, height), random.uniform(0, width)
        radii = random.uniform(6, 40, 2)
        distance = np.hypot((y - center_y) / radii[0], (x - center_x) / radii[1])
        score = 6 * np.tanh((1 - distance) * radii.min() / 3)  # goes from sure to sure over a few cells
        kind = 1 + index % (num_classes - 1)
        scores[kind] = np.maximum(scores[kind], score)
    return scores


def noise(num_classes: int, height: int, width: int) -> np.ndarray:
    """Scores (K, H, W) with no two cells alike."""
    return np.random.default_rng(0).normal(size=(num_classes, height, width)) * 3


def plain(probabilities: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The argmax of all classes' bilinear probabilities (K, H, W) at all pixels, (h, w) uint8."""
    values = probabilities.astype(np.float32)
    top, bottom, down = between(values.shape[1], size[0])
    left, right, across = between(values.shape[2], size[1])
    result = np.empty(size, np.uint8)
    for start in range(0, size[0], _STRIP):
        strip = slice(start, start + _STRIP)
        upper, lower = values[:, top[strip]], values[:, bottom[strip]]
        upper = upper[:, :, left] * (1 - across) + upper[:, :, right] * across
        lower = lower[:, :, left] * (1 - across) + lower[:, :, right] * across
        result[strip] = (upper * (1 - down[strip, None]) + lower * down[strip, None]).argmax(0)
    return result


def between(num_cells: int, num_pixels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each pixel its first and second cell and the second one's weight."""
    position = np.clip((np.arange(num_pixels) + 0.5) * (num_cells / num_pixels) - 0.5, 0, num_cells - 1)
    first = np.floor(position).astype(np.intp)
    return first, np.minimum(first + 1, num_cells - 1), (position - first).astype(np.float32)


def index_nearest(prediction: Prediction) -> np.ndarray:
    """The class map at the photo's size by two gathers, columns first because those are short."""
    rows, columns = (
        np.arange(pixels) * cells // pixels for cells, pixels in zip(prediction.class_map.shape, prediction.original_size, strict=True)
    )
    return prediction.class_map.take(columns, 1).take(rows, 0)


def medians_ms(functions: list[Callable[[], object]], rounds: int) -> list[float]:
    """The median time of each, called in turn in each round: the last, which is slow, once, the others `_REPEATS` times."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for index, (function, own) in enumerate(zip(functions, times, strict=True)):
            for _ in range(1 if index == len(functions) - 1 else _REPEATS):
                start = time.thread_time()
                function()
                own.append((time.thread_time() - start) * 1e3)
    return [statistics.median(own) for own in times]


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
