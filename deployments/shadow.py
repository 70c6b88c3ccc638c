"""A challenger that sees a share of the live requests and answers none of them: how often it would have said something else.

It works on one thread that gives way to requests, only after an answer was sent and while nobody waits, and drops what comes too fast.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from deployments.config import AppConfig
from deployments.giving_way import be_nice
from deployments.metrics import Metrics
from deployments.model_source import ModelAddress, ModelNotFound, RegisteredVersion, Registry
from deployments.served_version import ServedVersion, VersionRefused, load_checked
from deployments.shadow_page import Disagreement, page
from models.fit import preprocess
from models.image import as_image
from models.label_set import LabelSet
from models.metrics import class_iou, confusion_counts, region_outcomes
from models.restore import restore_class_map

_KEPT = 8  # worst disagreements
_PAGE_EVERY_S = 60
_ENOUGH = 5  # photos with a class, before it can be called damaged
_VISIBLE = 0.001  # of a photo's pixels, from which on a class is on it
_DAMAGED = 0.5  # of the median class's IoU
_SUSPECT = "shadow.damaged"  # tag of the challenger
logger = logging.getLogger("ray.serve")


@dataclass
class Comparison:
    """The challenger's masks against the champion's, counted together: IoU is of the two, not of either with the truth."""

    label_set: LabelSet
    keeps_pictures: bool = False
    counts: np.ndarray = field(init=False)
    num_photos: int = 0
    worst: list[Disagreement] = field(default_factory=list)

    def __post_init__(self) -> None:
        num_classes = len(self.label_set)
        self.counts = np.zeros((num_classes, num_classes), np.int64)
        self._photos_with = np.zeros(num_classes, np.int64)

    def add(self, champion: np.ndarray, challenger: np.ndarray, photo: np.ndarray) -> None:
        """Shapes: both masks (h, w) uint8; photo (h, w, 3) uint8 RGB."""
        counts = confusion_counts(champion, challenger, len(self.label_set))
        self.counts += counts
        self._photos_with += np.maximum(counts.sum(0), counts.sum(1)) >= _VISIBLE * champion.size
        self.num_photos += 1
        agreement = float(np.trace(counts) / counts.sum())
        if self.keeps_pictures and (len(self.worst) < _KEPT or agreement < self.worst[-1].agreement):
            self.worst.append(Disagreement.of(agreement, photo, champion, challenger, self.label_set))
            self.worst = sorted(self.worst, key=lambda each: each.agreement)[:_KEPT]

    @property
    def iou(self) -> dict[str, float]:
        """By class; one that neither gave a pixel is left out."""
        return {
            name: float(value) for name, value in zip(self.label_set.names, class_iou(region_outcomes(self.counts))) if not np.isnan(value)
        }

    @property
    def damaged(self) -> dict[str, float]:
        """Classes in which the two differ far more than in the others, with their IoU, once enough photos show them."""
        iou = class_iou(region_outcomes(self.counts))
        told = (self._photos_with >= _ENOUGH) & ~np.isnan(iou)
        if not told.any():
            return {}
        limit = _DAMAGED * float(np.median(iou[told]))
        return {self.label_set.names[index]: float(iou[index]) for index in np.flatnonzero(told & (iou < limit))}


class Shadow:
    """The challenger of one model. `offer` is for the event loop, `look` for the thread that follows aliases."""

    def __init__(self, address: ModelAddress, config: AppConfig, metrics: Metrics, is_idle: Callable[[], bool]) -> None:
        self._address, self._config, self._metrics, self._is_idle = address, config, metrics, is_idle
        self._registry = Registry(address.tracking_uri)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shadow", initializer=be_nice)
        self._lock = threading.Lock()
        self._is_busy = False
        self._version: RegisteredVersion | None = None
        self._stage = None
        self._tried: RegisteredVersion | None = None
        self._comparisons: dict[str, Comparison] = {}  # by the champion's version
        self._told: set[str] = set()
        self._page_at, self._page_of = 0.0, 0

    def wants_next(self) -> bool:
        """Whether the next request is one of the share that the challenger sees."""
        return self._stage is not None and not self._is_busy and random.random() < self._config.shadow_share

    def offer(self, image: bytes | np.ndarray, mask: np.ndarray, champion: ServedVersion) -> None:
        """An image that `champion` has answered with `mask` (h, w) uint8."""
        if self._is_busy or not self._is_idle():
            return
        self._is_busy = True
        self._thread.submit(self._compare, image, mask, champion)

    def wait(self) -> None:
        """Returns when nothing is being compared."""
        self._thread.submit(lambda: None).result()

    def look(self) -> None:
        """Loads the version that the challenger's address leads to now, and tells MLflow what was found of it since."""
        try:
            version = self._registry.look_up(self._address)
        except ModelNotFound as error:
            if self._version is not None:
                logger.warning("the shadow goes on with %s: %s", self._version, error)
            return
        if version != self._tried:
            self._tried = version
            self._load(version)
        self._tell()

    def _load(self, version: RegisteredVersion) -> None:
        self._stage = None
        try:
            stage, _ = load_checked(self._config, self._registry.fetch(version), None, False, None)
        except (VersionRefused, ModelNotFound) as error:
            logger.error("%s is no shadow: %s", version, error)
            return
        with self._lock:
            self._version, self._stage, self._comparisons, self._told = version, stage, {}, set()
        logger.info("%s is the shadow of %.0f %% of the requests", version, 100 * self._config.shadow_share)

    def _compare(self, image: bytes | np.ndarray, mask: np.ndarray, champion: ServedVersion) -> None:
        try:
            with self._lock:
                self._compare_loaded(image, mask, champion)
        except Exception:
            logger.exception("a shadow's answer failed; no caller noticed")
        finally:
            self._is_busy = False

    def _compare_loaded(self, image: bytes | np.ndarray, mask: np.ndarray, champion: ServedVersion) -> None:
        stage = self._stage
        if stage is None or str(self._version) == champion.version:
            return
        spec = stage.segmenter.spec
        if spec.label_set.names != champion.label_set.names:
            if "labels" not in self._told:
                logger.warning("%s has other classes than %s; the two are not compared", self._version, champion.version)
            self._told.add("labels")
            return
        photo = as_image(image, self._config.image_limits)
        (prediction,) = stage([preprocess(photo, spec.input_size, spec.fit_rule)])
        if isinstance(prediction, Exception):
            raise prediction
        comparison = self._comparisons.setdefault(champion.version, Comparison(spec.label_set, self._config.shadow_pictures))
        comparison.add(mask, restore_class_map(prediction), photo)
        self._metrics.shadow(str(self._version), comparison.num_photos, comparison.iou)

    def _tell(self) -> None:
        """Names damaged classes as soon as they show, and renews the page now and then."""
        with self._lock:
            version, comparisons = self._version, dict(self._comparisons)
            champion, comparison = next(reversed(comparisons.items()), ("", None))
            if comparison is None:
                return
            damaged = comparison.damaged
            num_photos = sum(each.num_photos for each in comparisons.values())
            is_due = num_photos > self._page_of and (time.monotonic() >= self._page_at or damaged.keys() - self._told)
            text = page(str(version), champion, comparison) if is_due else ""
        try:
            if news := damaged.keys() - self._told:
                sentence = ", ".join(f"{name}: IoU {iou:.3f}" for name, iou in damaged.items())
                sentence = f"{sentence} with {champion} over {comparison.num_photos} photos, far below its other classes"
                logger.error("the challenger %s is damaged: %s", version, sentence)
                self._registry.tag(version, lambda tags: {_SUSPECT: sentence})
                self._told |= news
            if is_due:
                self._page_at, self._page_of = time.monotonic() + _PAGE_EVERY_S, num_photos
                self._registry.log_page(version, text, "shadow")
        except ModelNotFound as error:  # deleted, or MLflow is away
            logger.warning("MLflow is not told of the shadow %s: %s", version, error)
