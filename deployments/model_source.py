"""Where models come from: a folder, or MLflow. The only module of the package that speaks to MLflow."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from deployments.model_cache import ModelCache
from models.home import resolve_tracking_uri
from models.spec import CARD, read_card

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

T = TypeVar("T")
_FORMS = "a bundle's path, runs:/<id>/<name>, models:/<name>@<alias> or models:/<name>/<version>"
_ALIAS = re.compile(r"models:/(?P<name>[^/@]+)@(?P<alias>[^/@]+)")
_VERSION = re.compile(r"models:/(?P<name>[^/@]+)/(?P<number>\d+)")
_RUN = re.compile(r"runs:/(?P<rest>[^/]+/.+)")
_NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # what MLflow's stores say of an alias or a version they lack
SINCE, REFUSED = "serving.since", "serving.refused"  # tags of a version: when it began to serve; why it must not
_LONGEST_TAG = 4000  # characters, below the limits of MLflow's stores


class ModelNotFound(ValueError):
    """A model URI that leads to no bundle."""


class RegistryAway(ModelNotFound):
    """MLflow does not answer; what the URI leads to is not known."""


class DownloadFailed(ModelNotFound):
    """A version that is in the registry and does not come to this machine's disk."""


@dataclass(frozen=True)
class ServedModel:
    """A bundle on this machine, the version that answers name, the URI that always leads to it, and its golden pictures, None where it
    has none."""

    folder: Path
    version: str
    uri: str
    golden: Path | None = None

    @property
    def num_bytes(self) -> int:
        """What its weights take."""
        return sum(file.stat().st_size for file in self.folder.glob("*.safetensors"))


@dataclass(frozen=True)
class ModelAddress:
    """A model URI that is valid in any working directory, and MLflow's address where it needs one."""

    uri: str
    tracking_uri: str | None = None

    @property
    def alias(self) -> tuple[str, str] | None:
        """The name and the alias of an address that may lead to another version tomorrow; None for all others."""
        match = _ALIAS.fullmatch(self.uri)
        return (match["name"], match["alias"]) if match else None

    @property
    def name(self) -> str:
        """What the model is called: its name in the registry, its folder's, or its run's id."""
        if not self.tracking_uri:
            return Path(self.uri).name
        return re.split("[/@]", self.uri.partition(":/")[2])[0]


@dataclass(frozen=True)
class RegisteredVersion:
    """A version in the registry. `created` tells it from one of the same name and number in a registry that was made anew."""

    name: str
    number: str
    created: int
    run_id: str | None = field(default=None, compare=False)
    tags: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return f"{self.name}/{self.number}"


def name_and_number(version: str) -> tuple[str, str]:
    """`scenes/3` is version 3 of `scenes`, `bundle@0f3a` version 0f3a of `bundle`; of a run, its id is the name."""
    name, _, number = version.rpartition("@") if "@" in version else version.partition("/")
    return name, number


def resolve(model_uri: str, tracking_uri: str | None = None) -> ModelAddress:
    """`model_uri` with a path made absolute; an alias stays one. Raises `ModelNotFound` for other forms."""
    if not _is_mlflow(model_uri):
        if ":/" in model_uri:
            raise ModelNotFound(f"model_uri {model_uri!r} is of no known form; use {_FORMS}")
        return ModelAddress(str(Path(model_uri).expanduser().absolute()))
    if not (_ALIAS.fullmatch(model_uri) or _VERSION.fullmatch(model_uri) or _RUN.fullmatch(model_uri)):
        raise ModelNotFound(f"model_uri {model_uri!r} is of no known form; use {_FORMS}")
    return ModelAddress(model_uri, _absolute(resolve_tracking_uri(tracking_uri)))


def check_address(address: ModelAddress) -> None:
    """Returns where a registered version is what the address leads to now, or no registry is asked. Raises `ModelNotFound`, `RegistryAway`."""
    if address.tracking_uri and not _RUN.fullmatch(address.uri):
        Registry(address.tracking_uri).look_up(address)


def pinned(address: ModelAddress) -> ModelAddress:
    """The address of the version that an alias stands for now; other addresses as they are. Raises `ModelNotFound`, `RegistryAway`."""
    if not address.alias:
        return address
    registry = Registry(address.tracking_uri)
    try:
        version = str(registry.look_up(address))
    except ModelNotFound:
        remembered = registry.cache.remembered(*address.alias)
        if remembered is None:
            raise
        version = f"{address.alias[0]}/{remembered[0]}"
    return ModelAddress(f"models:/{version}", address.tracking_uri)


def fetch_bundle(model_uri: str, tracking_uri: str | None = None) -> ServedModel:
    """The bundle that `model_uri` leads to now, downloaded where it is not on this machine's disk.

    Versions: `scenes/3` of the registry, `<run id>/<name>` of a run, `<folder>@<start of the weights' digest>` of a path.
    Raises `ModelNotFound`, `models.bundle.InvalidBundle`.
    """
    address = resolve(model_uri, tracking_uri)
    if not address.tracking_uri:
        folder = Path(address.uri)
        version = f"{folder.name}@{read_card(folder)['weights_sha256'][:12]}"
        return ServedModel(folder, version, address.uri, _golden_of(folder))
    registry = Registry(address.tracking_uri)
    if _RUN.fullmatch(address.uri):
        return _served(Path(registry.download(address.uri, None)), address.uri.removeprefix("runs:/"), address.uri)
    try:
        return registry.fetch(registry.look_up(address))
    except RegistryAway:
        match = _VERSION.fullmatch(address.uri)
        if match and (copy := registry.cache.any_copy(match["name"], match["number"])):
            return _served(copy, f"{match['name']}/{match['number']}", address.uri)
        raise


@dataclass(frozen=True)
class Registry:
    """MLflow's registry as a server of models uses it: it reads versions, fetches them, and writes nothing but tags and pages."""

    tracking_uri: str

    @cached_property
    def cache(self) -> ModelCache:
        return ModelCache(self.tracking_uri)

    def look_up(self, address: ModelAddress) -> RegisteredVersion:
        """The version that the address leads to now. Raises `ModelNotFound` and its `RegistryAway`."""
        if address.alias:
            found = self._ask(address.uri, "promote a version first", lambda client: client.get_model_version_by_alias(*address.alias))
        else:
            match = _VERSION.fullmatch(address.uri)
            ask = lambda client: client.get_model_version(match["name"], match["number"])  # noqa: E731
            found = self._ask(address.uri, "check both", ask)
        return _registered(found)

    def fetch(self, version: RegisteredVersion) -> ServedModel:
        """The version's bundle on this machine's disk. Raises `ModelNotFound` and its `RegistryAway` and `DownloadFailed`."""
        uri = f"models:/{version}"

        def download(draft: Path) -> None:
            self.download(uri, draft)
            _card_of(draft, uri)  # before it counts as a copy

        try:
            folder = self.cache.folder(version.name, version.number, version.created, download)
        except OSError as error:
            raise DownloadFailed(
                f"{uri} does not come to this disk ({error}); see that there is room and that it can be written"
            ) from error
        return _served(folder, str(version), uri)

    def download(self, uri: str, folder: Path | None) -> str:
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # not for a service's log
        import mlflow

        mlflow.set_tracking_uri(self.tracking_uri)  # for models:/ its download heeds the process's setting only
        try:
            return mlflow.artifacts.download_artifacts(uri, dst_path=folder and str(folder))
        except Exception as error:  # of MLflow, of the disk, of whatever stores the artifacts
            reason = f"{uri} cannot be had from {self.tracking_uri} ({_first_line(error)})"
            raise DownloadFailed(f"{reason}; check that it is there and that this disk has room") from error

    def last_served(self, name: str) -> RegisteredVersion | None:
        """The version of the model that began to serve last, by the tag that says when. Raises `RegistryAway`."""
        quoted = name.replace("'", "''")
        found = self._ask(name, "", lambda client: client.search_model_versions(f"name = '{quoted}'"))
        served = [_registered(each) for each in found if SINCE in each.tags and REFUSED not in each.tags]
        return max(served, key=lambda each: each.tags[SINCE], default=None)

    def tag(self, version: RegisteredVersion, changes: Callable[[Mapping[str, str]], Mapping[str, str | None]]) -> None:
        """Makes the `changes` to the version's tags, which are given the present ones; None removes a tag.

        Raises `ModelNotFound`, `RegistryAway`.
        """
        what, at = f"models:/{version}", (version.name, version.number)
        now = self._ask(what, "it was deleted", lambda client: client.get_model_version(*at)).tags
        for key, value in changes(now).items():
            if value is None and key in now:
                self._ask(what, "", lambda client, key=key: client.delete_model_version_tag(*at, key))
            elif value is not None and now.get(key) != value[:_LONGEST_TAG]:
                self._ask(what, "", lambda client, key=key, value=value: client.set_model_version_tag(*at, key, value[:_LONGEST_TAG]))

    def log_page(self, version: RegisteredVersion, page: str, folder: str) -> None:
        """Keeps HTML among the artifacts of the version's run, for each process its own. Raises `ModelNotFound`, `RegistryAway`."""
        if version.run_id:
            path = f"{folder}/{version.name}-{version.number}-{socket.gethostname()}-{os.getpid()}.html"
            self._ask(f"the run {version.run_id}", "it was deleted", lambda client: client.log_text(version.run_id, page, path))

    def _ask(self, what: str, remedy: str, question: Callable[[MlflowClient], T]) -> T:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # seconds, not minutes, until a server is said to be away
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        try:
            return question(MlflowClient(self.tracking_uri))
        except MlflowException as error:
            if error.error_code in _NOT_THERE:
                raise ModelNotFound(f"{what} is not in {self.tracking_uri} ({_first_line(error)}); {remedy}") from error
            raise RegistryAway(f"{self.tracking_uri} does not answer for {what} ({_first_line(error)}); start MLflow again") from error
        except Exception as error:  # a database that is away raises its driver's own
            raise RegistryAway(f"{self.tracking_uri} does not answer for {what} ({_first_line(error)}); start MLflow again") from error


def _registered(version: ModelVersion) -> RegisteredVersion:
    return RegisteredVersion(version.name, str(version.version), version.creation_timestamp, version.run_id, dict(version.tags))


def _served(folder: Path, version: str, uri: str) -> ServedModel:
    return ServedModel(_card_of(folder, uri).parent, version, uri, _golden_of(folder))


def _card_of(folder: Path, uri: str) -> Path:
    cards = list(folder.rglob(CARD))
    if len(cards) != 1:
        raise DownloadFailed(f"{uri} holds {len(cards)} bundles; log exactly one as the model's artifact `bundle`")
    return cards[0]


def _golden_of(folder: Path) -> Path | None:
    """The golden pictures in a bundle or, nearer to the root and newer, beside it among the model's artifacts."""
    indices = sorted(folder.rglob("golden/golden.json"), key=lambda path: len(path.parts))
    return indices[0].parent if indices else None


def _is_mlflow(model_uri: str) -> bool:
    return model_uri.startswith(("models:", "runs:"))


def _absolute(tracking_uri: str) -> str:
    """MLflow's address, valid in any working directory: replicas do not share this process's."""
    path = tracking_uri.removeprefix("sqlite:///")
    return f"sqlite:///{Path(path).absolute()}" if path != tracking_uri and not os.path.isabs(path) else tracking_uri


def _first_line(error: Exception) -> str:
    return (str(error).split("\n")[0] or type(error).__name__)[:200]
