"""What a service tells people about versions: as tags in MLflow, as metrics, as lines in the log. Failing to tell stops nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from deployments.metrics import Metrics
from deployments.model_source import REFUSED, SINCE, ModelNotFound, RegisteredVersion, Registry
from deployments.served_version import VersionRefused

_UNTIL, _WHY = "serving.until", "serving.why"
logger = logging.getLogger("ray.serve")


class ServingNotes:
    """Several replicas tell the same: whoever comes second finds it told and leaves it."""

    def __init__(self, name: str, registry: Registry, metrics: Metrics, engine: str) -> None:
        self._name, self._registry, self._metrics, self._engine = name, registry, metrics, engine
        self._trouble = ""

    def began(self, version: RegisteredVersion, why: str) -> None:
        """`version` answers from now on."""
        logger.info("model %s: %s serves: %s", self._name, version, why)
        self._metrics.serves(self._name, int(version.number))
        fresh = {SINCE: _now(), _WHY: why, _UNTIL: None}
        self._tag(version, lambda tags: fresh if SINCE not in tags or _UNTIL in tags else {})

    def ended(self, version: RegisteredVersion, why: str) -> None:
        """`version` answers nobody any more."""
        self._tag(version, lambda tags: {} if _UNTIL in tags else {_UNTIL: f"{_now()}: {why}"})

    def refused(self, version: RegisteredVersion, error: VersionRefused) -> bool:
        """`version` shall not answer; whether the registry says so now. Only what any service would find is a verdict on the version."""
        self._metrics.refused_version(error.reason)
        logger.error("model %s: %s does not serve: %s", self._name, version, error)
        key = REFUSED if error.is_its_own else f"{REFUSED}.{self._engine}"
        return self._tag(version, lambda tags: {} if key in tags else {key: f"{error.reason}: {error}"})

    def refusal(self, version: RegisteredVersion) -> str | None:
        """What the registry said of the version, for this service, when it was looked up."""
        return version.tags.get(REFUSED) or version.tags.get(f"{REFUSED}.{self._engine}")

    def trouble(self, reason: str, error: Exception) -> None:
        """Something else than a version is at fault; told once until it changes."""
        if str(error) != self._trouble:
            self._trouble = str(error)
            self._metrics.refused_version(reason)
            logger.error("model %s: what serves goes on: %s", self._name, error)

    def no_trouble(self) -> None:
        if self._trouble:
            logger.info("model %s: the trouble is over", self._name)
        self._trouble = ""

    def _tag(self, version: RegisteredVersion, changes: Callable[[Mapping[str, str]], Mapping[str, str | None]]) -> bool:
        try:
            self._registry.tag(version, changes)
        except ModelNotFound as error:  # or MLflow is away
            logger.warning("model %s: the tags of %s stay as they are: %s", self._name, version, error)
            return False
        return True


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
