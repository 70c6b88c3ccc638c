"""Training as a user runs it: the command, a Ray of its own, MLflow on SQLite."""

import os
import re
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from PIL import Image

from models.bundle import load_bundle
from models.fit import preprocess
from models.golden import FOLDER as GOLDEN
from models.golden import check_golden
from models.restore import restore_class_map
from models.watch import read_reference
from pipelines.data.scenes import write_scenes

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 240


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
        quick = ["--batch-size-per-worker", "4", "--epochs", "3", "--run-name", "small"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))} | {"MASKWORKS_HOME": str(self.home)}
        return subprocess.Popen(
            [*command, *quick, *options], cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def runs(self):
        return self.client.search_runs([self.client.get_experiment_by_name("maskworks").experiment_id])


@pytest.fixture
def training(tmp_path, scenes):
    return Training(tmp_path, scenes)


def finish(process: subprocess.Popen) -> str:
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    return said


def read_until(process: subprocess.Popen, pattern: str) -> str:
    """What the process says up to a line that matches; it must come within the patience."""
    said, deadline = "", time.monotonic() + PATIENCE_S
    for line in process.stdout:
        said += line
        if re.search(pattern, line):
            return said
        assert time.monotonic() < deadline, said
    raise AssertionError(f"ended without {pattern!r}:\n{said}")


def test_a_training_leaves_one_finished_run_and_a_registered_model_that_loads_alone(training, scenes):
    said = finish(training.start("--alias", "champion", "--num-workers", "2", "--cpus-per-worker", "1"))
    assert "epoch 3/3  validation  miou" in said
    assert "registered scenes version 1" in said

    (run,) = training.runs()
    assert run.info.status == "FINISHED"
    assert run.data.params["optimization.epochs"] == "3"
    assert run.data.params["model.architecture.encoder"] == "mobilenet_v2"
    assert len(run.data.tags["data_digest"]) == 64
    assert {"miou", "iou/can", "iou/lemon", "samples_per_s", "train_loss", "pixel_accuracy"} <= set(run.data.metrics)
    assert [metric.step for metric in training.client.get_metric_history(run.info.run_id, "miou")] == [1, 2, 3]
    assert any(artifact.path == "predictions/epoch_0003.jpg" for artifact in training.client.list_artifacts(run.info.run_id, "predictions"))

    version = training.client.get_model_version_by_alias("scenes", "champion")
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


def test_a_killed_worker_is_replaced_and_the_run_goes_on_from_its_checkpoint(training):
    process = training.start("--epochs", "4")
    said = read_until(process, "epoch 2/4  validation")
    pid = int(re.findall(r"RayTrainWorker pid=(\d+)", said)[-1])
    os.kill(pid, signal.SIGKILL)
    said = finish(process)
    assert re.search("going on after epoch [12] of 4", said)
    (run,) = training.runs()
    assert run.info.status == "FINISHED"
    assert [metric.step for metric in training.client.get_metric_history(run.info.run_id, "miou")][-1] == 4


def test_a_killed_driver_goes_on_with_resume_in_the_same_run(training):
    process = training.start()
    read_until(process, "epoch 2/3  loss")
    process.kill()
    process.communicate()
    (before,) = training.runs()

    refused = training.start()
    assert "add --resume to go on" in refused.communicate(timeout=PATIENCE_S)[0]
    assert refused.returncode == 1
    changed = training.start("--resume", "--learning-rate", "0.5")
    assert "learning_rate was 0.001 and is 0.5" in changed.communicate(timeout=PATIENCE_S)[0]

    assert "going on after epoch 1 of 3" in finish(training.start("--resume"))
    (after,) = training.runs()
    assert after.info.run_id == before.info.run_id
    assert after.info.status == "FINISHED"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--data", "nonsense"], "error: data 'nonsense' is not known"),
        (["--input-size", "100", "100"], "multiples of 32"),
        (["--num-workers", "500"], "500 CPUs are asked for"),
        (["--epochs", "-1"], "epochs"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(training, options, reason):
    process = training.start(*options)
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode != 0
    assert reason in said
    assert "Traceback" not in said
