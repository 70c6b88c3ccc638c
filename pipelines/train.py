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
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import ray
import ray.train
import tyro
from torch import Tensor

from models.bundle import load_bundle, load_network, save_bundle
from models.golden import FOLDER as GOLDEN
from models.golden import write_golden
from models.spec import Architecture, InvalidBundle, SegmenterSpec, read_spec
from models.transfer import copy_what_fits
from models.unet import InvalidArchitecture, NormalizedNetwork, build_network, check_input_size
from models.watch import write_reference
from pipelines.checkpoint import DamagedCheckpoint, load_weights
from pipelines.config import TrainConfig
from pipelines.data.records import InvalidData, LabelledData, Record
from pipelines.data.sources import read_data
from pipelines.diagnosis.report import check_accepted, report_dict, report_text
from pipelines.diagnosis.sheets import draw_sheets
from pipelines.examine import SPLIT, examine
from pipelines.failures import TrainingFailed, reason_of
from pipelines.model_card import ModelCard
from pipelines.object_evaluation import marks_objects
from pipelines.ray_checkpoints import best_checkpoint
from pipelines.registry import download_bundle
from pipelines.resources import NotEnoughResources, worker_share
from pipelines.tracking import TrackedRun, WrongRun, open_run
from pipelines.train_worker import TrainJob
from pipelines.trainer import fit, set_ray_train_up

_REFERENCE_PICTURES, _GOLDEN_PICTURES = 100, 4


def main(config: TrainConfig) -> None:
    """The whole procedure: data, run, training, bundle, registry."""
    data = _read(config)
    architecture = decide_head(config.model.architecture, data)
    spec = SegmenterSpec(architecture, data.label_set, config.model.input_size, config.model.fit_rule)
    check_input_size(spec.architecture, spec.input_size)
    start = weights_to_start_from(config, spec)
    kind = config.data.partition(":")[0]

    _quieten()
    set_ray_train_up(config)
    # Not Ray's own search for a cluster: it would wait minutes for one that was killed on this machine.
    ray.init(os.environ.get("RAY_ADDRESS", "local"), logging_level="warning")
    share = worker_share(config.scale)
    digest = data.digest()
    run = open_run(config, f"{kind}-{datetime.now():%Y%m%d-%H%M%S}", {"data_digest": digest, "code_version": _code_version()})
    print(f"run {run.name} in {run.tracking_uri}; {share.describe()}", flush=True)
    try:
        _record_report(run, data)
        # The MLflow run id in the name: a name used twice would silently go on with the other run's checkpoints.
        job = TrainJob(config, spec, ray.put(data), digest, run, share.loader_processes, start and ray.put(start))
        result = fit(config, job, share, f"{run.name}-{run.run_id[:8]}")
        checkpoint, metrics = best_checkpoint(result.filesystem, result.path)
        network = _load_network(checkpoint, spec)
        look = ray.remote(num_cpus=share.cpus, num_gpus=int(config.scale.use_gpu))(examine)  # the driver may have no GPU
        report = ray.get(look.remote(network, spec, job.data, config.data, run))
        name = config.tracking.register or kind
        provenance = _provenance(config, run, metrics, digest)
        with tempfile.TemporaryDirectory() as folder:
            bundle = save_bundle(Path(folder) / "bundle", network, spec, provenance)
            _show_at_work(bundle, data.splits["val"])
            number = run.log_model(bundle, register_as=name, alias=config.tracking.alias)
        run.describe_model(name, number, ModelCard(name, number, spec, data, SPLIT, report, provenance).markdown())
    except KeyboardInterrupt:
        run.end("KILLED")
        raise
    except BaseException as error:
        run.end("FAILED", failure=reason_of(error))
        raise
    run.end("FINISHED")
    print(f"registered {name} version {number}; serve it with: serve run deployments.app:build_app model_uri=models:/{name}/{number}")


def decide_head(architecture: Architecture, data: LabelledData) -> Architecture:
    """The architecture with an instance head where one was asked for, or where nothing was said and the data marks single objects.

    Raises `InvalidData` where the head could learn nothing.
    """
    can_learn = marks_objects(data.splits["train"])
    if architecture.instances and not can_learn:
        raise InvalidData(f"{data.source} marks no single objects, which --instances needs; leave it out, or give COCO instances")
    return replace(architecture, instances=can_learn if architecture.instances is None else architecture.instances)


def weights_to_start_from(config: TrainConfig, spec: SegmenterSpec) -> dict[str, Tensor] | None:
    """The weights of the model that a network of `spec` is to begin with; None where it is to begin afresh.

    Raises `InvalidBundle` where there is no such model, `InvalidArchitecture` where hardly any of it fits.
    """
    if config.model.start_from is None:
        return None
    bundle = download_bundle(config.model.start_from, config.tracking.tracking_uri)
    weights = load_network(bundle, read_spec(bundle)).state_dict()
    fresh = copy_what_fits(weights, build_network(spec.architecture, len(spec.label_set)))
    print(f"begins with {config.model.start_from}; {len(fresh)} tensors begin afresh: {', '.join(fresh[:2]) or 'none'}")
    return weights


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


def _provenance(config: TrainConfig, run: TrackedRun, metrics: dict[str, float], digest: str) -> dict:
    return {
        "run_id": run.run_id,
        "data": config.data,
        "data_digest": digest,
        "metrics": metrics,
        "start_from": config.model.start_from,
        "code_version": _code_version(),
        "versions": {package: version(package) for package in ("torch", "segmentation-models-pytorch", "ray", "mlflow")},
    }


def _load_network(checkpoint: ray.train.Checkpoint, spec: SegmenterSpec) -> NormalizedNetwork:
    network = build_network(spec.architecture, len(spec.label_set))
    with checkpoint.as_directory() as folder:
        load_weights(Path(folder), network)
    return network


def _show_at_work(bundle: Path, records: Sequence[Record]) -> None:
    """Adds what serving compares with: golden pictures, and how photos and answers look, both of validation pictures."""
    segmenter = load_bundle(bundle)
    spread = records[:: max(1, len(records) // _REFERENCE_PICTURES)][:_REFERENCE_PICTURES]
    write_reference(bundle, segmenter, (record.image_path.read_bytes() for record in spread))
    golden = spread[:: max(1, len(spread) // _GOLDEN_PICTURES)][:_GOLDEN_PICTURES]
    write_golden(bundle / GOLDEN, segmenter, [record.image_path.read_bytes() for record in golden])


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
    except (InvalidData, InvalidBundle, InvalidArchitecture, NotEnoughResources, WrongRun, TrainingFailed, DamagedCheckpoint) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from the last checkpoint")
