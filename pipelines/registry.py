"""All that promotion says to MLflow's registry: versions, the alias `champion`, who held it before, what the gate found.

Tags of a registered model: `promotion.history`, the versions that were champion as a JSON list, the present one last; and
`promotion.claim`, who moved the alias last or is about to. Tags of a version: `gate.*`, what the gate found; `champion.*`, since
when and why it is the champion, and until when it was; `data.*`, what it was trained on.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from models.home import resolve_tracking_uri
from models.spec import CARD, InvalidBundle, read_card

T = TypeVar("T")
CHAMPION = "champion"
_HISTORY, _CLAIM = "promotion.history", "promotion.claim"
_LONGEST_HISTORY = 50  # versions
_WAIT_S = 2  # many times what a registry takes to move an alias
_LONGEST_TAG = 4000  # characters, below the limits of MLflow's stores
_MISSING = "RESOURCE_DOES_NOT_EXIST"


class RegistryError(ValueError):
    """A registry that cannot be asked, or not for this."""


class NotInRegistry(RegistryError):
    """A name or a version that is not there."""


class Overtaken(RegistryError):
    """Somebody else moved the alias meanwhile."""


@dataclass(frozen=True)
class Registry:
    """The versions of one registered model."""

    tracking_uri: str
    name: str

    def champion(self) -> str | None:
        """The version that the alias `champion` stands for; None where there is no such alias."""
        number = self._model().aliases.get(CHAMPION)
        return None if number is None else str(number)

    def history(self) -> list[str]:
        """The versions that were champion, oldest first; the present champion, whoever made it so, is the last."""
        try:
            history = [str(version) for version in json.loads(self._model().tags.get(_HISTORY, "[]"))]
        except (ValueError, TypeError) as error:
            raise RegistryError(f"the tag {_HISTORY} of {self.name} is no JSON list ({error}); delete or mend it in MLflow") from error
        champion = self.champion()
        return history if champion in (None, *history[-1:]) else [*history, champion]

    def run_of(self, version: str) -> str | None:
        """The run that made the version; None where it was registered without one. Raises `NotInRegistry` where the version is not there."""
        return self._ask(lambda client: client.get_model_version(self.name, version)).run_id

    def has(self, version: str) -> bool:
        """Whether the version is there."""
        try:
            self.run_of(version)
        except NotInRegistry:
            return False
        return True

    def bundle(self, version: str) -> Path:
        """The version's bundle on this machine. Raises `models.spec.InvalidBundle`."""
        return download_bundle(f"models:/{self.name}/{version}", self.tracking_uri)

    def card(self, version: str) -> dict:
        """The version's model.json, fetched without the weights. Raises `models.spec.InvalidBundle`."""
        return read_card(_download(f"models:/{self.name}/{version}/artifacts/bundle/{CARD}", self.tracking_uri).parent)

    def move_champion(self, to: str, *, expected: str | None, history: list[str], why: str) -> None:
        """Moves the alias from the version `expected` to `to`. Raises `Overtaken` where somebody else moved it.

        MLflow cannot compare and set. Where it is a SQLite file, a lock beside the file keeps promotions apart. With a server, each
        leaves its claim, waits, and goes on only if the claim is still its own and the champion still the expected one: of several,
        the one that claimed last. It is alone as long as moving the alias takes less than the wait: whoever claims after it has
        looked finds the alias moved when its own wait is over. An alias that is moved by hand obeys none of this.
        Source: Fischer's timed mutual exclusion, in Lamport, A Fast Mutual Exclusion Algorithm, 1987, section 2.
        """
        claim = f"{uuid.uuid4().hex} version {to} {now()} {socket.gethostname()}"
        with self._alone():
            self._check_champion(expected)
            self._set_tag(_CLAIM, claim)
            if not self._lock_file:
                time.sleep(_WAIT_S)
            if self._model().tags.get(_CLAIM) != claim:
                raise Overtaken(f"another promotion of {self.name} runs at this moment; see which version it makes champion, and try again")
            self._check_champion(expected)
            self._ask(lambda client: client.set_registered_model_alias(self.name, CHAMPION, to))
            self._set_tag(_HISTORY, json.dumps(history[-_LONGEST_HISTORY:]))
            if self.champion() != to:
                raise Overtaken(f"the alias of {self.name} was moved at the same moment; the champion is version {self.champion()}")
        self._tell_versions(to, expected, why)

    def tag_version(self, version: str, tags: dict[str, str]) -> None:
        """Sets the version's tags; values that are too long for MLflow are cut."""
        for key, value in tags.items():
            self._ask(lambda client, key=key, value=value: client.set_model_version_tag(self.name, version, key, value[:_LONGEST_TAG]))

    def log_text(self, run_id: str, text: str, path: str) -> str:
        """Records the text under the run's artifact path; the URI of it."""
        self._ask(lambda client: client.log_text(run_id, text, path))
        return f"runs:/{run_id}/{path}"

    def _tell_versions(self, to: str, before: str | None, why: str) -> None:
        moment = now()
        self.tag_version(to, {"champion.since": moment, "champion.why": why})
        self._ask(lambda client: client.delete_model_version_tag(self.name, to, "champion.until"))
        if before is not None:
            self.tag_version(before, {"champion.until": f"{moment}, when version {to} took over: {why}"})

    def _check_champion(self, expected: str | None) -> None:
        champion = self.champion()
        if champion != expected:
            raise Overtaken(
                f"the champion of {self.name} was version {expected} and is version {champion} now: another promotion was faster; "
                "run the command again to compare with that one"
            )

    @property
    def _lock_file(self) -> str | None:
        path = self.tracking_uri.removeprefix("sqlite:///")
        return None if path == self.tracking_uri else f"{path}.promotion-lock"

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with open(self._lock_file or os.devnull, "w") as file:
            if self._lock_file:
                fcntl.flock(file, fcntl.LOCK_EX)  # the system lets go of it when this process ends, however it does
            yield

    def _model(self):
        return self._ask(lambda client: client.get_registered_model(self.name))

    def _set_tag(self, key: str, value: str) -> None:
        self._ask(lambda client: client.set_registered_model_tag(self.name, key, value))

    def _ask(self, question: Callable[[MlflowClient], T]) -> T:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # seconds, not minutes, until a server is said to be away
        try:
            return question(MlflowClient(self.tracking_uri))
        except MlflowException as error:
            kind = NotInRegistry if error.error_code == _MISSING else RegistryError
            raise kind(f"{self.tracking_uri}: {error.message.splitlines()[0][:200]}; check the name, the version and MLflow") from error


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def download_bundle(model_uri: str, tracking_uri: str | None = None) -> Path:
    """The bundle's directory: `model_uri` itself where it is a path, else a local copy of what runs:/ or models:/ names.

    Raises `InvalidBundle`.
    """
    if not model_uri.startswith(("runs:/", "models:/")):
        return Path(model_uri)
    cards = list(_download(model_uri, resolve_tracking_uri(tracking_uri)).rglob("model.json"))
    if len(cards) != 1:
        raise InvalidBundle(f"{model_uri} holds {len(cards)} bundles; name a model that training registered")
    return cards[0].parent


def _download(uri: str, tracking_uri: str) -> Path:
    """A local copy of the file or folder that runs:/ or models:/ names. Raises `InvalidBundle`."""
    mlflow.set_tracking_uri(tracking_uri)  # as an argument it is forgotten on the way from a version to the logged model behind it
    try:
        return Path(mlflow.artifacts.download_artifacts(uri))
    except (MlflowException, OSError) as error:
        reason = str(error).split("\n")[0][:200]
        raise InvalidBundle(f"{uri} cannot be had from {tracking_uri} ({reason}); check both") from error
