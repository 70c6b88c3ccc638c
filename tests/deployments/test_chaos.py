"""Replicas die under load, and no caller notices more than a wait."""

from __future__ import annotations

import asyncio

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.serve.exceptions import BackPressureError, RayServeException, ReplicaUnavailableError

from benchmarks.chaos import Options, disturb
from benchmarks.service import server
from deployments.formats import PNG
from deployments.query import Query
from deployments.split import Asked, SplitGraph, Stages, is_replica_lost
from deployments.stages import Answer
from models.image import ImageLimits


@pytest.mark.ray
def test_dead_model_replicas_cost_no_request(bundle_folder):
    options = Options(seconds=8, every_s=3, kill="model", last=True, connections=3)
    with server(bundle_folder, "split", num_model_replicas=3) as port:  # so that one is left, however slowly the others come back
        tally, num_kills = asyncio.run(disturb(options, port))
    assert num_kills == 2
    assert tally.answered > 0
    assert (tally.wrong, tally.refused, tally.lost) == (0, 0, {})


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


class Stage:
    """A stage behind a handle, which fails as often as it is told to, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self._failures, self.num_calls = list(failures), 0

    def options(self, **options: object) -> Stage:
        return self

    async def remote(self, *arguments: object) -> Answer:
        self.num_calls += 1
        if self._failures:
            raise self._failures.pop(0)
        return Answer(b"answer", PNG.media_type, (1, 1), 1, {})


@pytest.mark.parametrize(("failures", "num_calls"), [([], 1), ([ActorDiedError()], 2)])
def test_a_lost_replica_is_tried_again_once(failures, num_calls):
    last = Stage(*failures)
    assert run_graph(last).body == b"answer"
    assert last.num_calls == num_calls


@pytest.mark.parametrize(("failures", "num_calls"), [([ActorDiedError(), ActorDiedError()], 2), ([ValueError()], 1)])
def test_a_second_loss_and_other_errors_are_the_callers(failures, num_calls):
    last = Stage(*failures)
    with pytest.raises(type(failures[-1])):
        run_graph(last)
    assert last.num_calls == num_calls


def run_graph(last: Stage) -> Answer:
    class Early(Stage):
        def remote(self, *arguments: object) -> None:
            return None

    return asyncio.run(
        SplitGraph(Stages.of(Early(), Early(), last), Asked("models:/scenes/1", ImageLimits())).segment(b"photo", Query(PNG))
    )
