"""How a version comes to serve in the placement `split`: the replicas of the model try it first, then the ingress asks for it."""

from __future__ import annotations

import asyncio

from deployments.config import AppConfig
from deployments.model_source import ServedModel
from deployments.served_version import ServedVersion, VersionRefused
from deployments.split_graph import SplitGraph, Stages, is_replica_lost
from deployments.split_model import Trial
from deployments.split_stages import Asked
from models.spec import read_spec

_ROUNDS = 10  # of asking replicas of the model to try a version, in the hope to reach all
_PREPARED_WITHIN_S = 300
_GROUPS_OUTSIDE_MODEL = 1  # on its way from one ingress, before or behind the model, beside one for each replica of the model


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
        num_groups = self._num_model_replicas + _GROUPS_OUTSIDE_MODEL
        return ServedVersion(model, spec, SplitGraph(self._stages, asked, config.max_batch_size, num_groups))

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
