"""Where models come from: a folder, or MLflow. The only module of the package that speaks to MLflow."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from models.home import resolve_tracking_uri
from models.spec import read_card

_FORMS = "a bundle's path, runs:/<id>/<name>, models:/<name>@<alias> or models:/<name>/<version>"
_ALIAS = re.compile(r"models:/(?P<name>[^/@]+)@(?P<alias>[^/@]+)")
_VERSION = re.compile(r"models:/(?P<name>[^/@]+)/(?P<version>\d+)")
_RUN = re.compile(r"runs:/(?P<rest>[^/]+/.+)")


class ModelNotFound(ValueError):
    """A model URI that leads to no bundle."""


@dataclass(frozen=True)
class ServedModel:
    """A bundle on this machine and the version that answers name."""

    folder: Path
    version: str


@dataclass(frozen=True)
class ModelAddress:
    """A model URI that always leads to the same bundle, and MLflow's address where it needs one."""

    uri: str
    tracking_uri: str | None = None


def resolve(model_uri: str, tracking_uri: str | None = None) -> ModelAddress:
    """`model_uri` with a path made absolute and an alias turned into the version it now stands for.

    All replicas of an application are given what this returns, so that they serve one version. Raises `ModelNotFound`.
    """
    if not _is_mlflow(model_uri):
        if ":/" in model_uri:
            raise ModelNotFound(f"model_uri {model_uri!r} is of no known form; use {_FORMS}")
        return ModelAddress(str(Path(model_uri).expanduser().absolute()))
    tracking_uri = _absolute(resolve_tracking_uri(tracking_uri))
    if match := _ALIAS.fullmatch(model_uri):
        model_uri = f"models:/{match['name']}/{_version_of(match['name'], match['alias'], tracking_uri)}"
    elif not (_VERSION.fullmatch(model_uri) or _RUN.fullmatch(model_uri)):
        raise ModelNotFound(f"model_uri {model_uri!r} is of no known form; use {_FORMS}")
    return ModelAddress(model_uri, tracking_uri)


def fetch_bundle(model_uri: str, tracking_uri: str | None = None) -> ServedModel:
    """The bundle that `model_uri` leads to, downloaded where it is not on this machine's disk.

    Versions: `scenes/3` of the registry, `<run id>/<name>` of a run, `<folder>@<start of the weights' digest>` of a path.
    Raises `ModelNotFound`, `models.bundle.InvalidBundle`.
    """
    address = resolve(model_uri, tracking_uri)
    if not _is_mlflow(address.uri):
        folder = Path(address.uri)
        return ServedModel(folder, f"{folder.name}@{read_card(folder)['weights_sha256'][:12]}")
    folder = _download(address)
    cards = list(folder.rglob("model.json"))
    if len(cards) != 1:
        raise ModelNotFound(f"{address.uri} holds {len(cards)} bundles; log exactly one as the model's artifact `bundle`")
    return ServedModel(cards[0].parent, address.uri.removeprefix("models:/").removeprefix("runs:/"))


def _is_mlflow(model_uri: str) -> bool:
    return model_uri.startswith(("models:", "runs:"))


def _absolute(tracking_uri: str) -> str:
    """MLflow's address, valid in any working directory: replicas do not share this process's."""
    path = tracking_uri.removeprefix("sqlite:///")
    return f"sqlite:///{Path(path).absolute()}" if path != tracking_uri and not os.path.isabs(path) else tracking_uri


def _version_of(name: str, alias: str, tracking_uri: str) -> str:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        return MlflowClient(tracking_uri).get_model_version_by_alias(name, alias).version
    except MlflowException as error:
        raise ModelNotFound(f"models:/{name}@{alias} is not in {tracking_uri} ({_first_line(error)}); promote a version first") from error


def _download(address: ModelAddress) -> Path:
    import mlflow
    from mlflow.exceptions import MlflowException

    mlflow.set_tracking_uri(address.tracking_uri)  # for models:/ its download heeds the process's setting only
    try:
        return Path(mlflow.artifacts.download_artifacts(address.uri))
    except (MlflowException, OSError) as error:
        raise ModelNotFound(f"{address.uri} cannot be had from {address.tracking_uri} ({_first_line(error)}); check both") from error


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0][:200]
