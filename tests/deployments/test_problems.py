from __future__ import annotations

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve.exceptions import BackPressureError

from deployments.problems import INTERNAL, PROBLEMS, InvalidRequest, problem_of
from models.image import ImageTooLarge, InvalidImage


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (InvalidImage("no image"), 400, "no image"),
        (ImageTooLarge("too large"), 413, "too large"),
        (InvalidRequest("what"), 400, "what"),
        (MemoryError("address 0x7f"), 503, "The server cannot take the request now; try again in a second."),
        (ActorDiedError(), 503, "The server cannot take the request now; try again in a second."),
        (
            BackPressureError(num_queued_requests=1, max_queued_requests=1),
            503,
            "The server cannot take the request now; try again in a second.",
        ),
        (KeyError("secret"), 500, INTERNAL.detail),
        (ValueError("secret"), 500, INTERNAL.detail),
    ],
)
def test_status_and_words(error, status, detail):
    problem, said = problem_of(error)
    assert (problem.status, said) == (status, detail)


def test_an_error_from_a_replica_is_the_error_that_it_raised():
    remote = RayTaskError("f", "Traceback: secret", ImageTooLarge("too large")).as_instanceof_cause()
    problem, said = problem_of(remote)
    assert problem.status == 413 and said == "too large"


def test_every_line_can_be_reached():
    for place, (kind, _) in enumerate(PROBLEMS):
        assert not any(issubclass(kind, earlier) for earlier, _ in PROBLEMS[:place]), kind
