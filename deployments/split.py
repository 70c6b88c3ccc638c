"""The placement `split`: each stage a deployment of its own, whose replicas hold whatever versions requests ask for.

The ingress decides which version answers a request, and the request says so to each stage. A replica that does not have the version yet
gets it first; a version only comes to be asked for after the replicas of the model have tried it.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import numpy as np
from ray.exceptions import ObjectLostError, RayActorError
from ray.serve.exceptions import RayServeException, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from deployments.admission import DeadlinePassed
from deployments.config import AppConfig
from deployments.graph import Codec
from deployments.metrics import Metrics
from deployments.model_source import ModelNotFound, ServedModel, fetch_bundle, pinned, resolve
from deployments.query import Query
from deployments.served_version import ServedVersion, VersionRefused, load_checked
from deployments.shelf import NoRoom, Shelf
from deployments.stages import Answer, Postprocessor, Predicted, Prepared, Preprocessor
from models.image import ImageLimits, InvalidImage
from models.spec import SegmenterSpec, read_spec

if TYPE_CHECKING:
    from deployments.model_stage import BatchedModel

logger = logging.getLogger("ray.serve")
S = TypeVar("S", Preprocessor, Postprocessor)
Refusal = InvalidImage | DeadlinePassed
REFUSALS = (InvalidImage, DeadlinePassed)
_SPECS_KEPT = 16  # stages without weights in a replica; small things
_ROUNDS = 10  # of asking replicas of the model to try a version, in the hope to reach all
_PREPARED_WITHIN_S = 300
_LOOK_EVERY_S = 5  # for versions that nobody asks for any more


@dataclass(frozen=True)
class Asked:
    """What a request tells each stage: the version's URI and the model's limits on images."""

    uri: str
    limits: ImageLimits


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

    A refusal goes through as a value that each stage hands on: raised in a replica, each would cost the log a traceback.
    """

    def __init__(self, stages: Stages, asked: Asked) -> None:
        self._stages, self._asked = stages, asked

    async def segment(self, data: bytes | np.ndarray, query: Query) -> Answer:
        start = time.perf_counter()
        try:
            answer = await self._chain(data, query)
        except Exception as error:
            if not is_replica_lost(error):
                raise
            answer = await self._chain(data, query)  # nothing was changed by the first try
        hops_s = time.perf_counter() - start - sum(answer.times_s.values())  # each replica measures its own part only
        return replace(answer, times_s=answer.times_s | {"hops": hops_s})

    async def check(self) -> None:
        for handle in (self._stages.preprocess, self._stages.model, self._stages.postprocess):
            await handle.check.remote()

    async def _chain(self, data: bytes | np.ndarray, query: Query) -> Answer:
        prepared = self._stages.preprocess.remote(data, query, self._asked)
        predicted = self._stages.model.remote(prepared, query, self._asked)
        answer = await self._stages.postprocess.remote(predicted, query, data if query.format.needs_photo else None, self._asked)
        if isinstance(answer, REFUSALS):
            raise answer
        return answer


def is_replica_lost(error: Exception) -> bool:
    """Whether a replica died, or what it had made was lost with it, so that another one can do it again.

    Where it dies before the next stage has taken what it made, Serve says so in an exception of no kind of its own.
    """
    kinds = (RayActorError, ObjectLostError, ReplicaUnavailableError)
    return isinstance(error, kinds) or (isinstance(error, RayServeException) and isinstance(error.__cause__, RayActorError))


@dataclass(frozen=True)
class Trial:
    """What a replica of the model found of a version; `refusal` has the arguments of `VersionRefused`."""

    replica: str
    refusal: tuple[str, str, bool] | None = None


class SplitLoader:
    """Loads versions for the ingress: has the replicas of the model try them. Called on any thread but the loop's own."""

    def __init__(self, stages: Stages, num_model_replicas: int, loop: asyncio.AbstractEventLoop) -> None:
        self._stages, self._num_model_replicas, self._loop = stages, num_model_replicas, loop

    def __call__(self, config: AppConfig, model: ServedModel, champion: ServedVersion | None, must_have_golden: bool) -> ServedVersion:
        try:
            spec = read_spec(model.folder)
        except ValueError as error:
            raise VersionRefused("unloadable", str(error)) from error
        asked = Asked(model.uri, config.image_limits)
        trial = self._try_everywhere(asked, champion and champion.model.uri, must_have_golden)
        asyncio.run_coroutine_threadsafe(trial, self._loop).result(_PREPARED_WITHIN_S)
        return ServedVersion(model, spec, SplitGraph(self._stages, asked))

    async def _try_everywhere(self, asked: Asked, champion_uri: str | None, must_have_golden: bool) -> None:
        for handle in (self._stages.preprocess, self._stages.postprocess):
            await handle.prepare.remote(asked)
        found: set[str] = set()
        for _ in range(_ROUNDS):
            calls = [self._stages.model.prepare.remote(asked, champion_uri, must_have_golden) for _ in range(self._num_model_replicas)]
            for trial in await asyncio.gather(*calls, return_exceptions=True):
                if isinstance(trial, Exception) and not is_replica_lost(trial):
                    raise trial
                if isinstance(trial, Trial):
                    if trial.refusal:
                        reason, message, is_its_own = trial.refusal
                        raise VersionRefused(reason, message, is_its_own=is_its_own)
                    found.add(trial.replica)
            if len(found) >= self._num_model_replicas:
                return
        if not found:
            raise RuntimeError(f"no replica of the model could try {asked.uri}; they are lost or not started")


class _StagePerVersion(Generic[S]):
    """A stage without weights, made for a version when first asked for."""

    def __init__(self, config: AppConfig, make: Callable[[ServedModel, Asked], S]) -> None:
        self._config, self._make = config, make
        self._stages: dict[Asked, S] = {}

    async def get(self, asked: Asked) -> S:
        stage = self._stages.get(asked)
        if stage is None:
            stage = await asyncio.to_thread(lambda: self._make(fetch_bundle(asked.uri, self._config.tracking_uri), asked))
            self._stages[asked] = stage
            if len(self._stages) > _SPECS_KEPT:
                del self._stages[next(iter(self._stages))]
        return stage


class Preprocess:
    def __init__(self, config: AppConfig) -> None:
        self._stages = _StagePerVersion(config, lambda model, asked: Preprocessor(read_spec(model.folder), asked.limits, config.max_tiles))
        self._codec = Codec(config.num_codec_threads)

    async def __call__(self, data: bytes | np.ndarray, query: Query, asked: Asked) -> Prepared | Refusal:
        try:
            return await self._codec.run("decode_wait", await self._stages.get(asked), data, query)
        except REFUSALS as refusal:
            return refusal

    async def prepare(self, asked: Asked) -> None:
        await self._stages.get(asked)

    async def check(self) -> None:
        await self._codec.check()


@dataclass(eq=False)
class _HeldModel:
    """A version's weights in a replica of the model."""

    model: BatchedModel
    forward_s: float
    num_bytes: int
    num_inside: int = field(default=0, init=False)
    stays: bool = field(default=False, init=False)

    @property
    def spec(self) -> SegmenterSpec:
        return self.model.spec


class Model:
    """Versions by their URI. One at a time is loaded, beside those that answer."""

    async def __init__(self, config: AppConfig) -> None:
        """Ready once the default model's version is here, so that no request waits for it."""
        self._config, self._id = config, uuid.uuid4().hex
        self._shelf: Shelf[_HeldModel] = Shelf(config.model_memory_bytes)
        self._metrics = Metrics()
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._housekeeping = asyncio.create_task(self._drop_unused())
        try:
            address = pinned(resolve(config.model_uri, config.tracking_uri))
            await self._load(address.uri, None, False)
        except (ModelNotFound, VersionRefused, NoRoom) as error:  # the ingress decides what serves instead, and then asks for it
            logger.warning("this replica starts without a version: %s", error)

    async def __call__(self, prepared: Prepared | Refusal, query: Query, asked: Asked) -> Predicted | Refusal:
        if isinstance(prepared, REFUSALS):
            return prepared
        held = self._shelf.get(asked.uri) or await self._load(asked.uri, None, False)
        held.num_inside += 1
        try:
            return await held.model.predict(prepared, query)
        except REFUSALS as refusal:
            return refusal
        finally:
            held.num_inside -= 1

    async def prepare(self, asked: Asked, champion_uri: str | None, must_have_golden: bool) -> Trial:
        """Loads and tries a version, compared with the champion where that is here."""
        try:
            await self._load(asked.uri, champion_uri, must_have_golden)
        except VersionRefused as refusal:
            return Trial(self._id, (refusal.reason, str(refusal), refusal.is_its_own))
        return Trial(self._id)

    async def check(self) -> None:
        """Returns when the model's thread is free."""
        for held in self._shelf.things():
            await held.model.check()

    async def _load(self, uri: str, champion_uri: str | None, must_have_golden: bool) -> _HeldModel:
        load = asyncio.get_running_loop().run_in_executor(self._loader, self._load_here, uri, champion_uri, must_have_golden)
        return await load

    def _load_here(self, uri: str, champion_uri: str | None, must_have_golden: bool) -> _HeldModel:
        from deployments.model_stage import BatchedModel  # brings torch, which the other stages' processes have no use for

        if held := self._shelf.get(uri):
            return held
        champion = champion_uri and self._shelf.get(champion_uri)
        model = fetch_bundle(uri, self._config.tracking_uri)
        self._shelf.make_room(model.num_bytes, keep={champion_uri})
        stage, forward_s = load_checked(self._config, model, champion, must_have_golden, self._metrics)
        held = _HeldModel(BatchedModel(stage, self._config), forward_s, model.num_bytes)
        self._shelf.put(uri, held)
        return held

    async def _drop_unused(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            await asyncio.to_thread(self._shelf.drop_unused, self._config.keep_previous_s, _model_of)


class Postprocess:
    def __init__(self, config: AppConfig) -> None:
        self._stages = _StagePerVersion(config, lambda model, asked: Postprocessor(read_spec(model.folder), asked.limits, model.version))
        self._codec = Codec(config.num_codec_threads)

    async def __call__(
        self, predicted: Predicted | Refusal, query: Query, photo: bytes | np.ndarray | None, asked: Asked
    ) -> Answer | Refusal:
        if isinstance(predicted, REFUSALS):
            return predicted
        try:
            return await self._codec.run("restore_wait", await self._stages.get(asked), predicted, query, photo)
        except REFUSALS as refusal:
            return refusal

    async def prepare(self, asked: Asked) -> None:
        await self._stages.get(asked)

    async def check(self) -> None:
        await self._codec.check()


def _model_of(uri: Hashable) -> str:
    """The model that a version's URI belongs to."""
    return str(uri).rpartition("/")[0]
