"""Ray Train, told what a training asks for."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import pyarrow.fs
import ray
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer

from models.home import home
from pipelines.config import TrainConfig
from pipelines.failures import StopOnBugs, TrainingFailed, reason_of
from pipelines.ray_checkpoints import SCORE
from pipelines.resources import Share
from pipelines.train_worker import TrainJob, train_worker

_CHECKPOINTS_KEPT = 2  # the best ones; the latest is kept beside them
# glibc would give a step's large tensors back to the kernel and fault them in again, a quarter of the time of 25 classes on CPUs.
_KEEP_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
_QUIET = {"TORCH_CPP_LOG_LEVEL": "ERROR"}  # PyTorch would advise against the search for unused parameters in `Workers.share_gradients`
_SNAPSHOT = "checkpoint_manager_snapshot.json"  # Ray Train's own list of checkpoints


def set_ray_train_up(config: TrainConfig) -> None:
    """Ray Train's settings that only the environment can tell it; to be called before `ray.init`."""
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")  # it would print each line twice
    # Its controller looks for reports this often; its default of 2 s would be waited for at the end.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    # By default a worker that never comes is waited for without end.
    os.environ.setdefault("RAY_TRAIN_COLLECTIVE_TIMEOUT_S", str(config.scale.stall_timeout_s))


def fit(config: TrainConfig, job: TrainJob, share: Share, name: str) -> ray.train.Result:
    """Trains to the last epoch, with lost workers started again. Raises `TrainingFailed`."""
    storage = config.tracking.storage or str(home() / "checkpoints")
    mend_list_of_checkpoints(storage, name)
    trainer = TorchTrainer(
        partial(train_worker, job),
        torch_config=TorchConfig(timeout_s=config.scale.stall_timeout_s),
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.scale.num_workers,
            use_gpu=config.scale.use_gpu,
            resources_per_worker={"CPU": share.cpus} | ({"GPU": 1} if config.scale.use_gpu else {}),
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=storage,
            failure_config=ray.train.FailureConfig(max_failures=config.scale.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=_CHECKPOINTS_KEPT, checkpoint_score_attribute=SCORE),
            callbacks=[StopOnBugs()],
            logging_config=ray.train.LoggingConfig(log_level="CRITICAL"),  # tracebacks go to the run, `StopOnBugs` says the rest
            worker_runtime_env={"env_vars": _KEEP_MEMORY | _QUIET},
        ),
    )
    try:
        return trainer.fit()
    except SystemExit as stopped:  # Ray Train's answer to Ctrl-C
        raise KeyboardInterrupt from stopped
    except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
        raise TrainingFailed(reason_of(error)) from error


def mend_list_of_checkpoints(storage: str, name: str) -> None:
    """Drops Ray Train's list where it was written half, or names what is gone; it would refuse to start, and workers do not need it."""
    filesystem, root = (
        pyarrow.fs.FileSystem.from_uri(storage) if "://" in storage else (pyarrow.fs.LocalFileSystem(), str(Path(storage).absolute()))
    )
    path = f"{root}/{name}/{_SNAPSHOT}"
    if filesystem.get_file_info(path).type == pyarrow.fs.FileType.NotFound:
        return
    try:
        with filesystem.open_input_stream(path) as file:
            listed = [f"{root}/{name}/{entry['checkpoint_dir_name']}" for entry in json.loads(file.read())["checkpoint_results"]]
        is_whole = all(info.type == pyarrow.fs.FileType.Directory for info in filesystem.get_file_info(listed))
    except (OSError, ValueError, KeyError):
        is_whole = False
    if not is_whole:
        filesystem.delete_file(path)
