"""The Serve application: `serve run deployments.app:build_app model_uri=...` and `serve deploy deployments/serve.yaml`.

Annotations are not postponed here: Serve reads `build_app`'s to check the arguments.
"""

import asyncio
import logging
from functools import partial

from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette

from deployments.api import Api, create_app
from deployments.catalog import build_catalog
from deployments.config import AppConfig
from deployments.metrics import Metrics
from deployments.model_source import RegistryAway, check_address, resolve
from deployments.served_version import load_version
from deployments.split_graph import Stages
from deployments.split_loader import SplitLoader
from deployments.split_model import Model
from deployments.split_stages import Postprocess, Preprocess

# glibc would give a batch's memory back to the kernel after each batch and fault it in again; the one arena, since the others,
# which threads get, hold no block of over 64 MB and heed no threshold.
_KEEP_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
_LOOK_EVERY_S = 1  # at a replica; a dead one gets its successor then
_STOP_S = 5  # to end once the last request is answered
_MODEL_CPUS, _STAGE_CPUS = 0.5, 0.1  # for placement only; small, so that both placements fit two cores
logger = logging.getLogger("ray.serve")


def build_app(config: AppConfig) -> Application:
    """The application in the configured placement. Raises `model_source.ModelNotFound`."""
    config = _addressed(config)
    if config.placement == "fused":
        return _deployment(FusedIngress, config, config.num_replicas, _MODEL_CPUS, config.num_gpus).bind(config)
    return _deployment(SplitIngress, config, config.num_replicas, _STAGE_CPUS).bind(
        config,
        _deployment(Preprocess, config, config.num_replicas, _STAGE_CPUS).bind(config),
        _deployment(Model, config, config.num_model_replicas, _MODEL_CPUS, config.num_gpus).bind(config),
        _deployment(Postprocess, config, config.num_replicas, _STAGE_CPUS).bind(config),
    )


def _addressed(config: AppConfig) -> AppConfig:
    """The configuration with addresses that replicas can use in any working directory. Each must lead to a version now, if MLflow answers."""
    entries = {name: resolve(each.model_uri, config.tracking_uri) for name, each in config.models.items()}
    default = resolve(config.model_uri, config.tracking_uri)
    for address in (default, *entries.values()):
        try:
            check_address(address)
        except RegistryAway as error:
            logger.warning("%s; replicas start from their own copies where they have some", error)
    tracking_uri = next((each.tracking_uri for each in (default, *entries.values()) if each.tracking_uri), None)
    models = {name: each.model_copy(update={"model_uri": entries[name].uri}) for name, each in config.models.items()}
    return config.model_copy(update={"model_uri": default.uri, "tracking_uri": tracking_uri, "models": models})


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
        metrics = Metrics()
        models = build_catalog(config, partial(load_version, metrics=metrics), metrics)
        models.default.start()
        self._api = Api(models, config, metrics)

    def __serve_build_asgi_app__(self) -> Starlette:
        return create_app(self._api)


@serve.ingress()
class SplitIngress:
    """HTTP; the stages are deployments of their own."""

    async def __init__(
        self, config: AppConfig, preprocess: DeploymentHandle, model: DeploymentHandle, postprocess: DeploymentHandle
    ) -> None:
        metrics = Metrics()
        load = SplitLoader(Stages.of(preprocess, model, postprocess), config.num_model_replicas, asyncio.get_running_loop())
        models = build_catalog(config, load, metrics, holds_weights=False)
        await asyncio.to_thread(models.default.start)
        self._api = Api(models, config, metrics)

    def __serve_build_asgi_app__(self) -> Starlette:
        return create_app(self._api)
