"""A model whose alias is followed: where it moves, the new version serves once it has shown that it can, and the old one is kept a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable
from dataclasses import dataclass

from deployments.model_source import ModelNotFound, RegisteredVersion, Registry, RegistryAway
from deployments.named_model import NamedModel
from deployments.served_version import VersionRefused, check_labels
from deployments.serving_notes import ServingNotes
from deployments.shelf import NoRoom
from models.spec import InvalidBundle, SegmenterSpec, read_spec

_VERDICT, _IS_REFUSED = "gate.verdict", "refused"  # a version's tag, by `pipelines.promote`
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5, 300  # between two tries of what the machine, not the version, is to blame for
logger = logging.getLogger("ray.serve")


@dataclass
class _Pause:
    """After a failure that may pass by itself; longer each time."""

    length_s: float = 0
    until: float = 0

    def begin(self) -> None:
        self.length_s = min(_LONGEST_PAUSE_S, 2 * self.length_s or _FIRST_PAUSE_S)
        self.until = time.monotonic() + self.length_s


@dataclass(frozen=True)
class _Kept:
    """The version that served before, still loaded."""

    version: RegisteredVersion
    key: Hashable
    until: float


class FollowedModel(NamedModel):
    """The model at `models:/<name>@<alias>`."""

    def __init__(self, *arguments, registry: Registry, notes: ServingNotes, **options) -> None:
        """The rest is `NamedModel`'s."""
        super().__init__(*arguments, **options)
        self._registry, self._notes = registry, notes
        self._serving: RegisteredVersion | None = None
        self._kept: _Kept | None = None
        self._target: RegisteredVersion | None = None
        self._pause = _Pause()
        self._refused: dict[RegisteredVersion, bool] = {}  # and whether the registry says so too

    def look(self) -> None:
        """Serves the version that the alias names now, if it can; otherwise the present one goes on, and the reason is told once."""
        with self._lock:
            if self.current is None:
                return
            if self._kept and time.monotonic() > self._kept.until:
                self._drop_kept()
            target = self._look_up()
            if target is None or target == self._serving:
                return
            if target != self._target:
                self._target, self._pause = target, _Pause()
                self._refused = {version: is_told for version, is_told in self._refused.items() if is_told}
            if time.monotonic() >= self._pause.until and not self._is_refused(target):
                self._try(target)

    def _look_up(self) -> RegisteredVersion | None:
        try:
            target = self._registry.look_up(self.address)
        except ModelNotFound as error:
            self._notes.trouble("registry" if isinstance(error, RegistryAway) else "alias", error)
            return None
        if not self._pause.length_s:
            self._notes.no_trouble()
        return target

    def _is_refused(self, target: RegisteredVersion) -> bool:
        """Whether it was refused before, here or by another replica. Who removes the tag asks for another try."""
        said = self._notes.refusal(target)
        if target not in self._refused:
            if said:
                logger.error("model %s: %s was refused before and does not serve: %s", self.name, target, said)
                self._refused[target] = True
            return bool(said)
        if self._refused[target] and not said:
            del self._refused[target]
            return False
        return True

    def _try(self, target: RegisteredVersion) -> None:
        try:
            self._serve(target, f"the alias {self.address.alias[1]} moved here from {self._serving}", self.current.spec)
        except VersionRefused as error:
            self._refused[target] = self._notes.refused(target, error)
            self._registry.cache.forget(target.name, target.number, target.created)
        except Exception as error:  # whatever it is, what serves goes on
            if not isinstance(error, (ModelNotFound, NoRoom)):
                logger.exception("model %s: %s could not be tried", self.name, target)
            self._pause.begin()
            self._notes.trouble(_blame(error), error)

    def _serve(self, version: RegisteredVersion, why: str, served: SegmenterSpec | None) -> None:
        """Lets `version` answer, once it may. `served` is what clients know. Raises `VersionRefused`, `ModelNotFound`, `NoRoom`."""
        if self._kept and self._kept.version == version and self._shelf.get(self._kept.key):
            key, self._kept = self._kept.key, None
        else:
            key = self._load_checked(version, served)
        before, before_key = self._serving, self._key
        self._key, self._serving = key, version
        self._shelf.get(key).stays = self._stays
        if before is not None and before != version:
            self._retire(before, before_key, f"{version} took over")
        self._notes.began(version, why)
        try:
            self._registry.cache.remember(*self.address.alias, version.number, version.created)
        except OSError as error:
            logger.warning("model %s: a start without MLflow would not find %s: %s", self.name, version, error)

    def _load_checked(self, version: RegisteredVersion, served: SegmenterSpec | None) -> Hashable:
        if version.tags.get(_VERDICT) == _IS_REFUSED:
            reasons = version.tags.get("gate.reasons", "its report has the reasons")
            raise VersionRefused(
                "gate", f"the gate refused {version} ({reasons}); promote it with pipelines.promote --force, or another one"
            )
        try:
            return self._load_copy(version, served)
        except VersionRefused as error:
            if error.reason != "unloadable":
                raise
        # The copy here may be damaged, and not what it was copied from.
        self._registry.cache.forget(version.name, version.number, version.created)
        return self._load_copy(version, served)

    def _load_copy(self, version: RegisteredVersion, served: SegmenterSpec | None) -> Hashable:
        model = self._registry.fetch(version)
        if served is not None:
            check_labels(model, served, may_differ=_VERDICT in version.tags)
        return self._put(self._load_beside(model, self.current, must_have_golden=served is not None))

    def _retire(self, before: RegisteredVersion, key: Hashable, why: str) -> None:
        self._drop_kept()
        if old := self._shelf.get(key):
            old.stays = False
            self._kept = _Kept(before, key, time.monotonic() + self.config.keep_previous_s)
        self._notes.ended(before, why)

    def _drop_kept(self) -> None:
        if self._kept:
            self._shelf.drop(self._kept.key)
        self._kept = None

    def _start(self) -> None:
        """The alias's version, or where that cannot be had or serve, the one that served last."""
        last, error = self._last_served(), None
        try:
            named = self._registry.look_up(self.address)
        except ModelNotFound as not_found:
            named, error = None, not_found
            self._notes.trouble("registry" if isinstance(error, RegistryAway) else "alias", error)
        for version in dict.fromkeys(each for each in (named, last) if each is not None):
            try:
                return self._start_with(version, last)
            except VersionRefused as refusal:
                error = refusal
                if version not in self._refused:
                    self._refused[version] = self._notes.refused(version, refusal)
            except (ModelNotFound, NoRoom) as failure:
                error = failure
                self._notes.trouble(_blame(error), error)
        raise error

    def _start_with(self, version: RegisteredVersion, last: RegisteredVersion | None) -> None:
        if last in (None, version):
            return self._serve(version, "the service started", None)
        if said := self._notes.refusal(version):
            logger.error("model %s: %s was refused before and does not serve: %s", self.name, version, said)
            self._refused[version] = True
            raise VersionRefused("refused", said)
        try:
            known = read_spec(self._registry.fetch(last).folder)
        except (ModelNotFound, InvalidBundle):  # nobody can tell what clients know
            known = None
        self._serve(version, f"the service started; {last} served before", known)
        self._notes.ended(last, f"{version} took over")
        return None

    def _last_served(self) -> RegisteredVersion | None:
        name, alias = self.address.alias
        if remembered := self._registry.cache.remembered(name, alias):
            return RegisteredVersion(name, *remembered)
        try:
            return self._registry.last_served(name)
        except ModelNotFound:
            return None


def _blame(error: Exception) -> str:
    if isinstance(error, NoRoom | MemoryError):
        return "memory"
    return "download" if isinstance(error, ModelNotFound) else "internal"
