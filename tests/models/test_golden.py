"""Golden pictures tell a bundle that still gives its masks from one that does not."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.bundle import load_bundle
from models.golden import FOLDER, GoldenMissing, check_golden, write_golden
from models.segmenter import Segmenter


def jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def size_of(file: Path) -> tuple[int, int]:
    with Image.open(file) as image:
        return image.size


@pytest.fixture(scope="module")
def segmenter(bundle_folder) -> Segmenter:
    return load_bundle(bundle_folder)


@pytest.fixture(scope="module")
def golden(segmenter, tmp_path_factory):
    random = np.random.default_rng(0)
    smooth = [random.integers(0, 256, (5, 6, 3), np.uint8).repeat(30, 0).repeat(30, 1) for _ in range(3)]
    wide = random.integers(0, 256, (4, 13, 3), np.uint8).repeat(100, 0).repeat(100, 1)
    return write_golden(tmp_path_factory.mktemp("bundle") / FOLDER, segmenter, [*map(jpeg, smooth), jpeg(wide)])


def test_the_segmenter_that_wrote_them_agrees_on_every_pixel(golden, segmenter):
    agreement = check_golden(golden, segmenter)
    assert agreement.pixels == agreement.worst_iou == 1 and agreement.is_enough
    assert [size_of(golden / name) for name in ("0.jpg", "3.jpg", "3.png")] == [(180, 150), (1024, 315), (1024, 315)]


def test_a_damaged_class_is_named(golden, bundle_folder):
    damaged = load_bundle(bundle_folder)
    with torch.no_grad():  # class 1 wins nowhere any more
        head = [each for each in damaged.network.modules() if isinstance(each, torch.nn.Conv2d)][-1]
        head.weight[1], head.bias[1] = 0, -100
    agreement = check_golden(golden, damaged)
    assert not agreement.is_enough
    assert agreement.worst_class == damaged.spec.label_set.names[1] and agreement.worst_iou == 0
    assert "'background'" in str(agreement) and "99.9% must" in str(agreement)


def test_written_again_they_replace_the_old_ones(segmenter, tmp_path):
    photo = jpeg(np.zeros((20, 20, 3), np.uint8))
    write_golden(tmp_path / FOLDER, segmenter, [photo, photo])
    write_golden(tmp_path / FOLDER, segmenter, [photo])
    assert sorted(each.name for each in (tmp_path / FOLDER).iterdir()) == ["0.jpg", "0.png", "golden.json"]
    assert [each.name for each in tmp_path.iterdir()] == [FOLDER]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "golden.json").unlink(),
        lambda folder: (folder / "golden.json").write_text("{"),
        lambda folder: (folder / "golden.json").write_text('{"format": 2}'),
        lambda folder: (folder / "golden.json").write_text(
            json.dumps({"format": 1, "min_agreement": 1, "min_class_iou": 1, "pictures": []})
        ),
        lambda folder: (folder / "0.jpg").write_bytes(b"no picture"),
        lambda folder: (folder / "0.png").write_bytes((folder / "0.png").read_bytes()[:80]),
        lambda folder: (folder / "0.png").write_bytes(b""),
        lambda folder: Image.fromarray(np.zeros((7, 7), np.uint8)).save(folder / "0.png"),
    ],
)
def test_damaged_ones_are_as_good_as_none(spoil, segmenter, tmp_path):
    folder = write_golden(tmp_path / FOLDER, segmenter, [jpeg(np.zeros((20, 20, 3), np.uint8))])
    spoil(folder)
    with pytest.raises(GoldenMissing, match=str(folder)):
        check_golden(folder, segmenter)


def test_no_photos_are_refused(segmenter, tmp_path):
    with pytest.raises(ValueError, match="give one or more"):
        write_golden(tmp_path / FOLDER, segmenter, [])
