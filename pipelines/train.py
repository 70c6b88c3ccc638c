"""Trains a U-Net on labelled photos with Ray Train, records the run in MLflow and registers the model.

python -m pipelines.train --data scenes
python -m pipelines.train --help
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import ray
import ray.train
import tyro
from ray.train.torch import TorchTrainer

from models.bundle import save_bundle
from models.home import home
from models.spec import SegmenterSpec
from models.unet import InvalidArchitecture, build_network, check_input_size
from pipelines.checkpoint import load_weights
from pipelines.config import TrainConfig
from pipelines.data.records import InvalidData, LabelledData
from pipelines.data.sources import read_data
from pipelines.diagnosis.report import check_accepted, report_dict, report_text
from pipelines.diagnosis.sheets import draw_sheets
from pipelines.resources import NotEnoughResources, Share, worker_share
from pipelines.tracking import TrackedRun, WrongRun, open_run
from pipelines.train_worker import TrainJob, train_worker

_SCORE = "miou"  # the best checkpoint is the one that scores highest on `val`
_CHECKPOINTS_KEPT = 2
# glibc would give a step's large tensors back to the kernel and fault them in again, a quarter of the time of 25 classes on CPUs.
_KEEP_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30)}


def main(config: TrainConfig) -> None:
    """The whole procedure: data, run, training, bundle, registry."""
    data = _read(config)
    spec = SegmenterSpec(config.model.architecture, data.label_set, config.model.input_size, config.model.fit_rule)
    check_input_size(spec.architecture, spec.input_size)
    kind = config.data.partition(":")[0]
    run_name = config.tracking.run_name or f"{kind}-{datetime.now():%Y%m%d-%H%M%S}"

    _quieten()
    # Ray Train's controller looks for reports this often; its default of 2 s would be waited for at each of them.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    # Not Ray's own search for a cluster: it would wait minutes for one that was killed on this machine.
    ray.init(os.environ.get("RAY_ADDRESS", "local"), logging_level="warning")
    share = worker_share(config.scale)
    digest = data.digest()
    run = open_run(config, run_name, {"data_digest": digest, "code_version": _code_version()})
    print(f"run {run_name} in {run.tracking_uri}; {config.scale.num_workers} worker(s) with {share.cpus} CPU(s) each", flush=True)
    _record_report(run, data)
    try:
        result = _fit(config, TrainJob(config, spec, ray.put(data), run, share.loader_processes), share, run_name)
        best = max(result.best_checkpoints, key=lambda entry: entry[1][_SCORE])
        number = _register(config, spec, run, best, kind, digest)
    except BaseException as error:
        run.set_status("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    run.set_status("FINISHED")
    name = config.tracking.register or kind
    print(f"registered {name} version {number}; serve it with: serve run deployments.app:build_app model_uri=models:/{name}/{number}")


def _quieten() -> None:
    """Leaves the terminal to the progress of the training."""
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")  # it would print each line twice
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _read(config: TrainConfig) -> LabelledData:
    data = read_data(config.data, repair=config.repair, input_size=config.model.input_size)
    sizes = ", ".join(f"{len(records)} {split}" for split, records in data.splits.items())
    print(f"data {config.data}: {sizes}; {len(data.label_set)} classes: {', '.join(data.label_set.names)}")
    if data.findings:
        print(report_text(data, num_examples=1))
    check_accepted(data, config.accept)
    return data


def _fit(config: TrainConfig, job: TrainJob, share: Share, run_name: str) -> ray.train.Result:
    storage = config.tracking.storage or str(home() / "checkpoints")
    trainer = TorchTrainer(
        partial(train_worker, job),
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.scale.num_workers,
            use_gpu=config.scale.use_gpu,
            resources_per_worker={"CPU": share.cpus} | ({"GPU": 1} if config.scale.use_gpu else {}),
        ),
        run_config=ray.train.RunConfig(
            # The MLflow run id in the name: a name used twice would silently go on with the other run's checkpoints.
            name=f"{run_name}-{job.run.run_id[:8]}",
            storage_path=storage,
            failure_config=ray.train.FailureConfig(max_failures=config.scale.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=_CHECKPOINTS_KEPT, checkpoint_score_attribute=_SCORE),
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
            worker_runtime_env={"env_vars": _KEEP_MEMORY},
        ),
    )
    return trainer.fit()


def _register(config: TrainConfig, spec: SegmenterSpec, run: TrackedRun, best: tuple, kind: str, digest: str) -> str:
    checkpoint, metrics = best
    network = build_network(spec.architecture, len(spec.label_set))
    with checkpoint.as_directory() as folder:
        load_weights(Path(folder), network)
    provenance = {
        "run_id": run.run_id,
        "data": config.data,
        "data_digest": digest,
        "metrics": metrics,
        "code_version": _code_version(),
        "versions": {package: version(package) for package in ("torch", "segmentation-models-pytorch", "ray", "mlflow")},
    }
    with tempfile.TemporaryDirectory() as folder:
        bundle = save_bundle(Path(folder) / "bundle", network, spec, provenance)
        return run.log_model(bundle, register_as=config.tracking.register or kind, alias=config.tracking.alias)


def _record_report(run: TrackedRun, data: LabelledData) -> None:
    run.log_dict(report_dict(data), "doctor/report.json")
    for name, sheet in draw_sheets(data):
        run.log_picture(sheet, f"doctor/{name}.jpg")


def _code_version() -> str:
    """The commit of the checkout, with `-dirty` where files differ from it; `unknown` outside one."""
    if shutil.which("git") is None:
        return "unknown"
    described = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True)
    return described.stdout.strip() or "unknown"


if __name__ == "__main__":
    try:
        main(tyro.cli(TrainConfig))
    except (InvalidData, InvalidArchitecture, NotEnoughResources, WrongRun) as error:
        sys.exit(f"error: {error}")
