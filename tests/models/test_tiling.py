from __future__ import annotations

import numpy as np
import pytest

from models.bundle import load_bundle
from models.label_set import LabelSet
from models.restore import restore_class_map
from models.tiling import blend_tiles, cut_tiles, plan_tiles

LABELS = LabelSet.from_names(["background", "can", "box"])


def test_an_image_that_fits_is_one_tile():
    plan = plan_tiles((48, 64), (64, 64), max_tiles=16)
    assert plan.canvas_size == plan.tile_size == (48, 64) and plan.corners == [(0, 0)]


def test_tiles_cover_the_image_and_overlap_by_a_quarter():
    plan = plan_tiles((100, 160), (64, 64), max_tiles=16)
    assert plan.canvas_size == (100, 160)
    assert plan.tops == (0, 36) and plan.lefts == (0, 48, 96)


@pytest.mark.parametrize("size", [(3024, 4032), (10, 60_000), (60_000, 10), (8000, 8000), (65, 64)])
@pytest.mark.parametrize("max_tiles", [1, 5, 16])
def test_however_large_the_image_the_tiles_are_few_and_cover_it(size, max_tiles):
    plan = plan_tiles(size, (64, 64), max_tiles)
    assert 1 <= len(plan.corners) <= max_tiles
    covered = np.zeros(plan.canvas_size, bool)
    for top, left in plan.corners:
        covered[top : top + plan.tile_size[0], left : left + plan.tile_size[1]] = True
    assert covered.all()


def test_tiles_are_the_image_itself_where_it_need_not_shrink():
    image = np.random.default_rng(0).integers(0, 256, (40, 160, 3), np.uint8)
    plan = plan_tiles(image.shape[:2], (64, 64), max_tiles=16)
    for (top, left), tile in zip(plan.corners, cut_tiles(image, plan, (64, 64)).tiles, strict=True):
        assert tile.pixels.shape == (64, 64, 3)
        np.testing.assert_array_equal(tile.pixels[tile.content.slices], image[top : top + 40, left : left + 64])


def test_tiles_that_agree_blend_to_what_they_say():
    random = np.random.default_rng(0)
    whole = random.dirichlet([1, 1, 1], (100, 160)).transpose(2, 0, 1).astype(np.float16)
    plan = plan_tiles((100, 160), (64, 64), max_tiles=16)
    tiles = [whole[:, top : top + 64, left : left + 64] for top, left in plan.corners]
    prediction = blend_tiles(plan, tiles, (100, 160), LABELS)
    ordered = np.sort(whole.astype(np.float32), axis=0)
    is_clear = ordered[-1] - ordered[-2] > 0.002  # float16 rounds the blend anew
    np.testing.assert_array_equal(restore_class_map(prediction)[is_clear], whole.argmax(0)[is_clear])
    np.testing.assert_allclose(prediction.confidence, whole.max(0).astype(np.float32) * 255, atol=0.8)


def test_the_tile_in_whose_middle_a_pixel_lies_counts_most():
    plan = plan_tiles((64, 112), (64, 64), max_tiles=16)
    assert plan.corners == [(0, 0), (0, 48)]
    left, right = (np.zeros((2, 64, 64), np.float16) for _ in range(2))
    left[0], right[1] = 1, 1
    row = restore_class_map(blend_tiles(plan, [left, right], (64, 112), LabelSet.from_names(["background", "can"])))[32]
    assert row[:56].tolist() == [0] * 56 and row[56:].tolist() == [1] * 56  # the middle of the overlap, 48 to 64


def test_a_segmenter_gives_a_tiles_probabilities(bundle_folder):
    segmenter = load_bundle(bundle_folder)
    image = np.random.default_rng(0).integers(0, 256, (40, 160, 3), np.uint8)
    plan = plan_tiles(image.shape[:2], (64, 64), max_tiles=16)
    tiled = cut_tiles(image, plan, (64, 64))
    probabilities = segmenter.predict(tiled.tiles)
    assert [each.shape for each in probabilities] == [(3, 40, 64)] * 3
    np.testing.assert_allclose(np.sum(probabilities[0], axis=0, dtype=np.float32), 1, atol=2e-3)
    assert restore_class_map(blend_tiles(plan, probabilities, tiled.original_size, LABELS)).shape == (40, 160)
