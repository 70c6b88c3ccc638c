"""A challenger sees live requests and answers none; a damaged class is named, with a page in MLflow."""

from __future__ import annotations

import asyncio
import base64
import io
import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from deployments.api import Api, create_app
from deployments.catalog import build_catalog
from deployments.config import AppConfig
from deployments.metrics import Metrics
from deployments.served_version import load_version
from deployments.shadow import Comparison
from tests.deployments.conftest import encode_photo
from tests.deployments.registry_file import mask_of_bundle, with_one_class_damaged


class Told(Metrics):
    last: tuple = ()

    def shadow(self, *arguments: object) -> None:
        super().shadow(*arguments)
        self.last = arguments


def service(registry, **settings) -> tuple[Api, Told]:
    settings = {"shadow_uri": "models:/shelf@challenger", "shadow_share": 1, "max_batch_size": 1} | settings
    config = AppConfig(model_uri="models:/shelf@champion", tracking_uri=registry.uri, **settings)
    metrics = Told()
    catalog = build_catalog(config, partial(load_version, metrics=metrics), metrics)
    catalog.default.start()
    catalog.shadow.look()
    return Api(catalog, config, metrics), metrics


@pytest.fixture
def photos(pixels) -> list[bytes]:
    random = np.random.default_rng(0)
    noise = random.integers(0, 80, pixels.shape, np.uint8)
    return [encode_photo(np.roll(pixels, 13 * index, axis=1) // (1 + index % 3) + noise) for index in range(20)]


def send(api: Api, photos: list[bytes]) -> list[np.ndarray]:
    """The answers' masks, with the challenger's work done after each."""
    masks = []
    with TestClient(create_app(api)) as client:
        for photo in photos:
            response = client.post("/v1/segment?format=npy", content=photo)
            assert response.headers["x-model-version"] == "shelf/1"
            masks.append(np.load(io.BytesIO(response.content)))
            client.portal.call(partial(_settle, api))
    return masks


async def _settle(api: Api) -> None:
    await asyncio.sleep(0.02)
    await asyncio.to_thread(api.models.shadow.wait)


@pytest.mark.slow
def test_a_challenger_with_one_damaged_class_is_named_and_shown(registry, bundles, tmp_path, photos, caplog):
    damaged = tmp_path / "damaged"
    shutil.copytree(bundles[0], damaged)
    with_one_class_damaged(damaged)
    shutil.rmtree(damaged / "golden")
    run = registry.client.create_run(registry.client.create_experiment("runs", (tmp_path / "runs").as_uri()))
    number = registry.register(damaged, run_id=run.info.run_id)
    registry.move(number, "challenger")
    api, told = service(registry, shadow_pictures=True)
    masks = send(api, photos)
    for mask, photo in zip(masks, photos):
        np.testing.assert_array_equal(mask, mask_of_bundle(bundles[0], photo))
    challenger, num_photos, iou = told.last
    assert challenger == f"shelf/{number}" and num_photos == len(photos)
    worst = min(iou, key=iou.get)
    assert iou[worst] < 0.01
    api.models.shadow.look()
    assert registry.tags(number)["shadow.damaged"].startswith(f"{worst}: IoU 0.00")
    assert f"challenger shelf/{number} is damaged: {worst}" in caplog.text
    assert "serving.since" not in registry.tags(number)
    (artifact,) = registry.client.list_artifacts(run.info.run_id, "shadow")
    page = Path(registry.client.download_artifacts(run.info.run_id, artifact.path, str(tmp_path))).read_text()
    assert f"<td>{worst}</td><td>{iou[worst]:.3f}</td><td>far below" in page
    pictures = re.findall(r"base64,([^\"]+)", page)
    assert len(pictures) == 8
    with Image.open(io.BytesIO(base64.b64decode(pictures[0]))) as picture:
        assert picture.size == (240, 90)


@pytest.mark.slow
def test_the_same_version_is_not_compared_with_itself_and_a_new_challenger_begins_anew(registry, photos):
    registry.move("1", "challenger")
    api, told = service(registry)
    send(api, photos[:2])
    assert told.last == ()
    registry.move("2", "challenger")
    api.models.shadow.look()
    send(api, photos[:2])
    assert told.last[:2] == ("shelf/2", 2)


@pytest.mark.slow
def test_nothing_is_compared_while_somebody_waits(registry, photos):
    registry.move("2", "challenger")
    api, told = service(registry)
    admission = api.models.default.admission
    with admission.place(bulk=False):
        send(api, photos[:3])
    assert told.last == ()


@pytest.mark.slow
def test_a_challenger_that_is_not_there_or_broken_stops_nothing(registry, bundles, tmp_path, photos, caplog):
    api, told = service(registry)  # no such alias
    send(api, photos[:1])
    broken = tmp_path / "broken"
    shutil.copytree(bundles[2], broken)
    (broken / "weights.safetensors").write_bytes(b"")
    registry.move(registry.register(broken), "challenger")
    api.models.shadow.look()
    send(api, photos[:1])
    assert told.last == () and "shelf/3 is no shadow" in caplog.text


def test_a_class_that_differs_far_more_than_the_others_is_damaged(pet_labels):
    comparison = Comparison(pet_labels)
    champion = np.repeat(np.array([0, 1, 2], np.uint8), 10).reshape(3, 10)
    challenger = champion.copy()
    challenger[2] = 1
    photo = np.zeros((3, 10, 3), np.uint8)
    for _ in range(4):
        comparison.add(champion, challenger, photo)
    assert comparison.damaged == {}  # too few to tell
    comparison.add(champion, challenger, photo)
    assert comparison.iou == {"pet": 1, "background": 0.5, "border": 0} and comparison.damaged == {"border": 0}
    assert comparison.worst == []  # pictures are not kept unless asked for


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"placement": "split"}, "set placement=fused"),
        ({"shadow_uri": "some/folder"}, "is not in a registry"),
        ({"shadow_share": 0}, "greater than 0"),
    ],
)
def test_settings_that_make_no_shadow_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        AppConfig(**{"model_uri": "bundle", "shadow_uri": "models:/shelf@challenger"} | settings)
