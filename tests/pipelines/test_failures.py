"""What is tried again, what is not, and the sentence that says so."""

import errno
import pickle

import pytest
from ray.exceptions import RayActorError
from ray.train import ControllerError, WorkerGroupError

from pipelines.epoch_sums import DivergedTraining
from pipelines.failures import StopOnBugs, TrainingFailed, lasting_reason, reason_of


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DivergedTraining("the loss is nan; lower it"), "the loss is nan; lower it"),
        (TypeError("int + str"), "TypeError: int + str"),
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), "No space left on device: /data/x"),
    ],
)
def test_what_another_attempt_would_meet_again_ends_the_training_with_a_sentence(error, reason):
    with pytest.raises(ControllerError) as raised:
        StopOnBugs().after_exception(None, {0: RuntimeError("Connection closed by peer"), 1: error})
    sent = pickle.loads(pickle.dumps(raised.value))  # from Ray Train's controller to the driver
    assert isinstance(sent.controller_failure, TrainingFailed)
    assert reason in reason_of(sent)
    assert "\n" not in reason_of(sent)


@pytest.mark.parametrize("error", [RayActorError(), RuntimeError("Connection closed by peer"), OSError(errno.EIO, "Input/output error")])
def test_lost_workers_are_started_again(error):
    assert lasting_reason(error) is None
    StopOnBugs().after_exception(None, {0: error})


def test_attempts_that_ran_out_name_every_worker_that_failed():
    error = WorkerGroupError("long\ntraceback", {1: RuntimeError("gone\nmore"), 0: RuntimeError("reset")})
    assert reason_of(error) == "workers were lost more often than --max-failures allows (worker 0: reset; worker 1: gone)"
