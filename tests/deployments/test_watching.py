"""Blurred and dark photos raise the drift that Prometheus sees, clean ones do not; requests pay nothing for it."""

from __future__ import annotations

import shutil
import time
from functools import partial

import cv2
import numpy as np
import pytest

from deployments import watching
from deployments.config import AppConfig
from deployments.metrics import Metrics
from deployments.model_source import fetch_bundle
from deployments.served_version import load_checked
from deployments.watching import Watch
from models.bundle import load_bundle
from models.fit import fit_image
from models.image import decode_image
from models.watch import Reference, write_reference


@pytest.fixture(scope="module")
def photos(real_data) -> list[bytes]:
    return [file.read_bytes() for file in sorted((real_data / "oxford_pets" / "images").glob("*.jpg"))[::5]]


@pytest.fixture(scope="module")
def watched(bundle_folder, photos, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("watched") / "bundle"
    shutil.copytree(bundle_folder, folder)
    write_reference(folder, load_bundle(folder), photos[::2])
    return str(folder)


class Told(Metrics):
    def drift(self, model: str, drift: dict[str, float]) -> None:
        self.last = {f"{model}: {measure}": value for measure, value in drift.items()}


@pytest.mark.parametrize(
    ("change", "raised"),
    [
        (lambda photo: photo, []),
        (partial(cv2.GaussianBlur, ksize=(0, 0), sigmaX=8), ["bundle: sharpness"]),
        (lambda photo: photo // 5, ["bundle: brightness"]),
    ],
    ids=["clean", "blur", "night"],
)
def test_what_the_model_is_given_is_compared_with_validation_pictures(watched, photos, change, raised, monkeypatch):
    monkeypatch.setattr(watching, "_BUDGET", float("inf"))  # every image
    told = Told()
    stage, _ = load_checked(AppConfig(model_uri=watched, max_batch_size=1), fetch_bundle(watched), None, False, told)
    spec = stage.segmenter.spec
    for photo in photos[1::2]:
        stage([fit_image(change(decode_image(photo)), spec.input_size, spec.fit_rule)])
        stage.watch.wait()
    assert [name for name in ("bundle: brightness", "bundle: sharpness") if told.last[name] > 0.8] == raised
    assert raised or max(told.last.values()) < 0.5


def test_a_bundle_without_a_reference_is_not_watched(bundle_folder):
    model = fetch_bundle(str(bundle_folder))
    stage, _ = load_checked(AppConfig(model_uri=str(bundle_folder), max_batch_size=1), model, None, False, Metrics())
    assert stage.watch is None and len(stage([stage.blank])) == 1


def test_looking_keeps_to_its_share_of_the_time(watched, pet_labels):
    """The thread's own processor time against the clock, while images come as fast as they can."""
    segmenter = load_bundle(fetch_bundle(watched).folder)
    image = fit_image(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), (64, 64), "letterbox")
    (prediction,) = segmenter.predict([image])
    watch = Watch(Reference.of([{"brightness": 0.5, "sharpness": 1.0}]), pet_labels, lambda drift: None)
    start, seconds_looking = time.monotonic(), watch._thread.submit(time.thread_time).result()
    while time.monotonic() - start < 0.5:
        watch.see([image], [prediction])
    used = watch._thread.submit(time.thread_time).result() - seconds_looking
    assert watch._window.num_seen > 1
    assert used < 0.05 * (time.monotonic() - start)  # a hundredth, and the thread's own start
