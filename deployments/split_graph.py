"""The placement `split` as the ingress sees it: groups of requests go through the stages, each a deployment of its own.

A call of a deployment costs both sides milliseconds of processor time, whatever it carries. So what waits while others are on their
way goes together, and a lone request goes at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from ray.exceptions import ObjectLostError, RayActorError
from ray.serve.exceptions import RayServeException, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from deployments.batcher import Batcher
from deployments.query import Query
from deployments.split_stages import Asked
from deployments.stages import Answer

_LONG_BYTES = 2**20  # an image of more would keep its group waiting


@dataclass(frozen=True)
class Stages:
    """The handles of the three stages."""

    preprocess: DeploymentHandle
    model: DeploymentHandle
    postprocess: DeploymentHandle

    @classmethod
    def of(cls, *handles: DeploymentHandle) -> Self:
        # By reference, since gRPC between replicas, which Serve's throughput mode turns on, refuses photos of over 4 MB.
        return cls(*(handle.options(_by_reference=True) for handle in handles))


class SplitGraph:
    """One version behind the stages' handles. What a stage returns goes straight to the next.

    At most `num_groups` groups of up to `max_batch_size` images are on their way; tiled and very large images travel alone beside them.
    """

    def __init__(self, stages: Stages, asked: Asked, max_batch_size: int, num_groups: int) -> None:
        self._stages, self._asked = stages, asked
        self._groups = Batcher(self._send, max_batch_size, num_at_once=num_groups)

    async def segment(self, image: bytes | np.ndarray, query: Query) -> Answer:
        start = time.perf_counter()
        try:
            answer = await self._ask(image, query)
        except Exception as error:
            if not is_replica_lost(error):
                raise
            answer = await self._ask(image, query)  # nothing was changed by the first try
        hops_s = time.perf_counter() - start - sum(answer.times_s.values())  # each replica measures its own part only
        return replace(answer, times_s=answer.times_s | {"hops": hops_s})

    async def check(self) -> None:
        for handle in (self._stages.preprocess, self._stages.model, self._stages.postprocess):
            await handle.check.remote()

    async def _ask(self, image: bytes | np.ndarray, query: Query) -> Answer:
        if query.tiled or _num_bytes(image) > _LONG_BYTES:
            (answer,) = await self._send([(image, query)])
            if isinstance(answer, Exception):
                raise answer
            return answer
        outcome = await self._groups.submit((image, query), bulk=query.lane == "bulk", deadline=query.deadline)
        times_s = outcome.value.times_s
        return replace(outcome.value, times_s=times_s | {"queue": outcome.queue_s + times_s["queue"]})

    async def _send(self, requests: Sequence[tuple[bytes | np.ndarray, Query]]) -> list[Answer | Exception]:
        """What became of each. Where this is cancelled, the calls are."""
        images, queries = map(list, zip(*requests, strict=True))
        photos = [image if query.format.needs_photo else None for image, query in requests]
        prepared = self._stages.preprocess.remote(images, queries, self._asked)
        predicted = self._stages.model.remote(prepared, queries, self._asked)
        answers = self._stages.postprocess.remote(predicted, queries, photos, self._asked)
        try:
            return await answers
        except asyncio.CancelledError:
            for call in (answers, predicted, prepared):
                call.cancel()
            raise


def is_replica_lost(error: Exception) -> bool:
    """Whether a replica died, or what it had made was lost with it, so that another one can do it again.

    Where it dies before the next stage has taken what it made, Serve says so in an exception of no kind of its own.
    """
    kinds = (RayActorError, ObjectLostError, ReplicaUnavailableError)
    return isinstance(error, kinds) or (isinstance(error, RayServeException) and isinstance(error.__cause__, RayActorError))


def _num_bytes(image: bytes | np.ndarray) -> int:
    return image.nbytes if isinstance(image, np.ndarray) else len(image)
