"""Groups on their way through the stages, and what becomes of each image in them. No Ray."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import numpy as np
import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.serve.exceptions import BackPressureError, RayServeException, ReplicaUnavailableError

from deployments.admission import DeadlinePassed
from deployments.formats import PNG
from deployments.query import Query
from deployments.split_graph import SplitGraph, Stages, is_replica_lost
from deployments.split_stages import Asked
from deployments.stages import Answer
from models.image import ImageLimits, InvalidImage
from tests.deployments.handles import Handle

PLAIN, BULK = Query(PNG), Query(PNG, lane="bulk")


@dataclass
class Echo:
    """Three stages whose answers are the images. Groups wait in the first until `go_on`; the last fails as often as it is told to."""

    failures: list[Exception] = field(default_factory=list)
    groups: list[list[bytes]] = field(default_factory=list)
    stopped: list[list[bytes]] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def preprocess(self, images: list[bytes], queries: list[Query], asked: Asked) -> list[bytes]:
        self.groups.append(images)
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.stopped.append(images)
            raise
        return images

    async def model(self, prepared: list[bytes], queries: list[Query], asked: Asked) -> list[bytes | Exception]:
        return [InvalidImage("bad") if each == b"bad" else each for each in prepared]

    async def postprocess(self, predicted: list[bytes | Exception], *_: object) -> list[Answer | Exception]:
        if self.failures:
            raise self.failures.pop(0)
        return [each if isinstance(each, Exception) else Answer(each, PNG.media_type, (1, 1), 1, {"queue": 0.0}) for each in predicted]

    def graph(self, max_batch_size: int = 3, num_groups: int = 1) -> SplitGraph:
        stages = Stages.of(Handle(self.preprocess), Handle(self.model), Handle(self.postprocess))
        return SplitGraph(stages, Asked("models:/scenes/1", ImageLimits()), max_batch_size, num_groups)


async def ask(graph: SplitGraph, *images: bytes, query: Query = PLAIN) -> list[asyncio.Task]:
    """Requests that have been sent, or wait for a place."""
    tasks = [asyncio.create_task(graph.segment(each, query)) for each in images]
    for _ in range(20):
        await asyncio.sleep(0)
    return tasks


async def bodies(tasks: list[asyncio.Task]) -> list[bytes]:
    return [answer.body for answer in await asyncio.gather(*tasks)]


def test_a_request_goes_at_once_where_there_is_a_place_and_what_waits_goes_together():
    async def main():
        echo = Echo()
        graph = echo.graph(num_groups=2)
        tasks = []
        for image in (b"1", b"2", b"3", b"4", b"5", b"6"):
            tasks += await ask(graph, image)
        assert echo.groups == [[b"1"], [b"2"]]
        echo.go_on.set()
        assert await bodies(tasks) == [b"1", b"2", b"3", b"4", b"5", b"6"]
        assert echo.groups[2:] == [[b"3", b"4", b"5"], [b"6"]]

    asyncio.run(main())


def test_a_bad_image_costs_its_group_nothing():
    async def main():
        echo = Echo()
        tasks = await ask(echo.graph(), b"first", b"good", b"bad")
        echo.go_on.set()
        first, good, bad = await asyncio.gather(*tasks, return_exceptions=True)
        assert (first.body, good.body) == (b"first", b"good") and isinstance(bad, InvalidImage)
        assert len(echo.groups[-1]) > 1

    asyncio.run(main())


def test_people_go_before_bulk_which_has_a_place_in_each_group_and_who_is_late_is_not_sent():
    async def main():
        echo = Echo()
        graph = echo.graph()
        tasks = await ask(graph, b"0")
        tasks += await ask(graph, b"bulk 1", b"bulk 2", query=BULK)
        (late,) = await ask(graph, b"late", query=Query(PNG, deadline=time.time() - 1))
        tasks += await ask(graph, b"1", b"2", b"3")
        echo.go_on.set()
        await bodies(tasks)
        assert echo.groups == [[b"0"], [b"1", b"2", b"bulk 1"], [b"3", b"bulk 2"]]
        with pytest.raises(DeadlinePassed):
            await late

    asyncio.run(main())


def test_a_group_goes_on_for_those_who_stay_and_its_calls_stop_when_all_have_left():
    async def main():
        echo = Echo()
        graph = echo.graph()
        one, two = await ask(graph, b"1", b"2")
        one.cancel()
        await asyncio.sleep(0)
        assert echo.groups == [[b"1", b"2"]] and not echo.stopped
        two.cancel()
        (three,) = await ask(graph, b"3")
        assert echo.stopped == [[b"1", b"2"]] and echo.groups[1:] == [[b"3"]]  # whose place was free at once
        echo.go_on.set()
        assert (await three).body == b"3"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("image", "query"), [(b"1", Query(PNG, tiled=True)), (bytes(2**20 + 1), Query(PNG)), (np.zeros((600, 600, 3), np.uint8), Query(PNG))]
)
def test_long_work_travels_alone_beside_the_groups(image, query):
    async def main():
        echo = Echo()
        graph = echo.graph()
        tasks = await ask(graph, b"0")
        (long,) = await ask(graph, image, query=query)
        assert len(echo.groups) == 2 and echo.groups[1][0] is image
        long.cancel()
        await asyncio.sleep(0.001)
        assert len(echo.stopped) == 1
        echo.go_on.set()
        assert await bodies(tasks) == [b"0"]

    asyncio.run(main())


def between_stages(cause: Exception) -> RayServeException:
    error = RayServeException("an upstream actor died")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ActorDiedError(), True),
        (ActorUnavailableError("away", None), True),
        (ReplicaUnavailableError("replica"), True),
        (between_stages(ActorDiedError()), True),
        (between_stages(ValueError()), False),
        (BackPressureError(num_queued_requests=1, max_queued_requests=1), False),
        (ValueError(), False),
    ],
)
def test_only_what_was_lost_with_a_replica_is_done_again(error, again):
    assert is_replica_lost(error) == again


@pytest.mark.parametrize(("failures", "num_calls"), [([], 1), ([ActorDiedError()], 2)])
def test_what_was_lost_with_a_replica_is_sent_again_once(failures, num_calls):
    async def main():
        echo = Echo(failures)
        echo.go_on.set()
        assert await bodies(await ask(echo.graph(), b"1", b"2")) == [b"1", b"2"]
        assert echo.groups == [[b"1", b"2"]] * num_calls

    asyncio.run(main())


@pytest.mark.parametrize(("failures", "num_calls"), [([ActorDiedError(), ActorDiedError()], 2), ([ValueError()], 1)])
def test_a_second_loss_and_other_errors_are_the_callers(failures, num_calls):
    async def main():
        echo, kind = Echo(failures), type(failures[-1])
        echo.go_on.set()
        tasks = await ask(echo.graph(), b"1", b"2")
        assert [type(each) for each in await asyncio.gather(*tasks, return_exceptions=True)] == [kind, kind]
        assert len(echo.groups) == num_calls

    asyncio.run(main())


def test_who_has_left_is_not_sent_again():
    async def main():
        echo = Echo([ActorDiedError()])
        stays, leaves = await ask(echo.graph(), b"1", b"2")
        leaves.cancel()
        echo.go_on.set()
        assert (await stays).body == b"1"
        assert echo.groups == [[b"1", b"2"], [b"1"]]

    asyncio.run(main())
