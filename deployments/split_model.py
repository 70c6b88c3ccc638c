"""The placement `split`: the model as a deployment, whose replicas hold the weights of whatever versions requests ask for."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deployments.config import AppConfig
from deployments.metrics import Metrics
from deployments.model_source import ModelNotFound, fetch_bundle, pinned, resolve
from deployments.query import Query
from deployments.served_version import VersionRefused, load_checked
from deployments.shelf import NoRoom, Shelf
from deployments.split_stages import Asked, advance
from deployments.stages import Predicted, Prepared
from models.spec import SegmenterSpec

if TYPE_CHECKING:
    from deployments.model_stage import BatchedModel

logger = logging.getLogger("ray.serve")
_LOOK_EVERY_S = 5  # for versions that nobody asks for any more


@dataclass(frozen=True)
class Trial:
    """What a replica of the model found of a version; `refusal` has the arguments of `VersionRefused`."""

    replica: str
    refusal: tuple[str, str, bool] | None = None


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

    async def __call__(self, prepared: list[Prepared | Exception], queries: list[Query], asked: Asked) -> list[Predicted | Exception]:
        """The images of a group share batches with one another and with those of other groups."""
        held = self._shelf.get(asked.uri) or await self._load(asked.uri, None, False)

        async def predict(rows: Sequence[tuple[Prepared, Query]]) -> list[Predicted | BaseException]:
            return await asyncio.gather(*(held.model.predict(*row) for row in rows), return_exceptions=True)

        held.num_inside += 1
        try:
            return await advance(list(zip(prepared, queries, strict=True)), predict)
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


def _model_of(uri: Hashable) -> str:
    """The model that a version's URI belongs to."""
    return str(uri).rpartition("/")[0]
