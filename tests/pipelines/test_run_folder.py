"""A run's folder in storage, as crashes and disks leave it."""

import json

import pyarrow.fs
import pytest
import torch

from pipelines.checkpoint import DamagedCheckpoint, Snapshot, TrainState
from pipelines.ray_checkpoints import best_checkpoint
from pipelines.trainer import mend_list_of_checkpoints

LOCAL = pyarrow.fs.LocalFileSystem()


def write(run, name, epoch, step, miou):
    folder = run / name
    folder.mkdir(parents=True)
    tensors = {"weights.safetensors": {"w": torch.ones(10)}, "optimizer.safetensors": {"m": torch.zeros(10)}}
    Snapshot(tensors, TrainState(epoch, step, [], {"miou": miou})).write(folder)
    return folder


def test_the_best_checkpoint_is_the_highest_of_those_that_were_validated_and_are_whole(tmp_path):
    write(tmp_path, "checkpoint_a", 1, 0, 0.4)
    best = write(tmp_path, "checkpoint_b", 2, 0, 0.6)
    write(tmp_path, "checkpoint_c", 2, 5, 0.9)  # in mid-epoch: its weights were never validated
    (tmp_path / "checkpoint_d").mkdir()  # its worker died while it wrote
    checkpoint, metrics = best_checkpoint(LOCAL, str(tmp_path))
    assert (checkpoint.path, metrics) == (str(best), {"miou": 0.6})
    (best / "weights.safetensors").write_bytes(b"rubbish")
    assert best_checkpoint(LOCAL, str(tmp_path))[1] == {"miou": 0.4}


def test_of_equal_scores_the_later_one_is_best_and_of_none_there_is_no_best(tmp_path):
    write(tmp_path, "checkpoint_a", 3, 0, 0.5)
    write(tmp_path, "checkpoint_b", 2, 0, 0.5)
    assert best_checkpoint(LOCAL, str(tmp_path))[0].path.endswith("checkpoint_a")
    with pytest.raises(DamagedCheckpoint, match="none of the 0 validated checkpoints"):
        best_checkpoint(LOCAL, str(tmp_path / "nothing"))


@pytest.mark.parametrize("as_uri", [False, True])
@pytest.mark.parametrize(
    ("listed", "is_kept"),
    [
        ('{"checkpoint_results": [{"checkpoint_dir_name": "checkpoint_a"}]}', True),
        ('{"checkpoint_results": [{"checkpoint_dir_na', False),  # the disk was full, or its process was killed
        ('{"checkpoint_results": [{"checkpoint_dir_name": "checkpoint_z"}]}', False),  # somebody deleted it
        ("", False),
    ],
)
def test_ray_s_list_of_checkpoints_is_dropped_where_ray_would_not_start_with_it(tmp_path, listed, is_kept, as_uri):
    write(tmp_path / "run", "checkpoint_a", 1, 0, 0.5)
    path = tmp_path / "run" / "checkpoint_manager_snapshot.json"
    path.write_text(listed)
    mend_list_of_checkpoints(tmp_path.as_uri() if as_uri else str(tmp_path), "run")
    assert path.exists() == is_kept
    assert json.loads((tmp_path / "run/checkpoint_a/state.json").read_text())


def test_a_new_run_has_nothing_to_mend(tmp_path):
    mend_list_of_checkpoints(str(tmp_path), "run")
