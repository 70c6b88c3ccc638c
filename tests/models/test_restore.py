"""The exact inverse of the fit, against the plain computation over all pixels."""

import tracemalloc

import numpy as np
import pytest

from models import restore
from models.prediction import Prediction, compact
from models.restore import restore_class_map, restore_confidence


@pytest.fixture(autouse=True, params=["compiled", "numpy"])
def form(request, monkeypatch):
    """Every test here runs with the compiled kernel and without."""
    if request.param == "numpy":
        monkeypatch.setattr(restore, "compiled_kernel", lambda: None)
    elif restore.compiled_kernel() is None:
        pytest.skip("restore.c was not compiled: no C compiler was here when this was installed")


def predict(probabilities: np.ndarray, original_size: tuple[int, int]) -> Prediction:
    exact = probabilities.astype(np.float32)
    confidence = np.rint(exact.max(0) * 255).astype(np.uint8)
    return compact(exact.argmax(0).astype(np.uint8), confidence, probabilities, original_size)


def plain(probabilities: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear interpolation of every class at every pixel, half-pixel centres, then argmax."""

    def axis(num_cells: int, num_pixels: int):
        position = np.clip((np.arange(num_pixels) + 0.5) * (num_cells / num_pixels) - 0.5, 0, num_cells - 1)
        first = np.floor(position).astype(int)
        return first, np.minimum(first + 1, num_cells - 1), (position - first).astype(np.float32)

    values = probabilities.astype(np.float32)
    top, bottom, down = axis(values.shape[1], size[0])
    left, right, across = axis(values.shape[2], size[1])
    down = down[:, None]
    upper = values[:, top][:, :, left] * (1 - across) + values[:, top][:, :, right] * across
    lower = values[:, bottom][:, :, left] * (1 - across) + values[:, bottom][:, :, right] * across
    return (upper * (1 - down) + lower * down).argmax(0)


@pytest.mark.parametrize("num_classes", [2, 3, 25])
@pytest.mark.parametrize("size", [(64, 48), (31, 77), (1, 200), (200, 1), (7, 5), (1, 1), (333, 123)])
def test_equals_the_plain_computation_at_every_pixel(num_classes, size):
    random = np.random.default_rng(num_classes)
    logits = random.normal(size=(num_classes, 24, 18)) * 3
    logits[0] += 2
    probabilities = (np.exp(logits) / np.exp(logits).sum(0)).astype(np.float16)
    assert (restore_class_map(predict(probabilities, size)) == plain(probabilities, size)).all()


@pytest.mark.parametrize("num_classes", [2, 4, 255])
@pytest.mark.parametrize("size", [(50, 70), (16, 16), (5, 9)])
def test_equals_the_plain_computation_where_classes_tie_everywhere(num_classes, size):
    probabilities = np.random.default_rng(0).choice(np.array([0.25, 0.5], np.float16), size=(num_classes, 16, 16))
    assert (restore_class_map(predict(probabilities, size)) == plain(probabilities, size)).all()


@pytest.mark.parametrize("cells", [(1, 1), (1, 2), (9, 1), (1, 30), (2, 2), (40, 3)])
@pytest.mark.parametrize("size", [(1, 1), (1, 17), (13, 1), (37, 29), (80, 6)])
def test_equals_the_plain_computation_on_few_cells(cells, size):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(255), size=cells).transpose(2, 0, 1).astype(np.float16)
    assert (restore_class_map(predict(probabilities, size)) == plain(probabilities, size)).all()


@pytest.mark.parametrize("size", [(97, 131), (20, 11)])
def test_equals_the_plain_computation_among_the_smallest_differences_and_probabilities(size):
    """Neighbouring float16 numbers, from zero and the subnormal ones to just below one."""
    random = np.random.default_rng(0)
    bits = random.choice(np.array([0, 1, 2, 0x03FF, 0x0400, 0x37FF, 0x3800, 0x3801, 0x3BFE, 0x3BFF], np.uint16), size=(6, 30, 20))
    assert (restore_class_map(predict(bits.view(np.float16), size)) == plain(bits.view(np.float16), size)).all()


def test_equals_the_plain_computation_on_regions_with_soft_borders():
    y, x = np.mgrid[:60, :80]
    scores = np.stack([np.hypot(y - 12 * k, x - 17 * k) / -3 for k in range(5)])
    probabilities = (np.exp(scores) / np.exp(scores).sum(0)).astype(np.float16)
    assert (restore_class_map(predict(probabilities, (427, 641))) == plain(probabilities, (427, 641))).all()


def test_memory_beyond_the_mask_does_not_grow_with_the_photo():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), size=(48, 64)).transpose(2, 0, 1).astype(np.float16)
    prediction = predict(probabilities, (1500, 2000))
    tracemalloc.start()
    mask = restore_class_map(prediction)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < mask.nbytes + 8e6


def test_agrees_with_torch_but_for_rounding():
    import torch

    probabilities = np.random.default_rng(1).dirichlet(np.ones(3), size=(20, 30)).transpose(2, 0, 1).astype(np.float16)
    upsampled = torch.nn.functional.interpolate(torch.from_numpy(probabilities).float()[None], size=(90, 111), mode="bilinear")
    assert (restore_class_map(predict(probabilities, (90, 111))) == upsampled[0].argmax(0).numpy()).mean() > 0.9999


def test_a_third_class_may_win_between_two_others():
    probabilities = np.array([[[0.6, 0.0]], [[0.0, 0.6]], [[0.4, 0.4]]], np.float16)
    assert restore_class_map(predict(probabilities, (1, 8))).tolist() == [[0, 0, 0, 2, 2, 1, 1, 1]]


def test_a_photo_of_the_models_size_keeps_every_cell():
    probabilities = np.random.default_rng(2).dirichlet(np.ones(5), size=(9, 13)).transpose(2, 0, 1).astype(np.float16)
    prediction = predict(probabilities, (9, 13))
    assert (restore_class_map(prediction) == prediction.class_map).all()
    assert (restore_confidence(prediction) == prediction.confidence).all()
