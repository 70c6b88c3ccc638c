"""From the model's cells back to the photo's own pixels: the argmax of upsampled probabilities.

Where the four cells around a pixel agree on a class, bilinear interpolation cannot change it, and a class that is below another
in all four cannot win (float16 probabilities differ by far more than float32 rounds). So only the pixels between cells that
disagree are computed, and there only the classes that may win: by `restore.c`, which the installation compiles where there is a C
compiler, else by `restore_numpy.py`. Both give the same bits.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable
from functools import cache, lru_cache

import cv2
import numpy as np

from models.axis import Axis
from models.prediction import Prediction
from models.restore_numpy import restore_in_numpy

_LIBRARY = "maskworks_restore"  # its name in pyproject.toml


def restore_class_map(prediction: Prediction) -> np.ndarray:
    """The class index of each of the photo's pixels, (h, w) uint8: bilinear probabilities, then argmax."""
    rows, columns = (Axis.between(*pair) for pair in zip(prediction.class_map.shape, prediction.original_size))
    kernel = compiled_kernel()
    return _restore_compiled(kernel, prediction, rows, columns) if kernel else restore_in_numpy(prediction, rows, columns)


def restore_confidence(prediction: Prediction) -> np.ndarray:
    """The winner's probability times 255 at each of the photo's pixels, (h, w) uint8, bilinear."""
    h, w = prediction.original_size
    return cv2.resize(prediction.confidence, (w, h), interpolation=cv2.INTER_LINEAR)


@cache
def compiled_kernel() -> Callable | None:
    """What `restore.c` exports, or None where it was not compiled."""
    library = importlib.util.find_spec(_LIBRARY)
    if library is None:
        return None
    kernel = ctypes.CDLL(library.origin).maskworks_restore_class_map
    number, array, axis = ctypes.c_int64, ctypes.c_void_p, ctypes.POINTER(_CAxis)
    kernel.argtypes, kernel.restype = [array, array, number, array, number, axis, axis, array, array, array], None
    return kernel


class _CAxis(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("num_cells", "num_pixels")),
        *((name, ctypes.c_void_p) for name in ("start", "count", "weight")),
    ]


@lru_cache(maxsize=32)
def _c_axis(axis: Axis) -> _CAxis:
    pointers = (array.ctypes.data for array in (axis.start, axis.count, axis.weight))
    return _CAxis(len(axis.count), len(axis.first), *pointers)


def _restore_compiled(kernel: Callable, prediction: Prediction, rows: Axis, columns: Axis) -> np.ndarray:
    cells, border = (np.ascontiguousarray(each) for each in (prediction.class_map, prediction.border_cells))
    probabilities = np.ascontiguousarray(prediction.border_probabilities)
    restored = np.empty(prediction.original_size, np.uint8)
    place, line = np.empty(cells.size, np.int32), np.empty(restored.shape[1] + 8, np.uint8)
    inputs = cells.ctypes.data, border.ctypes.data, len(border), probabilities.ctypes.data, probabilities.shape[1]
    kernel(*inputs, _c_axis(rows), _c_axis(columns), restored.ctypes.data, place.ctypes.data, line.ctypes.data)
    return restored
