"""The Serve application: `serve run deployments.app:build_app model_uri=...` and `serve deploy deployments/serve.yaml`.

Annotations are not postponed here: Serve reads `build_app`'s to check the arguments.
"""

import time
from dataclasses import replace

import numpy as np
from ray import serve
from ray.exceptions import ObjectLostError, RayActorError
from ray.serve import Application
from ray.serve.exceptions import RayServeException, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette

from deployments.admission import Admission, DeadlinePassed
from deployments.api import Api, create_app
from deployments.config import AppConfig
from deployments.graph import Codec, FusedGraph
from deployments.model_source import fetch_bundle, resolve
from deployments.one_thread import OneThreadGraph
from deployments.query import Query
from deployments.stages import Answer, Postprocessor, Predicted, Prepared, Preprocessor
from models.image import InvalidImage
from models.spec import read_spec

# glibc would give a batch's memory back to the kernel after each batch and fault it in again; the one arena, since the others,
# which threads get, hold no block of over 64 MB and heed no threshold.
_KEEP_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
Refusal = InvalidImage | DeadlinePassed
REFUSALS = (InvalidImage, DeadlinePassed)
_LOOK_EVERY_S = 1  # at a replica; a dead one gets its successor then
_STOP_S = 5  # to end once the last request is answered
_MODEL_CPUS, _STAGE_CPUS = 0.5, 0.1  # for placement only; small, so that both placements fit two cores


def build_app(config: AppConfig) -> Application:
    """The application in the configured placement. Raises `model_source.ModelNotFound`."""
    address = resolve(config.model_uri, config.tracking_uri)
    config = config.model_copy(update={"model_uri": address.uri, "tracking_uri": address.tracking_uri})
    if config.placement == "fused":
        return _deployment(FusedIngress, config, config.num_replicas, _MODEL_CPUS, config.num_gpus).bind(config)
    return _deployment(SplitIngress, config, config.num_replicas, _STAGE_CPUS).bind(
        config,
        _deployment(Preprocess, config, config.num_replicas, _STAGE_CPUS).bind(config),
        _deployment(Model, config, config.num_model_replicas, _MODEL_CPUS, config.num_gpus).bind(config),
        _deployment(Postprocess, config, config.num_replicas, _STAGE_CPUS).bind(config),
    )


def _deployment(cls: type, config: AppConfig, num_replicas: int, num_cpus: float, num_gpus: float = 0) -> serve.Deployment:
    actor_options = {"num_cpus": num_cpus, "num_gpus": num_gpus, "runtime_env": {"env_vars": _KEEP_MEMORY}}
    return serve.deployment(cls).options(
        num_replicas=num_replicas,
        max_ongoing_requests=config.max_ongoing_requests,
        health_check_period_s=_LOOK_EVERY_S,
        graceful_shutdown_timeout_s=config.deadline_s + _STOP_S,  # a replica that is told to stop finishes what it has
        ray_actor_options=actor_options,
    )


@serve.ingress()
class FusedIngress:
    """HTTP and all stages in one process."""

    def __init__(self, config: AppConfig) -> None:
        served = fetch_bundle(config.model_uri, config.tracking_uri)
        graph = FusedGraph(served, config) if config.num_codec_threads else OneThreadGraph(served, config)
        self._api = Api(graph, graph.spec, served.version, config, Admission(config.max_waiting))

    def __serve_build_asgi_app__(self) -> Starlette:
        return create_app(self._api)


@serve.ingress()
class SplitIngress:
    """HTTP; the stages are deployments of their own."""

    def __init__(self, config: AppConfig, preprocess: DeploymentHandle, model: DeploymentHandle, postprocess: DeploymentHandle) -> None:
        served = fetch_bundle(config.model_uri, config.tracking_uri)
        graph = SplitGraph(preprocess, model, postprocess)
        self._api = Api(graph, read_spec(served.folder), served.version, config, Admission(config.max_waiting))

    def __serve_build_asgi_app__(self) -> Starlette:
        return create_app(self._api)


class SplitGraph:
    """The stages behind handles. What one returns goes straight to the next.

    A refusal goes through as a value that each stage hands on: raised in a replica, each would cost the log a traceback.
    """

    def __init__(self, preprocess: DeploymentHandle, model: DeploymentHandle, postprocess: DeploymentHandle) -> None:
        # By reference, since gRPC between replicas, which Serve's throughput mode turns on, refuses photos of over 4 MB.
        handles = (handle.options(_by_reference=True) for handle in (preprocess, model, postprocess))
        self._preprocess, self._model, self._postprocess = handles

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
        for handle in (self._preprocess, self._model, self._postprocess):
            await handle.check.remote()

    async def _chain(self, data: bytes | np.ndarray, query: Query) -> Answer:
        prepared = self._preprocess.remote(data, query)
        predicted = self._model.remote(prepared, query)
        answer = await self._postprocess.remote(predicted, query, data if query.format.needs_photo else None)
        if isinstance(answer, REFUSALS):
            raise answer
        return answer


def is_replica_lost(error: Exception) -> bool:
    """Whether a replica died, or what it had made was lost with it, so that another one can do it again.

    Where it dies before the next stage has taken what it made, Serve says so in an exception of no kind of its own.
    """
    kinds = (RayActorError, ObjectLostError, ReplicaUnavailableError)
    return isinstance(error, kinds) or (isinstance(error, RayServeException) and isinstance(error.__cause__, RayActorError))


class Preprocess:
    def __init__(self, config: AppConfig) -> None:
        served = fetch_bundle(config.model_uri, config.tracking_uri)
        self._stage = Preprocessor(read_spec(served.folder), config.image_limits, config.max_tiles)
        self._codec = Codec(config.num_codec_threads)

    async def __call__(self, data: bytes | np.ndarray, query: Query) -> Prepared | Refusal:
        try:
            return await self._codec.run("decode_wait", self._stage, data, query)
        except REFUSALS as refusal:
            return refusal

    async def check(self) -> None:
        await self._codec.check()


class Model:
    def __init__(self, config: AppConfig) -> None:
        from deployments.model_stage import BatchedModel  # brings torch, which the other stages' processes have no use for

        self._model = BatchedModel(fetch_bundle(config.model_uri, config.tracking_uri), config)

    async def __call__(self, prepared: Prepared | Refusal, query: Query) -> Predicted | Refusal:
        if isinstance(prepared, REFUSALS):
            return prepared
        try:
            return await self._model.predict(prepared, query)
        except REFUSALS as refusal:
            return refusal

    async def check(self) -> None:
        await self._model.check()


class Postprocess:
    def __init__(self, config: AppConfig) -> None:
        served = fetch_bundle(config.model_uri, config.tracking_uri)
        self._stage = Postprocessor(read_spec(served.folder), config.image_limits, served.version)
        self._codec = Codec(config.num_codec_threads)

    async def __call__(self, predicted: Predicted | Refusal, query: Query, photo: bytes | np.ndarray | None) -> Answer | Refusal:
        if isinstance(predicted, REFUSALS):
            return predicted
        try:
            return await self._codec.run("restore_wait", self._stage, predicted, query, photo)
        except REFUSALS as refusal:
            return refusal

    async def check(self) -> None:
        await self._codec.check()
