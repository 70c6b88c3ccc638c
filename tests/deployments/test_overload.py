"""What callers see when there is too much to do, or when they leave."""

from __future__ import annotations

import asyncio
import threading

import httpx
import pytest
from starlette.testclient import TestClient

from deployments.api import Api, create_app
from deployments.config import AppConfig
from deployments.query import Query
from deployments.served_version import ServedVersion
from deployments.stages import Answer
from tests.deployments.conftest import api_of
from tests.deployments.test_api import problem_of


class StuckGraph:
    """Keeps every request until `go_on`; counts what entered and what was taken away by a caller who left."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.num_entered = self.num_cancelled = 0

    async def segment(self, data: bytes, query: Query) -> Answer:
        self.num_entered += 1
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        return Answer(b"{}", "application/json", (1, 1), 1, {})


def stuck(served: ServedVersion, config: AppConfig) -> tuple[Api, StuckGraph]:
    graph = StuckGraph()
    return api_of(ServedVersion(served.model, served.spec, graph), config, num_places=2), graph


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def test_one_too_many_is_refused_with_a_time_to_come_back(served, config):
    full, graph = stuck(served, config)

    async def main() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(full)), base_url="http://test") as client:
            tasks = [asyncio.create_task(client.post("/v1/segment", content=b"x")) for _ in range(2)]
            await until(lambda: graph.num_entered == 2)
            refusal = await client.post("/v1/segment", content=b"x")
            graph.go_on.set()
            return [*await asyncio.gather(*tasks), refusal]

    *answers, refusal = asyncio.run(main())
    assert [each.status_code for each in answers] == [200, 200]
    assert refusal.status_code == 503 and problem_of(refusal) == "overloaded" and int(refusal.headers["retry-after"]) >= 1
    assert graph.num_entered == 2 and full.models.default.admission.num_inside == 0


def test_who_leaves_takes_the_work_along(served, config):
    lonely, graph = stuck(served, config)
    left = threading.Event()

    async def receive() -> dict:
        if not left.is_set():
            left.set()
            return {"type": "http.request", "body": b"x", "more_body": False}
        await until(lambda: graph.num_entered == 1)
        return {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        assert message["type"] != "http.response.start" or message["status"] != 200

    async def main() -> None:
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/segment",
            "raw_path": b"/v1/segment",
            "query_string": b"",
            "headers": [(b"host", b"test")],
        }
        await create_app(lonely)(scope, receive, send)

    asyncio.run(main())
    assert graph.num_cancelled == 1 and lonely.models.default.admission.num_inside == 0


def test_a_deadline_that_passed_is_told_before_decoding(client):
    response = client.post("/v1/segment", content=b"not even an image", headers={"X-Deadline-Ms": "0.0001"})
    assert response.status_code == 503 and response.headers["retry-after"] == "1"
    assert problem_of(response) in ("overloaded", "deadline-passed")


@pytest.mark.parametrize("headers", [{"X-Deadline-Ms": "soon"}, {"X-Deadline-Ms": "-1"}, {"X-Deadline-Ms": "nan"}, {"X-Lane": "fast"}])
def test_unknown_wishes_are_refused(client, photo, headers):
    response = client.post("/v1/segment", content=photo, headers=headers)
    assert response.status_code == 400 and problem_of(response) == "invalid-request"


def test_both_lanes_answer_the_same(api, photo):
    with TestClient(create_app(api)) as client:
        answers = [client.post("/v1/segment", content=photo, headers={"X-Lane": lane}) for lane in ("interactive", "bulk")]
    assert answers[0].json() == answers[1].json()
