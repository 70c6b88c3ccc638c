"""A model of the service: the name that callers use and the version that answers to it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Lock

from deployments.admission import Admission
from deployments.config import AppConfig
from deployments.model_source import ModelAddress, ServedModel, fetch_bundle
from deployments.served_version import ServedVersion
from deployments.shelf import Shelf

Load = Callable[[ServedModel, ServedVersion | None, bool], ServedVersion]
"""Loads a version and compares it with the champion, where there is one. The last argument: whether golden pictures are a must."""


class NamedModel:
    """A model whose address always leads to the same version. Only `current` is for the event loop; all else takes long."""

    def __init__(
        self,
        name: str,
        address: ModelAddress,
        config: AppConfig,
        load: Load,
        shelf: Shelf[ServedVersion],
        admission: Admission,
        *,
        stays: bool,
    ) -> None:
        """`config` has the limits of this model. `stays`: it never makes room for others."""
        self.name, self.address, self.config, self.admission = name, address, config, admission
        self._load, self._shelf, self._stays = load, shelf, stays
        self._lock = Lock()  # one thread at a time loads
        self._key: Hashable = None

    @property
    def current(self) -> ServedVersion | None:
        """The version that answers; None where none is loaded, or it had to make room."""
        return self._shelf.get(self._key)

    @property
    def version(self) -> str | None:
        """What answers of `current` name."""
        current = self._shelf.peek(self._key)
        return None if current is None else current.version

    def start(self) -> None:
        """Loads a version, where none is. Raises `ModelNotFound`, `VersionRefused`, `shelf.NoRoom`, `models.spec.InvalidBundle`."""
        with self._lock:
            if self.current is None:
                self._start()

    def look(self) -> None:
        """Looks whether the address leads to another version now."""

    def hold(self, version: ServedVersion) -> None:
        """Lets `version` answer."""
        self._key = self._put(version)

    def _start(self) -> None:
        model = fetch_bundle(self.address.uri, self.address.tracking_uri)
        self.hold(self._load_beside(model, None, must_have_golden=False))

    def _load_beside(self, model: ServedModel, champion: ServedVersion | None, *, must_have_golden: bool) -> ServedVersion:
        """The version, loaded beside what is loaded."""
        self._shelf.make_room(model.num_bytes, keep={self._key})
        return self._load(model, champion, must_have_golden)

    def _put(self, version: ServedVersion) -> Hashable:
        """The key of `version` on the shelf."""
        key = (self.name, version.model.folder)
        version.stays = self._stays
        self._shelf.put(key, version)
        return key
