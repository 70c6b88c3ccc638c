"""Both placements on a real Serve, side by side under two prefixes."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import ray
from ray import serve

from deployments.app import build_app
from deployments.config import AppConfig
from tests.deployments.conftest import encode_photo
from tests.deployments.test_api import problem_of

pytestmark = pytest.mark.ray

PLACEMENTS = ("fused", "split")


@pytest.fixture(scope="module")
def address(bundle_folder: Path) -> Iterator[str]:
    root = str(Path(__file__).parents[2])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}},
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    configs = [AppConfig(model_uri=str(bundle_folder), placement=placement, max_body_bytes=10_000_000) for placement in PLACEMENTS]
    serve.run_many([serve.RunTarget(build_app(each), name=each.placement, route_prefix=f"/{each.placement}") for each in configs])
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    ray.shutdown()


@pytest.fixture(params=PLACEMENTS)
def client(address: str, request) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{address}/{request.param}", timeout=60) as client:
        yield client


def post_all(client: httpx.Client, bodies: list[bytes]) -> list[httpx.Response]:
    """All at once, from a connection each."""
    with ThreadPoolExecutor(len(bodies)) as threads:
        return list(threads.map(lambda body: client.post("/v1/segment?format=png", content=body), bodies))


@pytest.mark.parametrize("answer_format", ["json", "png", "overlay"])
def test_both_placements_give_the_same_bytes(address, photo, answer_format):
    answers = [
        httpx.post(f"{address}/{placement}/v1/segment?format={answer_format}", content=photo, timeout=60) for placement in PLACEMENTS
    ]
    assert [each.status_code for each in answers] == [200, 200]
    assert answers[0].content == answers[1].content
    assert answers[0].headers["x-model-version"] == answers[1].headers["x-model-version"]


def test_it_is_ready_and_describes_itself(client):
    assert client.get("/readyz").json() == client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/openapi.json").json()["openapi"] == "3.1.0"
    assert client.get("/docs/swagger-ui.css").status_code == 200
    assert client.get("/v1/model").json()["model_version"].startswith("bundle@")


def test_batches_form(client, photo):
    answers = post_all(client, [photo] * 16)
    sizes = [int(each.headers["x-batch-size"]) for each in answers]
    assert max(sizes) >= 4, sizes
    assert len({each.content for each in answers}) == 1


def test_one_bad_image_among_good_ones(client, photo, pixels):
    good = [encode_photo(np.roll(pixels, 9 * index, axis=1)) for index in range(7)]
    alone = [client.post("/v1/segment?format=png", content=each).content for each in good]
    *answers, refusal = post_all(client, [*good, photo[:300]])
    assert [each.content for each in answers] == alone
    assert refusal.status_code == 400 and problem_of(refusal) == "invalid-image"


def test_errors_of_the_stages_are_problems(client):
    for body, status in ((b"", 400), (b"x" * 10_000_001, 413)):
        response = client.post("/v1/segment", content=body)
        assert response.status_code == status
        problem_of(response)
    assert client.put("/v1/segment").status_code == 405
    assert problem_of(client.get("/nope")) == "not-found"


def test_a_photo_of_several_megabytes_passes(client):
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), np.uint8)
    data = encode_photo(noise, "PNG")
    assert len(data) > 4 * 2**20
    assert client.post("/v1/segment?format=overlay", content=data).status_code == 200


def test_every_answer_has_one_request_id(client, photo):
    ours = client.post("/v1/segment", content=photo, headers={"X-Request-Id": "abc"})
    assert ours.headers.get_list("x-request-id") == ["abc"]
    refusal = client.post("/v1/segment", content=b"")
    assert refusal.headers.get_list("x-request-id") == [refusal.json()["request_id"]]
