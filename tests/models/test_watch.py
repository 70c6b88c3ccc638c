"""Drift without labels: measures with known values, and real photos, blurred and darkened."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest

from models.bundle import load_bundle
from models.fit import fit_image
from models.image import decode_image
from models.prediction import Prediction
from models.spec import InvalidBundle
from models.watch import REFERENCE, DriftWindow, Reference, measure, read_reference, write_reference


def prediction_of(class_map: np.ndarray, confidence: int = 255) -> Prediction:
    return Prediction(
        class_map, np.full(class_map.shape, confidence, np.uint8), np.empty(0, np.int32), np.empty((0, 3), np.float16), (8, 8)
    )


def test_measures_of_a_small_picture(pet_labels):
    class_map = np.ones((4, 4), np.uint8)  # background
    class_map[0, 0] = class_map[3, 3] = 0
    class_map[3, 0] = 2
    image = fit_image(np.full((4, 4, 3), 51, np.uint8), (4, 4), "letterbox")
    measures = measure(image, prediction_of(class_map, confidence=102), pet_labels)
    assert measures == pytest.approx(
        {"brightness": 0.2, "sharpness": 0, "confidence": 0.4, "fragments": 3, "empty": 0}
        | {"share/pet": 2 / 16, "share/background": 13 / 16, "share/border": 1 / 16}
    )


def test_padding_is_not_looked_at(pet_labels):
    image = fit_image(np.zeros((2, 8, 3), np.uint8), (8, 8), "letterbox")
    measures = measure(image, prediction_of(np.ones((2, 8), np.uint8)), pet_labels)
    assert (measures["brightness"], measures["sharpness"], measures["empty"], measures["fragments"]) == (0, 0, 1, 0)


def window_of(live: list[float], reference: list[float], size: int = 256) -> DriftWindow:
    window = DriftWindow(Reference.of([{"x": value} for value in reference]), size)
    for value in live:
        window.add({"x": value})
    return window


@pytest.mark.parametrize(
    ("live", "reference", "drift"),
    [
        ([1, 2, 3], [1, 2, 3], 0),
        ([0, 0, 0], [1, 2, 3], 1),
        ([9], [1, 2, 3], 1),
        ([5, 5], [5, 5, 5], 0),  # all the same is no drift
        ([0] * 4, [0, 0, 0, 1], 0.25),  # P(live < reference) - P(live > reference)
    ],
)
def test_drift_by_hand(live, reference, drift):
    assert window_of(live, reference).drift()["x"] == pytest.approx(drift, abs=0.02)  # quantiles are 101


def test_only_the_newest_count():
    window = window_of([9] * 10 + [1, 2, 3, 4], [1, 2, 3, 4], size=4)
    assert window.drift()["x"] == pytest.approx(0, abs=0.02) and window.num_seen == 14
    assert window_of([], [1]).drift() == {}


@pytest.fixture(scope="module")
def watched(real_data, bundle_folder, tmp_path_factory):
    """A bundle with the reference of some photos, and other photos."""
    folder = tmp_path_factory.mktemp("watched") / "bundle"
    shutil.copytree(bundle_folder, folder)
    files = sorted((real_data / "oxford_pets" / "images").glob("*.jpg"))[::11][:80]
    write_reference(folder, load_bundle(folder), [file.read_bytes() for file in files[::2]])
    return folder, [decode_image(file.read_bytes()) for file in files[1::2]]


@pytest.mark.parametrize(
    ("change", "raised"),
    [
        (lambda photo: photo, set()),
        (lambda photo: cv2.GaussianBlur(photo, (0, 0), 8), {"sharpness"}),
        (lambda photo: photo // 5, {"brightness"}),
    ],
    ids=["clean", "blur", "night"],
)
def test_blur_and_night_raise_it_and_clean_photos_do_not(watched, change, raised):
    folder, photos = watched
    segmenter = load_bundle(folder)
    window = DriftWindow(read_reference(folder, segmenter.spec.label_set))
    images = [fit_image(change(photo), segmenter.spec.input_size, segmenter.spec.fit_rule) for photo in photos]
    for image, prediction in zip(images, segmenter.predict(images)):
        window.add(measure(image, prediction, segmenter.spec.label_set))
    drift = window.drift()
    assert {name for name in ("sharpness", "brightness") if drift[name] > 0.8} == raised
    if not raised:
        assert max(drift.values()) < 0.5, drift


def test_a_bundle_without_a_reference_has_none(bundle_folder, pet_labels):
    assert read_reference(bundle_folder, pet_labels) is None


@pytest.mark.parametrize("content", ["{", '{"format": 1}', '{"format": 1, "num_images": 1, "quantiles": {"share/cat": [0]}}', "[]"])
def test_a_damaged_reference_is_refused(content, tmp_path, pet_labels):
    (tmp_path / REFERENCE).write_text(content)
    with pytest.raises(InvalidBundle, match=REFERENCE):
        read_reference(tmp_path, pet_labels)
