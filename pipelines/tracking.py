"""All that training says to MLflow: one run per training, whatever crashes in between, and the registered model."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunStatus
from mlflow.models import ModelSignature
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.types import ColSpec, DataType, Schema
from mlflow.utils.time import get_current_time_millis

import models
from models.home import home, resolve_tracking_uri
from pipelines import run_owner
from pipelines.config import TrainConfig

_SIGNATURE = ModelSignature(inputs=Schema([ColSpec(DataType.binary, "image")]), outputs=Schema([ColSpec(DataType.binary, "mask_png")]))
_REQUIREMENTS = (
    "torch",
    "segmentation-models-pytorch",
    "timm",
    "safetensors",
    "opencv-python-headless",
    "pillow",
    "faster-coco-eval",
    "numpy",
    "pandas",
)
_NOT_IN_A_METRIC_NAME = re.compile(r"[^A-Za-z0-9_\-. :/]")
_CARD = "model_card.md"
_LONGEST_DESCRIPTION = 5000  # characters; of a column in MLflow's database
_LONGEST_PARAM = 6000  # characters; MLflow's own limit


class WrongRun(ValueError):
    """A run to go on with that is not there, is finished, is trained by another process, or was told other things."""


@dataclass(frozen=True)
class TrackedRun:
    """One MLflow run, by the two strings that name it, so that it can be sent to workers."""

    tracking_uri: str
    run_id: str

    @property
    def _client(self) -> MlflowClient:
        return MlflowClient(self.tracking_uri)

    def log_metrics(self, metrics: dict[str, float], *, step: int) -> None:
        """Records the metrics of an epoch."""
        now = get_current_time_millis()
        named = zip(metric_names(metrics), metrics.values())
        self._client.log_batch(self.run_id, metrics=[Metric(name, value, now, step) for name, value in named])

    def log_picture(self, picture: np.ndarray, path: str) -> None:
        """Records a picture (h, w, 3) uint8 under the artifact path."""
        self._client.log_image(self.run_id, picture, path)

    def log_dict(self, content: dict, path: str) -> None:
        """Records JSON under the artifact path."""
        self._client.log_dict(self.run_id, content, path)

    def log_text(self, text: str, path: str) -> None:
        """Records a text under the artifact path."""
        self._client.log_text(self.run_id, text, path)

    def log_folder(self, folder: Path, path: str) -> None:
        """Records the folder's files under the artifact path."""
        self._client.log_artifacts(self.run_id, str(folder), path)

    def describe_model(self, name: str, version: str, card: str) -> None:
        """Records the card, Markdown, as model_card.md and as what the registry says of the model version."""
        self.log_text(card, _CARD)
        if len(card) > _LONGEST_DESCRIPTION:
            kept = card[: _LONGEST_DESCRIPTION - 200].rpartition("\n")[0]
            card = f"{kept}\n\nThe rest is in {_CARD}, among the artifacts of run {self.run_id}."
        self._client.update_model_version(name, version, description=card)

    @property
    def name(self) -> str:
        """What people call the run."""
        return self._client.get_run(self.run_id).info.run_name

    def begin(self) -> None:
        """The run is trained by this process from now on."""
        self._client.update_run(self.run_id, "RUNNING")
        self._client.set_tag(self.run_id, run_owner.TAG, run_owner.this_process())
        if "failure" in self._client.get_run(self.run_id).data.tags:
            self._client.delete_tag(self.run_id, "failure")

    def end(self, status: str, failure: str | None = None) -> None:
        """Ends the run as FINISHED, FAILED or KILLED; the tag `failure` says why."""
        if failure:
            self._client.set_tag(self.run_id, "failure", failure)
        self._client.set_terminated(self.run_id, status)

    @contextmanager
    def system_metrics(self, *, enabled: bool) -> Iterator[None]:
        """Records CPU, memory, disk, network and GPU use of this process's machine meanwhile."""
        if not enabled:
            yield
            return
        logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)
        monitor = SystemMetricsMonitor(self.run_id, tracking_uri=self.tracking_uri, resume_logging=True)
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()

    def log_model(self, bundle: Path, *, register_as: str, alias: str | None) -> str:
        """Records the bundle as an MLflow model with its signature and registers it; the new version's number."""
        mlflow.set_tracking_uri(self.tracking_uri)
        with mlflow.start_run(run_id=self.run_id), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*input example was not provided")  # the signature is stated, not guessed
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(Path(__file__).with_name("pyfunc_model.py")),
                artifacts={"bundle": str(bundle)},
                code_paths=[str(Path(models.__file__).parent)],
                signature=_SIGNATURE,
                pip_requirements=[f"{package}=={version(package)}" for package in _REQUIREMENTS],
                registered_model_name=register_as,
            )
        number = str(info.registered_model_version)
        if alias:
            self._client.set_registered_model_alias(register_as, alias, number)
        return number


def metric_names(names: Iterable[str]) -> list[str]:
    """The names as MLflow takes them: what it refuses becomes an underscore, and a name that is taken gets a number."""
    allowed: list[str] = []
    for name in names:
        plain = _NOT_IN_A_METRIC_NAME.sub("_", name)
        allowed.append(plain if plain not in allowed else f"{plain}:{len(allowed)}")
    return allowed


def open_run(config: TrainConfig, default_name: str, tags: dict[str, str]) -> TrackedRun:
    """The run to record in: the unfinished one that this command began, or a new one with all of the config as parameters.

    A run is found by its name. Without a name, the same command goes on with the last run of it that was killed on this machine.
    Raises `WrongRun`.
    """
    uri = resolve_tracking_uri(config.tracking.tracking_uri)
    client = MlflowClient(uri)
    experiment_id = _experiment(client, uri, config.tracking.experiment)
    params = {name: str(value)[:_LONGEST_PARAM] for name, value in _flatten(asdict(config)).items()}
    run_name = config.tracking.run_name
    found = _named(client, experiment_id, run_name) if run_name else _killed(client, experiment_id, params, tags)
    if found is not None:
        _check_resumable(found, params, tags, resume=config.tracking.resume)
        run = TrackedRun(uri, found.info.run_id)
    elif config.tracking.resume:
        raise WrongRun(
            f"there is no unfinished run {run_name or 'of this command'} in {uri}; drop --resume to start it, or correct --run-name"
        )
    else:
        run = TrackedRun(uri, client.create_run(experiment_id, run_name=run_name or default_name, tags=tags).info.run_id)
        client.log_batch(run.run_id, params=[Param(name, value) for name, value in params.items()])
    run.begin()
    return run


def _named(client: MlflowClient, experiment_id: str, run_name: str) -> Run | None:
    found = client.search_runs([experiment_id], f"attributes.run_name = '{run_name}'", max_results=1)
    return found[0] if found else None


def _killed(client: MlflowClient, experiment_id: str, params: dict[str, str], tags: dict[str, str]) -> Run | None:
    """The last run of the same training that still says RUNNING, while its process on this machine is gone."""
    running = client.search_runs([experiment_id], "attributes.status = 'RUNNING'")
    same = [run for run in running if not _differences(run, params, tags) and run_owner.is_alive(run.data.tags.get(run_owner.TAG)) is False]
    return same[0] if same else None


def _check_resumable(found: Run, params: dict[str, str], tags: dict[str, str], *, resume: bool) -> None:
    run_name = repr(found.info.run_name)
    if found.info.status == RunStatus.to_string(RunStatus.FINISHED):
        raise WrongRun(f"the run {run_name} is finished; choose another --run-name to train again")
    changed = _differences(found, params, tags)
    if changed:
        raise WrongRun(f"the run {run_name} was started otherwise: {'; '.join(changed)}; say the same, or choose another --run-name")
    if found.info.status != RunStatus.to_string(RunStatus.RUNNING):
        return
    owner = found.data.tags.get(run_owner.TAG)
    alive = run_owner.is_alive(owner)
    if alive:
        raise WrongRun(f"the run {run_name} is being trained by {owner!r} (host, process); wait for it, or choose another --run-name")
    if alive is None and not resume:
        raise WrongRun(f"the run {run_name} was started by {owner!r} (host, process); add --resume if that one is gone")


def _differences(found: Run, params: dict[str, str], tags: dict[str, str]) -> list[str]:
    """What is not the same data, model and optimisation, or the second half would be of another training; scale may differ."""
    changed = [
        f"{name.rpartition('.')[2]} was {found.data.params.get(name)} and is {value}"
        for name, value in params.items()
        if name.startswith(("data", "repair", "model.", "optimization.")) and found.data.params.get(name) != value
    ]
    if found.data.tags.get("data_digest") != tags.get("data_digest"):
        changed.append("the files of the data have changed")
    return changed


def _experiment(client: MlflowClient, uri: str, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found:
        return found.experiment_id
    # Without a server MLflow would put artifacts into the current directory, and a worker has one of its own.
    location = (home() / "artifacts" / name).as_uri() if uri.startswith("sqlite") else None
    return client.create_experiment(name, artifact_location=location)


def _flatten(config: dict, prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in config.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
