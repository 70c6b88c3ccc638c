"""The exact class map in NumPy: what `models/restore.py` falls back to, and what its compiled form must equal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from models.axis import Axis
from models.prediction import Prediction

# How much is computed at a time, which bounds memory whatever the photo's size, and what stays in the processor's cache.
_CELLS = 2**13
_PIXELS = 2**15


def restore_in_numpy(prediction: Prediction, rows: Axis, columns: Axis) -> np.ndarray:
    """The class index of each of the photo's pixels, (h, w) uint8; `rows` and `columns` lead from its cells to its pixels."""
    cells = prediction.class_map
    restored = cells.take(columns.first, 1).take(rows.first, 0)
    place = np.zeros(cells.size, np.intp)  # of a cell in the list of border cells
    place[prediction.border_cells] = np.arange(len(prediction.border_cells))
    probabilities = np.ascontiguousarray(prediction.border_probabilities.T)
    step = max(1, _PIXELS // int(rows.count.max() * columns.count.max()))
    for start in range(0, len(prediction.border_cells), _CELLS):
        y, x, around = _disputed(cells, rows, columns, prediction.border_cells[start : start + _CELLS])
        corners = place[around]
        for group, classes in _contenders(probabilities, corners):
            for part in (slice(first, first + step) for first in range(0, len(group), step)):
                chosen = group[part]
                values = probabilities.reshape(-1).take(classes[:, part] * probabilities.shape[1] + corners[:, None, chosen])
                _decide(restored, rows, columns, y[chosen], x[chosen], values.astype(np.float32), classes[:, part])
    return restored


def _disputed(cells: np.ndarray, rows: Axis, columns: Axis, border: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Those of the flat indices `border` that begin some pixels' four cells, not all of one class: y (G,), x (G,), the four (4, G)."""
    height, width = cells.shape
    y, x = np.divmod(border.astype(np.intp), width)
    below, right = width * (y < height - 1), (x < width - 1).astype(np.intp)
    around = y * width + x + np.stack([np.zeros_like(right), right, below, below + right])
    classes = cells.reshape(-1)[around]
    found = np.flatnonzero((classes[1:] != classes[0]).any(0) & (rows.count[y] > 0) & (columns.count[x] > 0))
    return y[found], x[found], around[:, found]


def _contenders(probabilities: np.ndarray, corners: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Which classes may win between four cells, `corners` (4, G), grouped by their number N: places in G (g,), classes (N, g).

    A class may win whose highest of the four `probabilities` (K, M) is not below another's lowest.
    """
    around = probabilities.view(np.uint16).take(corners, 1)  # floats that are not negative order as their bits do, and faster
    may_win = around.max(1) >= around.min(1).max(0)
    number = np.count_nonzero(may_win, 0)
    for each in np.flatnonzero(np.bincount(number)):
        group = np.flatnonzero(number == each)
        yield group, np.nonzero(may_win[:, group].T)[1].reshape(-1, each).T


def _decide(restored: np.ndarray, rows: Axis, columns: Axis, y: np.ndarray, x: np.ndarray, values: np.ndarray, classes: np.ndarray) -> None:
    """Writes the argmax into the pixels (h, w) of the cells (y, x), both (G,).

    Shapes: values (4, N, G) float32, the probabilities at the corners; classes (N, G), whose, ascending.
    """
    count = columns.count[x]
    cell = np.repeat(np.arange(len(x)), count)  # of each column of pixels
    column = np.arange(len(cell)) + (columns.start[x] - np.cumsum(count) + count)[cell]
    top_left, top_right, bottom_left, bottom_right = values.take(cell, 2)
    across = columns.weight[column]
    upper = top_left * (1 - across) + top_right * across
    lower = bottom_left * (1 - across) + bottom_right * across
    row = rows.start[y] + np.minimum(np.arange(rows.count[y].max())[:, None], rows.count[y] - 1)  # short cells repeat their last
    down = rows.weight[row].take(cell, 1)
    up = 1 - down
    classes = classes.astype(np.uint8).take(cell, 1)
    best = upper[0] * up + lower[0] * down
    winner = np.repeat(classes[:1], len(row), 0)
    for index in range(1, len(classes)):
        value = upper[index] * up + lower[index] * down
        np.copyto(winner, classes[index], where=value > best)  # where equal, the lowest index stays
        np.maximum(best, value, out=best)
    restored.reshape(-1)[(row * restored.shape[1]).take(cell, 1) + column] = winner
