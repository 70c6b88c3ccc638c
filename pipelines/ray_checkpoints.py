"""A run's checkpoints in Ray Train's storage: saved in the background, found again and checked."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pyarrow.fs
import ray.train
import ray.train.collective
import torch
from ray.train import Checkpoint, CheckpointUploadMode

from pipelines.checkpoint import STATE, DamagedCheckpoint, Snapshot, TrainState, load_checkpoint, read_state, verify_checkpoint
from pipelines.learner import Learner
from pipelines.workers import Workers

SCORE = "miou"  # the best checkpoint is the one that scores highest on `val`
NO_SCORE = -1.0  # of a checkpoint in mid-epoch: Ray Train keeps it while it is the latest (a NaN would be null in its list, and crash it)
_LOOK_EVERY_S = 5.0  # the workers agree this often, for it takes them some milliseconds
_EVERY_S_AT_THE_END = 10.0  # between checkpoints, from a node's notice until it is gone
_FIRST_LOOK = 8  # steps, until it is known how long one takes


class RayCheckpoints:
    """Saves and restores through Ray Train; every worker calls every method equally often, or they wait for each other for ever."""

    def __init__(self, workers: Workers, every_s: float) -> None:
        self.workers, self.every_s = workers, every_s
        self.last_save = self.last_look = time.monotonic()
        self.steps_to_look = self.look_every = _FIRST_LOOK
        self.preempted = False
        self.writing = threading.Semaphore()

    def due(self) -> bool:
        """Whether the time is up, or a node is about to be taken away."""
        self.steps_to_look -= 1
        return self.steps_to_look == 0 and self.look()

    def look(self) -> bool:
        """Lets all workers agree whether to save now, and after how many steps to look again."""
        now = time.monotonic()
        step_s = max((now - self.last_look) / self.look_every, 1e-6)
        plan = (now - self.last_save >= self.every_s, max(1, round(min(_LOOK_EVERY_S, self.every_s) / step_s)))
        time_is_up, self.look_every = ray.train.collective.broadcast_from_rank_zero(plan)
        self.steps_to_look, self.last_look = self.look_every, now
        notice = ray.train.get_preemption_info() is not None and not self.preempted
        if notice:
            self.preempted, self.every_s = True, min(self.every_s, _EVERY_S_AT_THE_END)
            if self.workers.is_first:
                print("a node is about to be taken away; saving now", flush=True)
        return time_is_up or notice

    def save(self, learner: Learner, state: TrainState, score: dict[str, float] | None = None) -> None:
        """Copies the learner and returns; files are written and sent to storage meanwhile, one checkpoint at a time."""
        metrics = score or {SCORE: NO_SCORE}
        if self.workers.is_first:
            self.writing.acquire()
            snapshot = Snapshot.of(learner, state)
            ray.train.report(
                metrics,
                Checkpoint.from_directory(tempfile.mkdtemp(prefix="maskworks-checkpoint-")),
                checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
                checkpoint_upload_fn=partial(self._write, snapshot),
                delete_local_checkpoint_after_upload=False,  # `_write` does, also where it fails
            )
        else:
            ray.train.report(metrics, checkpoint_upload_mode=CheckpointUploadMode.ASYNC)
        self.last_save = time.monotonic()

    def _write(self, snapshot: Snapshot, draft: Checkpoint, name: str) -> Checkpoint:
        """The snapshot as files in storage. Where that fails, what was written is taken away: the disk may be full."""
        storage = ray.train.get_context().get_storage()
        try:
            snapshot.write(Path(draft.path))
            return storage.persist_current_checkpoint(draft, name)
        except OSError:
            with suppress(OSError):
                storage.storage_filesystem.delete_dir(f"{storage.experiment_fs_path}/{name}")
            raise
        finally:
            shutil.rmtree(draft.path, ignore_errors=True)
            self.writing.release()

    def restore(self, learner: Learner) -> TrainState:
        """The state of the newest checkpoint that is whole, now in the learner; of none, the start."""
        filesystem, folder = _storage()
        names = None
        if self.workers.is_first:
            found = sorted(_list_checkpoints(filesystem, folder), key=lambda entry: (entry[0].epoch, entry[0].step), reverse=True)
            names = [name for _, name in found]
        state = TrainState()
        for name in ray.train.collective.broadcast_from_rank_zero(names):
            try:
                with Checkpoint(f"{folder}/{name}", filesystem).as_directory() as local:
                    state = load_checkpoint(Path(local), learner)
                break
            except DamagedCheckpoint as error:
                if self.workers.is_first:
                    print(f"checkpoint {name} is damaged ({error}); going back to the one before", flush=True)
        places = self.workers.gather(torch.tensor([state.epoch, state.step], dtype=torch.float64))
        if any(place != places[0] for place in places):
            raise RuntimeError(f"workers read different checkpoints (epoch, step: {places}); the storage did not show all of them the same")
        return state


def best_checkpoint(filesystem: pyarrow.fs.FileSystem, folder: str) -> tuple[Checkpoint, dict[str, float]]:
    """The run's checkpoint that scored highest and is whole, with its metrics. Raises `DamagedCheckpoint` where none is."""
    validated = [(state, name) for state, name in _list_checkpoints(filesystem, folder) if state.step == 0]
    for state, name in sorted(validated, key=lambda entry: (entry[0].metrics[SCORE], entry[0].epoch), reverse=True):
        checkpoint = Checkpoint(f"{folder}/{name}", filesystem)
        with checkpoint.as_directory() as local, suppress(DamagedCheckpoint):
            verify_checkpoint(Path(local))
            return checkpoint, state.metrics
    raise DamagedCheckpoint(f"none of the {len(validated)} validated checkpoints in {folder} is whole; train again")


def _storage() -> tuple[pyarrow.fs.FileSystem, str]:
    storage = ray.train.get_context().get_storage()
    return storage.storage_filesystem, storage.experiment_fs_path


def _list_checkpoints(filesystem: pyarrow.fs.FileSystem, folder: str) -> list[tuple[TrainState, str]]:
    """State and name of each checkpoint, from storage itself: Ray's own list may be lost with the process that wrote it."""
    found: list[tuple[TrainState, str]] = []
    for info in filesystem.get_file_info(pyarrow.fs.FileSelector(folder, allow_not_found=True, recursive=True)):
        parent, _, name = info.path.rpartition("/")
        if name != STATE:
            continue
        try:
            with filesystem.open_input_stream(info.path) as file:
                found.append((read_state(file.read().decode())[0], parent.rpartition("/")[2]))
        except (OSError, ValueError):
            continue  # written half when its worker died, or damaged since
    return found
