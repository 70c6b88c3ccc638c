"""Both placements on a real Serve, side by side under two prefixes."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import httpx
import numpy as np
import pytest
import ray
import yaml
from prometheus_client.parser import text_string_to_metric_families
from ray import serve

from deployments.app import build_app
from deployments.config import AppConfig
from tests.deployments.conftest import encode_photo
from tests.deployments.test_api import problem_of

pytestmark = pytest.mark.ray

PLACEMENTS = ("fused", "split")
SERVE_YAML = Path(__file__).parents[2] / "deployments" / "serve.yaml"
WITHIN_S = 60
T = TypeVar("T")


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
        _system_config={"metrics_report_interval_ms": 1000},
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}},
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    configs = [AppConfig(model_uri=str(bundle_folder), placement=placement, max_body_bytes=10_000_000) for placement in PLACEMENTS]
    logging = yaml.safe_load(SERVE_YAML.read_text())["logging_config"]
    targets = [serve.RunTarget(build_app(each), each.placement, f"/{each.placement}", logging) for each in configs]
    serve.run_many(targets)
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


def wait_for(look: Callable[[], T | None]) -> T:
    """The first thing that `look` finds."""
    end = time.monotonic() + WITHIN_S
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.2)
    raise AssertionError(f"{look.__name__} found nothing within {WITHIN_S} s")


def exported(application: str) -> dict[tuple[str, str], float]:
    """What Ray's endpoint on this node says of an application: of each (sample, its own label's value) the sum over replicas."""
    page = httpx.get(f"http://127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}/metrics", timeout=10).text
    sums: dict[tuple[str, str], float] = {}
    for sample in (each for family in text_string_to_metric_families(page) for each in family.samples):
        if sample.name.startswith("ray_maskworks_") and sample.labels["application"] == application and "le" not in sample.labels:
            label = next((sample.labels[key] for key in ("stage", "format", "reason", "lane") if key in sample.labels), "")
            sums[sample.name, label] = sums.get((sample.name, label), 0) + sample.value
    return sums


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_good_and_bad_requests_are_counted_where_prometheus_looks(address, photo, placement):
    before = wait_for(lambda: exported(placement) if httpx.get(f"{address}/{placement}/nope").status_code == 404 else None)
    good = [httpx.post(f"{address}/{placement}/v1/segment?format=png", content=photo, timeout=60) for _ in range(3)]
    assert httpx.post(f"{address}/{placement}/v1/segment", content=b"x").status_code == 400
    assert [each.status_code for each in good] == [200] * 3

    def counted() -> dict[tuple[str, str], float] | None:
        now = exported(placement)
        grown = {key: now[key] - before.get(key, 0) for key in now}
        enough = grown.get(("ray_maskworks_answers_total", "png"), 0) >= 3
        told = ("ray_maskworks_refusals_total", "invalid-image") in now
        drained = now.get(("ray_maskworks_queue_length", "interactive")) == 0  # a gauge may be written later than a counter
        return now if enough and told and drained else None

    counts = wait_for(counted)
    parts = [part.partition(";")[0] for part in good[0].headers["server-timing"].split(", ")]
    assert ("hops" in parts) == (placement == "split")
    assert all(counts["ray_maskworks_stage_seconds_count", part] >= 3 for part in parts)
    assert counts["ray_maskworks_pixels_total", ""] >= 3 * 90 * 120
    assert counts["ray_maskworks_batch_size_sum", ""] >= counts["ray_maskworks_batch_size_count", ""] >= 3
    assert counts["ray_maskworks_refusals_total", "not-found"] >= 1


def test_each_request_is_one_line_of_json_in_the_log(client, photo):
    request_id = f"log-{time.time_ns()}"
    client.post("/v1/segment?format=png", content=photo, headers={"X-Request-Id": request_id})
    folder = Path(ray._private.worker._global_node.get_logs_dir_path()) / "serve"

    def lines() -> list[str]:
        return [line for path in folder.glob("replica_*.log") for line in path.read_text().splitlines() if request_id in line]

    (line,) = map(json.loads, wait_for(lines))
    assert (line["request_id"], line["status"], line["format"], line["size"]) == (request_id, 200, "png", [90, 120])
    assert line["times_ms"]["total"] <= line["total_ms"] and line["replica"]
