from __future__ import annotations

import math
import pickle

import pytest

from deployments.admission import Admission, DeadlinePassed, Overloaded

_ENTERED = []  # a place that nobody refers to would be given back


class Clock:
    """A clock that the test sets; `now` in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def enter(admission: Admission, *, bulk: bool = False, deadline: float = math.inf):
    admission.check(bulk=bulk, deadline=deadline)
    place = admission.place(bulk=bulk)
    place.__enter__()
    _ENTERED.append(place)
    return place


def leave(place) -> None:
    place.__exit__(None, None, None)


def measured(clock: Clock, num_places: int, interval_s: float) -> Admission:
    """An admission that has seen answers `interval_s` apart."""
    admission = Admission(num_places, clock)
    for _ in range(5):
        place = enter(admission)
        clock.now += interval_s
        leave(place)
    return admission


def test_places_are_few_and_come_free(clock):
    admission = Admission(2, clock)
    first, second = enter(admission), enter(admission)
    with pytest.raises(Overloaded, match="2 requests are waiting"):
        enter(admission)
    leave(first)
    enter(admission)
    leave(second)
    assert admission.num_inside == 1


def test_half_of_the_places_are_for_bulk(clock):
    admission = Admission(4, clock)
    enter(admission, bulk=True)
    enter(admission, bulk=True)
    with pytest.raises(Overloaded):
        enter(admission, bulk=True)
    for _ in range(4):
        enter(admission)  # people do not notice
    with pytest.raises(Overloaded):
        enter(admission)


def test_retry_after_is_what_waits_at_the_measured_pace(clock):
    admission = measured(clock, num_places=6, interval_s=0.5)
    for _ in range(6):
        enter(admission)
    with pytest.raises(Overloaded) as refusal:
        enter(admission)
    assert refusal.value.retry_after_s == 3  # 6 * 0.5 s


def test_who_would_be_answered_too_late_is_told_at_the_door(clock):
    admission = measured(clock, num_places=100, interval_s=0.5)
    for _ in range(10):
        enter(admission)
    with pytest.raises(Overloaded, match="2.0 s after the deadline") as refusal:
        enter(admission, deadline=clock.now + 3)  # 10 ahead take 5 s
    assert refusal.value.retry_after_s == 2
    enter(admission, deadline=clock.now + 5.1)


def test_an_idle_server_lets_anyone_try_however_slow_it_was(clock):
    admission = measured(clock, num_places=4, interval_s=60)
    enter(admission, deadline=clock.now + 1)


def test_time_without_work_does_not_count(clock):
    admission = measured(clock, num_places=10, interval_s=0.1)
    clock.now += 3600
    leave(enter(admission))
    for _ in range(10):
        enter(admission)
    with pytest.raises(Overloaded) as refusal:
        enter(admission)
    assert refusal.value.retry_after_s == 1


def test_failures_give_their_place_back_and_do_not_count_as_answers(clock):
    admission = measured(clock, num_places=2, interval_s=1)
    with pytest.raises(ValueError), admission.place(bulk=False):
        clock.now += 500
        raise ValueError
    assert admission.num_inside == 0
    enter(admission), enter(admission)
    with pytest.raises(Overloaded) as refusal:
        enter(admission)
    assert refusal.value.retry_after_s == 2


def test_refusals_travel_between_processes():
    copy = pickle.loads(pickle.dumps(DeadlinePassed("too late", 2.5)))
    assert (str(copy), copy.retry_after_s) == ("too late", 2.5)


def test_answers_that_came_later_than_foretold_make_it_cautious(clock):
    steady, uneven = measured(clock, 100, interval_s=0.5), measured(clock, 100, interval_s=0.5)
    for _ in range(20):
        leave(enter(uneven))  # a batch answers two at a time: one at once, the other after twice the interval
        place = enter(uneven)
        clock.now += 1.0
        leave(place)
    for admission in (steady, uneven):
        for _ in range(4):
            enter(admission)
    enter(steady, deadline=clock.now + 2.2)  # 4 ahead take 2 s
    with pytest.raises(Overloaded):
        enter(uneven, deadline=clock.now + 2.2)
