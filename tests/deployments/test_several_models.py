"""Several models in one service, and requests while an alias moves, over HTTP with no server between."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from starlette.testclient import TestClient

from deployments.api import Api, create_app
from deployments.catalog import build_catalog
from deployments.config import AppConfig, ModelEntry
from deployments.metrics import Metrics
from deployments.served_version import load_version
from tests.deployments.registry_file import mask_of_bundle
from tests.deployments.test_api import problem_of


def api_with(model_uri: str, models: dict[str, ModelEntry], **settings) -> Api:
    config = AppConfig(model_uri=model_uri, models=models, max_batch_size=2, **settings)
    metrics = Metrics()
    catalog = build_catalog(config, partial(load_version, metrics=metrics), metrics)
    catalog.default.start()
    return Api(catalog, config, metrics)


@pytest.fixture
def three(bundles) -> dict[str, ModelEntry]:
    """Two more models beside the first bundle, one of them with limits of its own."""
    return {"a": ModelEntry(model_uri=str(bundles[1]), max_body_bytes=100), "b": ModelEntry(model_uri=str(bundles[2]))}


def size_of(bundle) -> int:
    return (bundle / "weights.safetensors").stat().st_size


def mask_in(response) -> np.ndarray:
    assert response.status_code == 200, response.text
    return np.load(io.BytesIO(response.content))


def test_each_model_answers_under_its_name_with_its_own_limits(bundles, three, photo):
    with TestClient(create_app(api_with(str(bundles[0]), three))) as client:
        listed = client.get("/v1/models").json()["models"]
        assert [each["name"] for each in listed] == ["0", "a", "b"]
        assert [each["model_version"] is None for each in listed] == [False, True, True]
        masks = [
            mask_in(client.post(f"/v1/{path}?format=npy", content=photo)) for path in ("segment", "models/0/segment", "models/b/segment")
        ]
        for mask, bundle in zip(masks, (bundles[0], bundles[0], bundles[2])):
            np.testing.assert_array_equal(mask, mask_of_bundle(bundle, photo))
        about = client.get("/v1/models/b").json()
        assert about["name"] == "b" and about["model_version"].startswith("2@")
        refusal = client.post("/v1/models/a/segment", content=photo)
        assert refusal.status_code == 413 and "limit is 100" in refusal.json()["detail"]
        assert client.get("/v2/models/b").json()["name"] == "b"


@pytest.mark.parametrize("path", ["/v1/models/nobody", "/v1/models/nobody/segment", "/v2/models/nobody"])
def test_an_unknown_model_is_named(client, path, photo):
    response = client.post(path, content=photo) if path.endswith("segment") else client.get(path)
    assert response.status_code == 404 and "'nobody'" in response.text
    assert path.startswith("/v2") or problem_of(response) == "unknown-model"


def test_the_model_not_asked_for_longest_makes_room(bundles, three, photo):
    budget = size_of(bundles[0]) + size_of(bundles[1]) + 10
    with TestClient(create_app(api_with(str(bundles[0]), three, model_memory_bytes=budget))) as client:
        loaded = []
        for name in ("a", "b", "b", "0", "a"):
            client.get(f"/v1/models/{name}")
            loaded.append([each["name"] for each in client.get("/v1/models").json()["models"] if each["model_version"]])
        assert loaded == [["0", "a"], ["0", "b"], ["0", "b"], ["0", "b"], ["0", "a"]]
        np.testing.assert_array_equal(
            mask_in(client.post("/v1/models/b/segment?format=npy", content=photo)), mask_of_bundle(bundles[2], photo)
        )


def test_a_model_that_answers_makes_no_room_and_the_other_is_told_to_wait(bundles, three):
    api = api_with(str(bundles[0]), three, model_memory_bytes=size_of(bundles[0]) + size_of(bundles[1]) + 10)
    with TestClient(create_app(api)) as client:
        client.get("/v1/models/a")
        busy = next(model for model in api.models if model.name == "a").current
        with busy.answering():
            refusal = client.get("/v1/models/b")
            assert refusal.status_code == 503 and problem_of(refusal) == "not-ready" and "no room" in refusal.json()["detail"]
            assert client.get("/v1/models/a").status_code == 200


def test_a_model_that_cannot_be_loaded_says_so_and_is_not_tried_at_once_again(bundles, three, tmp_path, caplog):
    models = three | {"broken": ModelEntry(model_uri=str(tmp_path / "nothing"))}
    with TestClient(create_app(api_with(str(bundles[0]), models))) as client:
        details = [client.get("/v1/models/broken").json()["detail"] for _ in range(2)]
    assert "cannot be loaded" in details[0] and "a moment ago" in details[1]
    assert str(tmp_path) not in details[0] and str(tmp_path) in caplog.text


@pytest.mark.parametrize("name", ["", "a/b", "a?b", "x" * 81])
def test_names_that_fit_no_url_are_refused(name):
    with pytest.raises(ValueError, match="so that it fits a URL"):
        AppConfig(model_uri="bundle", models={name: ModelEntry(model_uri="bundle")})


def test_while_the_alias_moves_no_request_fails_and_each_mask_is_its_versions(registry, bundles, photo):
    """Followed by the thread of the service itself, from one version to the other and back."""
    api = api_with("models:/shelf@champion", {}, tracking_uri=registry.uri, follow_every_s=0.05)
    masks = {f"shelf/{number}": mask_of_bundle(bundle, photo) for number, bundle in zip("12", bundles)}
    seen: set[str] = set()
    done = threading.Event()

    def send(client: TestClient) -> int:
        count = 0
        while not done.is_set():
            response = client.post("/v1/segment?format=npy", content=photo)
            version = response.headers["x-model-version"]
            np.testing.assert_array_equal(mask_in(response), masks[version])
            seen.add(version)
            count += 1
        return count

    def wait_for(version: str) -> None:
        for _ in range(3000):
            if api.models.default.version == version:
                return
            done.wait(0.01)
        raise AssertionError(f"{version} did not come to serve")

    with TestClient(create_app(api)) as client, ThreadPoolExecutor(2) as threads:
        sending = [threads.submit(send, client) for _ in range(2)]
        try:
            for number in "212":
                registry.move(number)
                wait_for(f"shelf/{number}")
        finally:
            done.set()
        assert min(each.result() for each in sending) > 0
    assert seen == {"shelf/1", "shelf/2"}
