"""All that training says to MLflow: one run per training, whatever crashes in between, and the registered model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunStatus, RunTag
from mlflow.models import ModelSignature
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.types import ColSpec, DataType, Schema
from mlflow.utils.time import get_current_time_millis

import models
from pipelines.config import TrainConfig
from pipelines.home import home

_SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.binary, "image")]), outputs=Schema([ColSpec(DataType.binary, "mask_png")])
)
_REQUIREMENTS = ("torch", "segmentation-models-pytorch", "timm", "safetensors", "opencv-python-headless", "pillow", "faster-coco-eval", "numpy", "pandas")
_LONGEST_PARAM = 6000  # characters; MLflow's own limit


class RunNameTaken(ValueError):
    """A run name that is in use, or one to resume that is not there."""


def resolve_tracking_uri(stated: str | None) -> str:
    """MLflow's address: as stated, else `MLFLOW_TRACKING_URI`, else an SQLite file under `home()`; absolute."""
    stated = stated or os.environ.get("MLFLOW_TRACKING_URI")
    if stated:
        return stated
    home().mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{home() / 'mlflow.db'}"


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
        self._client.log_batch(self.run_id, metrics=[Metric(name, value, now, step) for name, value in metrics.items()])

    def log_picture(self, picture: np.ndarray, path: str) -> None:
        """Records a picture (h, w, 3) uint8 under the artifact path."""
        self._client.log_image(self.run_id, picture, path)

    def log_dict(self, content: dict, path: str) -> None:
        """Records JSON under the artifact path."""
        self._client.log_dict(self.run_id, content, path)

    def set_tags(self, tags: dict[str, str]) -> None:
        """Adds tags to the run."""
        self._client.log_batch(self.run_id, tags=[RunTag(name, value) for name, value in tags.items()])

    def set_status(self, status: str) -> None:
        """Ends the run as FINISHED, FAILED or KILLED, or sets it RUNNING again."""
        if status == "RUNNING":
            self._client.update_run(self.run_id, status)
        else:
            self._client.set_terminated(self.run_id, status)

    @contextmanager
    def system_metrics(self, *, enabled: bool) -> Iterator[None]:
        """Records CPU, memory, disk, network and GPU use of this process's machine meanwhile."""
        if not enabled:
            yield
            return
        monitor = SystemMetricsMonitor(self.run_id, tracking_uri=self.tracking_uri, resume_logging=True)
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()

    def log_model(self, bundle: Path, *, register_as: str, alias: str | None) -> str:
        """Records the bundle as an MLflow model with its signature and registers it; the new version's number."""
        mlflow.set_tracking_uri(self.tracking_uri)
        with mlflow.start_run(run_id=self.run_id):
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


def open_run(config: TrainConfig, run_name: str, tags: dict[str, str]) -> TrackedRun:
    """The run to record in: a new one with all of the config as parameters, or with `resume` the one of that name.

    Raises `RunNameTaken`.
    """
    uri = resolve_tracking_uri(config.tracking.tracking_uri)
    client = MlflowClient(uri)
    experiment_id = _experiment(client, uri, config.tracking.experiment)
    found = client.search_runs([experiment_id], f"attributes.run_name = '{run_name}'", max_results=1)
    if bool(found) != config.tracking.resume:
        state, remedy = ("exists", "add --resume to go on with it, or choose another") if found else ("does not exist", "drop --resume to start it, or correct")
        raise RunNameTaken(f"a run {run_name!r} {state} in {uri}; {remedy} --run-name")
    if found:
        run = TrackedRun(uri, found[0].info.run_id)
        run.set_status(RunStatus.to_string(RunStatus.RUNNING))
        return run
    run = TrackedRun(uri, client.create_run(experiment_id, run_name=run_name, tags=tags).info.run_id)
    params = [Param(name, str(value)[:_LONGEST_PARAM]) for name, value in _flatten(asdict(config)).items()]
    client.log_batch(run.run_id, params=params)
    return run


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
