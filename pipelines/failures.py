"""Why a training ended: what another attempt would meet again is not tried again, and is said in one sentence."""

from __future__ import annotations

import errno
import os

import ray.exceptions
import torch
from ray.train import ControllerError, TrainingFailedError, UserCallback, WorkerGroupError

from pipelines.epoch_sums import DivergedTraining

_BUGS = (TypeError, ValueError, AttributeError, LookupError, NameError, AssertionError, ImportError, NotImplementedError)
_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


class TrainingFailed(RuntimeError):
    """A training that ended before its last epoch; the message says why, in one sentence."""


class StopOnBugs(UserCallback):
    """Ends a training at once where starting its workers again would lead to the same failure."""

    def after_exception(self, run_context: object, worker_exceptions: dict[int, Exception]) -> None:
        """Called in Ray Train's controller; a `ControllerError` is what it does not try again."""
        for rank, error in sorted(worker_exceptions.items()):
            reason = lasting_reason(error)
            if reason is not None:
                raise ControllerError(TrainingFailed(reason))
            print(f"worker {rank} was lost ({_first_line(error)})", flush=True)


def lasting_reason(error: BaseException) -> str | None:
    """Why another attempt would fail as this one did, as a sentence; None where it may succeed."""
    if isinstance(error, DivergedTraining):
        return str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return "the GPU's memory is too small; lower --micro-batch-size or --input-size, or set --precision bf16"
    if isinstance(error, OSError) and error.errno in _NO_PLACE:
        what = os.strerror(error.errno) + (f": {error.filename}" if error.filename else "")
        return f"a checkpoint could not be written ({what}); make room or correct --storage. The last good checkpoint is kept"
    if isinstance(error, _BUGS):
        return f"{type(error).__name__}: {error} (the run's failures/ in MLflow hold the traceback)"
    return None


def reason_of(error: BaseException) -> str:
    """The sentence that a user reads, and that the run's tag `failure` holds."""
    if isinstance(error, ControllerError):
        failure = error.controller_failure
        return str(failure) if isinstance(failure, TrainingFailed) else lasting_reason(failure) or _first_line(failure)
    if isinstance(error, WorkerGroupError):
        failures = "; ".join(f"worker {rank}: {_first_line(failure)}" for rank, failure in sorted(error.worker_failures.items()))
        return f"workers were lost more often than --max-failures allows ({failures})"
    if isinstance(error, (TrainingFailedError, ray.exceptions.RayError)):
        return f"Ray was lost ({_first_line(error)})"
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
