from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from statistics import median

import pytest
from ray.serve.metrics import Counter, Gauge, Histogram

from deployments.metrics import Metrics
from tests.deployments.test_api import JPEG

DASHBOARD = Path(__file__).parents[2] / "deployments" / "grafana.json"
SUFFIXES = {Counter: ("",), Gauge: ("",), Histogram: ("_bucket", "_count", "_sum")}
OF_RAY = {"ray_component_rss_bytes"}


def exported_names() -> set[str]:
    """The names on Ray's endpoint."""
    return {f"ray_{name}{suffix}" for name, kind in Metrics().names.items() for suffix in SUFFIXES[kind]}


def access_line(caplog) -> logging.LogRecord:
    """The one line that the request wrote."""
    (line,) = (each for each in caplog.records if each.module == "access_log")
    return line


def times_ms(response) -> dict[str, float]:
    return {name: float(duration) for name, duration in (part.split(";dur=") for part in response.headers["server-timing"].split(", "))}


def test_the_dashboard_asks_for_names_that_are_exported():
    expressions = [target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel["targets"]]
    asked = {name for expression in expressions for name in re.findall(r"\bray_\w+", expression)}
    assert asked <= exported_names() | OF_RAY
    assert {re.sub("_(bucket|count|sum)$", "", name) for name in asked - OF_RAY} == {f"ray_{name}" for name in Metrics().names}


def test_the_dashboard_can_be_imported():
    dashboard = json.loads(DASHBOARD.read_text())
    assert [each["type"] for each in dashboard["templating"]["list"]] == ["datasource", "query"]
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in dashboard["panels"])
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]}
    assert len(places) == len(dashboard["panels"])


def test_the_readme_lists_what_is_exported():
    listed = re.findall(r"^\| `(ray_maskworks_\w+)` \|", (DASHBOARD.parents[1] / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(f"ray_{name}" for name in Metrics().names)


def test_names_follow_prometheus_conventions():
    for name, kind in Metrics().names.items():
        assert name.startswith("maskworks_") and name.endswith("_total") == (kind is Counter)


def test_recording_works_outside_ray():
    metrics = Metrics()
    metrics.answered({"decode": 0.01, "total": 0.02}, 3, 640 * 427, "png")
    metrics.refused("invalid-image", 400)
    metrics.queue(0, "bulk")


def test_an_answers_line_has_its_numbers(client, photo, caplog):
    with caplog.at_level(logging.INFO, "ray.serve"):
        client.post("/v1/segment?format=png&classes=pet", content=photo, headers=JPEG | {"X-Request-Id": "abc"})
    line = access_line(caplog)
    assert (line.request_id, line.method, line.path, line.status) == ("abc", "POST", "/v1/segment", 200)
    assert (line.format, line.batch_size, line.image_bytes, line.size) == ("png", 1, len(photo), (90, 120))
    assert line.model_version.startswith("bundle@") and not hasattr(line, "problem")
    assert 0 < line.times_ms["model"] < line.times_ms["total"] <= line.total_ms
    json.dumps({name: value for name, value in vars(line).items() if name != "args"})


def test_several_images_are_one_line(client, photo, caplog):
    with caplog.at_level(logging.INFO, "ray.serve"):
        client.post("/v1/segment", files=[("a", ("secret.jpg", photo)), ("b", ("secret.jpg", photo[:500]))])
    line = access_line(caplog)
    assert (line.status, line.num_images, line.image_bytes) == (200, 2, len(photo) + 500)
    assert "secret" not in caplog.text and "secret" not in str(vars(line))


@pytest.mark.parametrize(
    ("method", "path", "status", "problem"),
    [("POST", "/v1/segment", 400, "invalid-image"), ("GET", "/nope", 404, "not-found"), ("PUT", "/v1/segment", 405, "method-not-allowed")],
)
def test_a_refusals_line_names_the_problem(client, caplog, method, path, status, problem):
    with caplog.at_level(logging.INFO, "ray.serve"):
        client.request(method, path, content=b"x")
    line = access_line(caplog)
    assert (line.status, line.problem, line.path) == (status, problem, path)


def test_a_line_stays_one_line_and_tells_no_file_name(client, photo, caplog):
    with caplog.at_level(logging.INFO, "ray.serve"):
        client.post("/v1/%0AINFO%20forged?secret=1", files={"image": ("secret.jpg", photo)})
    message = access_line(caplog).getMessage()
    assert "\n" not in message and "secret" not in caplog.text


def test_measured_parts_make_up_the_total(client, real_data):
    photo = (real_data / "photos" / "dog.jpg").read_bytes()
    shares = []
    for _ in range(20):
        parts = times_ms(client.post("/v1/segment?format=png", content=photo))
        total = parts.pop("total")
        shares.append(sum(parts.values()) / total)
        assert sum(parts.values()) <= total + 0.01 * len(parts)
    assert median(shares) > 0.95
