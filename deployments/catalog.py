"""The models of a service: one that is always loaded, others on demand, each followed to where its alias moves."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from deployments.admission import Admission
from deployments.config import AppConfig
from deployments.following import FollowedModel
from deployments.metrics import Metrics
from deployments.model_source import ModelAddress, Registry, name_and_number, resolve
from deployments.named_model import Load, NamedModel
from deployments.problems import NotReady, UnknownModel
from deployments.served_version import ServedVersion
from deployments.serving_notes import ServingNotes
from deployments.shelf import NoRoom, Shelf

if TYPE_CHECKING:
    from deployments.shadow import Shadow

_JITTER = 0.2  # of the interval, so that replicas do not ask all at once
_FAILED_S = 10  # for which a model that could not be loaded is not tried again
logger = logging.getLogger("ray.serve")


class Catalog:
    """Models by name; the first one is the default. For one event loop."""

    def __init__(self, models: Sequence[NamedModel], follow_every_s: float = 3, shadow: Shadow | None = None) -> None:
        """`shadow`: the challenger of the default model."""
        self.shadow = shadow
        self._models = {model.name: model for model in models}
        self.default = models[0]
        self._follow_every_s = follow_every_s
        self._loading: dict[str, asyncio.Task] = {}
        self._failed_at: dict[str, float] = {}

    def __iter__(self):
        return iter(self._models.values())

    async def take(self, name: str | None = None) -> tuple[NamedModel, ServedVersion]:
        """The model of that name, the default one for None, and the version that a request which comes now is answered by.

        Raises `UnknownModel`, `NotReady`.
        """
        model = self.default if name is None else self._models.get(name)
        if model is None:
            raise UnknownModel(f"model {name[:80]!r} is not served; GET /v1/models lists the models")
        version = model.current
        return model, version if version is not None else await self._load(model)

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Looks after the aliases on a thread of its own meanwhile."""
        stop = threading.Event()
        thread = threading.Thread(target=self._follow, args=(stop,), name="follow", daemon=True)
        if self.shadow or any(isinstance(model, FollowedModel) for model in self):
            thread.start()
        try:
            yield
        finally:
            stop.set()

    def _follow(self, stop: threading.Event) -> None:
        # At the requests' own priority: one that gives way would hold Python's lock while it waits for a busy processor.
        while not stop.wait(self._follow_every_s * random.uniform(1 - _JITTER, 1 + _JITTER)):
            for each in (*self, self.shadow) if self.shadow else self:
                try:
                    each.look()
                except Exception:
                    logger.exception("%s could not look after its alias; what serves goes on", type(each).__name__)

    async def _load(self, model: NamedModel) -> ServedVersion:
        """The model's version, loaded once however many wait for it."""
        if time.monotonic() < self._failed_at.get(model.name, -_FAILED_S) + _FAILED_S:
            raise NotReady(f"model {model.name!r} could not be loaded a moment ago; try again in {_FAILED_S} s")
        task = self._loading.get(model.name)
        if task is None:
            task = self._loading[model.name] = asyncio.create_task(asyncio.to_thread(model.start))
            task.add_done_callback(partial(self._loaded, model.name))
        try:
            await asyncio.wait_for(asyncio.shield(task), model.config.deadline_s)
        except TimeoutError:
            raise NotReady(f"model {model.name!r} is still loading; try again in some seconds") from None
        except NoRoom as error:
            raise NotReady(f"model {model.name!r} finds no room while other models are busy; try again in {_FAILED_S} s") from error
        except Exception as error:
            raise NotReady(f"model {model.name!r} cannot be loaded; the service's log has the reason") from error
        if version := model.current:
            return version
        raise NotReady(f"model {model.name!r} had to make room for others at once; try again in some seconds")

    def _loaded(self, name: str, task: asyncio.Task) -> None:
        del self._loading[name]
        if not task.cancelled() and (error := task.exception()):
            self._failed_at[name] = time.monotonic()
            logger.error("model %s cannot be loaded: %s", name, error)


def build_catalog(config: AppConfig, load: Callable[..., ServedVersion], metrics: Metrics, *, holds_weights: bool = True) -> Catalog:
    """The configured models, none of them loaded. `load` takes the config of a model and what `named_model.Load` takes.

    `holds_weights`: whether versions are loaded in this process, so that the memory budget is kept here.
    """
    shelf: Shelf[ServedVersion] = Shelf(config.model_memory_bytes if holds_weights else None)
    build = partial(_build_model, load=load, shelf=shelf, metrics=metrics)
    default = resolve(config.model_uri, config.tracking_uri)
    models = [build(default.name, default, config, stays=True)]
    for name, entry in config.models.items():
        models.append(build(name, resolve(entry.model_uri, config.tracking_uri), config.of_model(entry), stays=False))
    return Catalog(models, config.follow_every_s, _build_shadow(config, models[0], metrics))


def _build_shadow(config: AppConfig, champion: NamedModel, metrics: Metrics) -> Shadow | None:
    if not config.shadow_uri:
        return None
    from deployments.shadow import Shadow  # brings torch, which the other placement's ingress has no use for

    address = resolve(config.shadow_uri, config.tracking_uri)
    return Shadow(address, config, metrics, is_idle=lambda: champion.admission.num_inside == 0)


def _build_model(
    name: str, address: ModelAddress, config: AppConfig, *, load: Callable, shelf: Shelf, metrics: Metrics, stays: bool
) -> NamedModel:
    arguments = name, address, config, partial(load, config), shelf, Admission(config.max_waiting)
    if not address.alias:
        return NamedModel(*arguments, stays=stays)
    registry = Registry(address.tracking_uri)
    return FollowedModel(*arguments, stays=stays, registry=registry, notes=ServingNotes(name, registry, metrics, config.engine))


def catalog_of(version: ServedVersion, config: AppConfig, admission: Admission | None = None) -> Catalog:
    """One model, loaded already, whose version never changes."""

    def refuse(*_: object) -> ServedVersion:
        raise NotReady(f"{version.version} is all there is")

    load: Load = refuse
    name, _ = name_and_number(version.version)
    model = NamedModel(
        name, ModelAddress(version.model.uri), config, load, Shelf(None), admission or Admission(config.max_waiting), stays=True
    )
    model.hold(version)
    return Catalog([model])
