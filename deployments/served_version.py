"""A version that can answer, and the checks without which none does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from deployments.config import AppConfig
from deployments.giving_way import Champion, GiveWay, loading_beside
from deployments.graph import Graph
from deployments.metrics import Metrics
from deployments.model_source import ServedModel, name_and_number
from deployments.watching import Watch
from models.engines import EngineRefused
from models.golden import GoldenMissing, check_golden
from models.label_set import LabelSet
from models.spec import InvalidBundle, SegmenterSpec, read_spec
from models.watch import read_reference

if TYPE_CHECKING:
    from deployments.model_stage import ModelStage

_ROUNDS = 5  # forward passes that are timed; the fastest counts


class VersionRefused(ValueError):
    """A version that must not serve. `reason` is one word of a few; `is_its_own` says whether any service would refuse it."""

    def __init__(self, reason: str, message: str, *, is_its_own: bool = True) -> None:
        super().__init__(message)
        self.reason, self.is_its_own = reason, is_its_own


@dataclass(eq=False)
class ServedVersion:
    """A version that is loaded, warm and checked. A request holds on to one until it is answered, whatever is served next.

    `forward_s`: the least processor time of an image alone (on a GPU, wall-clock time). `num_bytes`: of its weights.
    """

    model: ServedModel
    spec: SegmenterSpec
    graph: Graph
    forward_s: float = 0
    num_bytes: int = 0
    num_inside: int = field(default=0, init=False)
    """Requests that it is answering. Written by the event loop only."""
    stays: bool = field(default=False, init=False)
    """Whether it never makes room for other versions."""

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Counts a request while the body runs."""
        self.num_inside += 1
        try:
            yield
        finally:
            self.num_inside -= 1

    @property
    def version(self) -> str:
        return self.model.version

    @property
    def label_set(self) -> LabelSet:
        return self.spec.label_set


def load_version(
    config: AppConfig, model: ServedModel, champion: ServedVersion | None, must_have_golden: bool, *, metrics: Metrics
) -> ServedVersion:
    """The version with all stages in this process. Raises `VersionRefused`."""
    stage, forward_s = load_checked(config, model, champion, must_have_golden, metrics)
    return ServedVersion(model, stage.segmenter.spec, build_graph(model, config, stage), forward_s, model.num_bytes)


def load_checked(
    config: AppConfig, model: ServedModel, champion: Champion | None, must_have_golden: bool, metrics: Metrics | None
) -> tuple[ModelStage, float]:
    """The model, warm, and its `forward_s`, once its golden pictures and its pace were found right. Raises `VersionRefused`.

    Where a champion answers meanwhile, its requests go first. The model is watched for drift where there are `metrics` to tell.
    """
    with loading_beside(champion) as give_way:
        stage = _load(config, model, champion, metrics, give_way)
        _check_golden(model, stage, give_way, must_have=must_have_golden)
        forward_s = _forward_s(stage, give_way, on_gpu=bool(config.num_gpus))
    if champion and champion.forward_s and forward_s > config.max_slowdown * champion.forward_s:
        times = f"{1e3 * forward_s:.1f} ms for an image, the served version {1e3 * champion.forward_s:.1f} ms"
        raise VersionRefused("slow", f"{model.version} takes {times}, and max_slowdown allows {config.max_slowdown:g} times that")
    return stage, forward_s


def _load(config: AppConfig, model: ServedModel, champion: Champion | None, metrics: Metrics | None, give_way: GiveWay) -> ModelStage:
    from deployments.model_stage import load_stage  # brings torch, which the other placement's ingress has no use for

    try:
        stage = load_stage(model, config, warm=champion and champion.spec, give_way=give_way)
        stage.watch = _watch(model, stage.segmenter.spec.label_set, metrics)
    except EngineRefused as error:
        raise VersionRefused("engine", str(error), is_its_own=False) from error
    except InvalidBundle as error:
        raise VersionRefused("unloadable", str(error)) from error
    except (RuntimeError, ValueError, MemoryError) as error:
        raise VersionRefused("unloadable", f"{model.version} cannot compute a blank image ({error}); train again") from error
    return stage


def _watch(model: ServedModel, label_set: LabelSet, metrics: Metrics | None) -> Watch | None:
    if metrics is None:
        return None
    reference = read_reference(model.folder, label_set)
    name, _ = name_and_number(model.version)
    return None if reference is None else Watch(reference, label_set, partial(metrics.drift, name))


def check_labels(model: ServedModel, served: SegmenterSpec, *, may_differ: bool) -> SegmenterSpec:
    """The version's spec. Raises `VersionRefused` where its classes are not those that clients now get and it `may_differ` not."""
    try:
        spec = read_spec(model.folder)
    except InvalidBundle as error:
        raise VersionRefused("unloadable", str(error)) from error
    if spec.label_set.names != served.label_set.names and not may_differ:
        new, gone = (sorted(set(a.label_set.names) - set(b.label_set.names)) for a, b in ((spec, served), (served, spec)))
        change = f"new: {', '.join(new) or 'none'}; gone: {', '.join(gone) or 'none'}" if new or gone else "in another order"
        remedy = "promote it with pipelines.promote --accept-labels if clients know"
        raise VersionRefused("labels", f"the classes of {model.version} are not those that are served ({change}); {remedy}")
    return spec


def build_graph(model: ServedModel, config: AppConfig, stage: ModelStage) -> Graph:
    """All stages in this process, on one thread or on several."""
    from deployments.graph import FusedGraph
    from deployments.one_thread import OneThreadGraph

    return FusedGraph(model, config, stage) if config.num_codec_threads else OneThreadGraph(model, config, stage)


def _check_golden(model: ServedModel, stage: ModelStage, give_way: GiveWay, *, must_have: bool) -> None:
    if model.golden is None:
        if must_have:
            raise VersionRefused("golden", f"{model.version} has no golden pictures to try it on; promote it with pipelines.promote")
        return
    try:
        agreement = check_golden(model.golden, stage.segmenter, before_each=give_way)
    except GoldenMissing as error:
        raise VersionRefused("golden", str(error)) from error
    except Exception as error:  # whatever a network raises
        raise VersionRefused("golden", f"{model.version} cannot compute its golden pictures ({error}); train again") from error
    if not agreement.is_enough:
        raise VersionRefused("golden", f"{model.version} does not give the masks that it was promoted with: {agreement}")


def _forward_s(stage: ModelStage, give_way: GiveWay, *, on_gpu: bool) -> float:
    """Processor time, which others that are busy do not lengthen; a GPU's work shows in wall-clock time only."""
    clock = time.perf_counter if on_gpu else time.thread_time
    times_s = []
    for _ in range(_ROUNDS):
        give_way()
        start = clock()
        stage.segmenter.predict([stage.blank])
        times_s.append(clock() - start)
    return min(times_s)
