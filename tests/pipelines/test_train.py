"""Training as a user runs it: the command, a Ray of its own, MLflow on SQLite."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image

from models.bundle import load_bundle, save_bundle
from models.fit import preprocess
from models.golden import FOLDER as GOLDEN
from models.golden import check_golden
from models.label_set import LabelSet
from models.restore import restore_class_map
from models.spec import Architecture, SegmenterSpec
from models.unet import build_network
from models.watch import read_reference
from pipelines.data.scenes import write_scenes

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 240
TWO_WORKERS = ("--num-workers", "2", "--cpus-per-worker", "1")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("data") / "scenes", num_train=24, num_val=4)


class Training:
    """A `python -m pipelines.train` with a home of its own, and what MLflow then holds."""

    def __init__(self, home: Path, scenes: Path) -> None:
        self.home, self.scenes = home, scenes
        self.client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")

    def start(self, *options: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "pipelines.train", "--data", f"scenes:{self.scenes}", "--input-size", "64", "64"]
        quick = ["--global-batch-size", "2", "--epochs", "3", "--run-name", "small"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))}
        environment |= {"MASKWORKS_HOME": str(self.home), "COLUMNS": "200"}  # sentences on one line
        return subprocess.Popen(
            [*command, *quick, *options], cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def checkpoints(self) -> list[dict]:
        """What the state.json of each checkpoint that is whole says."""
        found = []
        for path in self.home.glob("checkpoints/*/checkpoint_*/state.json"):
            with suppress(ValueError, OSError):  # being written, or being deleted
                found.append(json.loads(path.read_text()))
        return sorted(found, key=lambda entry: (entry["state"]["epoch"], entry["state"]["step"]))

    def runs(self):
        return self.client.search_runs([self.client.get_experiment_by_name("maskworks").experiment_id])


@pytest.fixture
def training(tmp_path, scenes):
    return Training(tmp_path, scenes)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, scenes):
    """A training with two workers that nothing happened to."""
    training = Training(tmp_path_factory.mktemp("undisturbed"), scenes)
    training.said = finish(training.start("--alias", "champion", *TWO_WORKERS))
    return training


def finish(process: subprocess.Popen) -> str:
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    return said


def wait_for(happened: Callable[[], bool], process: subprocess.Popen) -> None:
    """Returns when it has; the process must still run, and be patient no longer than `PATIENCE_S`."""
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def read_until(process: subprocess.Popen, pattern: str) -> str:
    """What the process says up to a line that matches; it must come within the patience."""
    said, deadline = "", time.monotonic() + PATIENCE_S
    for line in process.stdout:
        said += line
        if re.search(pattern, line):
            return said
        assert time.monotonic() < deadline, said
    raise AssertionError(f"ended without {pattern!r}:\n{said}")


def test_a_training_leaves_one_finished_run_and_a_registered_model_that_loads_alone(undisturbed, scenes):
    training = undisturbed
    assert "epoch 3/3  validation  miou" in training.said
    assert "of a step" in training.said  # the bottleneck
    assert "registered scenes version 1" in training.said

    (run,) = training.runs()
    assert run.info.status == "FINISHED"
    assert run.data.params["optimization.epochs"] == "3"
    assert run.data.params["model.architecture.encoder"] == "mobilenet_v2"
    assert len(run.data.tags["data_digest"]) == 64
    assert {"miou", "iou/can", "iou/lemon", "samples_per_s", "train_loss", "pixel_accuracy", "step_share/data"} <= set(run.data.metrics)
    assert [metric.step for metric in training.client.get_metric_history(run.info.run_id, "miou")] == [1, 2, 3]
    assert any(artifact.path == "predictions/epoch_0003.jpg" for artifact in training.client.list_artifacts(run.info.run_id, "predictions"))

    version = training.client.get_model_version_by_alias("scenes", "champion")
    pages = {artifact.path for artifact in training.client.list_artifacts(run.info.run_id, "evaluation")}
    assert pages == {f"evaluation/{name}" for name in ("confusion_matrix.png", "evaluation.json", "per_class.csv", "worst_images.jpg")}
    assert any(artifact.path == "model_card.md" for artifact in training.client.list_artifacts(run.info.run_id))
    card = training.client.get_model_version("scenes", version.version).description
    assert card.startswith("# scenes, version 1")
    best = max(metric.value for metric in training.client.get_metric_history(run.info.run_id, "miou"))
    assert f"| miou | {best:.4f} |" in card  # validation on two workers and the last look on one count the same integers
    mlflow.set_tracking_uri(f"sqlite:///{training.home / 'mlflow.db'}")
    model = mlflow.pyfunc.load_model(f"models:/scenes/{version.version}")
    assert model.metadata.signature.inputs.input_names() == ["image"]

    photo = (scenes / "images/val/000000.jpg").read_bytes()
    mask = np.array(Image.open(BytesIO(model.predict(pd.DataFrame({"image": [photo]}))["mask_png"][0])))
    bundle = Path(mlflow.artifacts.download_artifacts(f"models:/scenes/{version.version}")) / "artifacts" / "bundle"
    segmenter = load_bundle(bundle)
    prediction = segmenter.predict([preprocess(photo, segmenter.spec.input_size, segmenter.spec.fit_rule)])[0]
    assert (mask == restore_class_map(prediction)).all()
    assert check_golden(bundle / GOLDEN, segmenter).pixels == 1
    assert read_reference(bundle, segmenter.spec.label_set).num_images == 4


def test_a_killed_worker_and_a_killed_driver_change_nothing_to_the_last_bit(training, undisturbed):
    often = ("--checkpoint-every-s", "0.2")
    process = training.start(*TWO_WORKERS, *often)
    wait_for(lambda: any(entry["state"]["epoch"] == 1 and entry["state"]["step"] for entry in training.checkpoints()), process)
    (worker, *_) = [child for child in psutil.Process(process.pid).children(recursive=True) if child.name().startswith("ray::RayTrainW")]
    worker.kill()
    said = read_until(process, r"going on after epoch \d of 3")
    process.kill()
    process.communicate()
    (before,) = training.runs()
    assert before.info.status == "RUNNING"

    said = finish(training.start(*TWO_WORKERS))
    assert re.search(r"going on after epoch \d of 3", said)
    (after,) = training.runs()
    assert (after.info.run_id, after.info.status) == (before.info.run_id, "FINISHED")
    resumed, expected = training.checkpoints()[-1], undisturbed.checkpoints()[-1]
    assert {name for name in resumed["sha256"] if resumed["sha256"][name] != expected["sha256"][name]} <= {"state"}  # it holds times
    assert resumed["state"]["metrics"]["train_loss"] == expected["state"]["metrics"]["train_loss"]
    history = training.client.get_metric_history(after.info.run_id, "miou")
    expected = undisturbed.client.get_metric_history(undisturbed.runs()[0].info.run_id, "miou")
    assert {(metric.step, metric.value) for metric in history} == {(metric.step, metric.value) for metric in expected}


def test_a_loss_that_is_no_number_ends_the_run_at_once_with_its_reason(training):
    process = training.start("--learning-rate", "1e30", "--warmup-share", "0")
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "error: the loss of epoch 1 is not a number any more; lower --learning-rate from 1e+30" in said
    ours = [line for line in said.splitlines() if "(PlacementGroupCleaner" not in line]  # Ray's own, ended in mid-work
    assert not any("Traceback" in line for line in ours), said
    (run,) = training.runs()
    assert run.info.status == "FAILED"
    assert "lower --learning-rate" in run.data.tags["failure"]
    (artifact,) = training.client.list_artifacts(run.info.run_id, "failures")  # one attempt
    assert artifact.path.endswith("worker-0.txt")


def test_a_training_begins_with_what_another_model_learnt(training, tmp_path):
    spec = SegmenterSpec(Architecture(), LabelSet.from_names(["background", "thing"]), (64, 64))  # other classes, so another head
    learnt = build_network(spec.architecture, 2)
    bundle = save_bundle(tmp_path / "learnt", learnt, spec, {})
    said = finish(training.start("--start-from", str(bundle), "--epochs", "1", "--learning-rate", "1e-12", "--ema-decay", "0"))
    assert "2 tensors begin afresh" in said
    mlflow.set_tracking_uri(f"sqlite:///{training.home / 'mlflow.db'}")
    ours = load_bundle(Path(mlflow.artifacts.download_artifacts("models:/scenes/1")) / "artifacts" / "bundle").network.state_dict()
    for name, parameter in learnt.named_parameters():
        if "segmentation_head" not in name:
            assert torch.allclose(ours[name], parameter, atol=1e-6), name


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--data", "nonsense"], "error: data 'nonsense' is not known"),
        (["--input-size", "100", "100"], "multiples of 32"),
        (["--num-workers", "500", "--global-batch-size", "500"], "500 CPUs are asked for"),
        (["--num-workers", "500"], "each worker needs an image"),
        (["--epochs", "-1"], "epochs"),
        (["--start-from", "nowhere"], "error: nowhere"),
        (["--start-from", "models:/a/1", "--pretrained"], "begins with one of them"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(training, options, reason):
    process = training.start(*options)
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode != 0
    assert reason in said
    assert "Traceback" not in said
