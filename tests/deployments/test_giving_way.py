"""A version is loaded in steps between requests, on one replica of a machine after another."""

from __future__ import annotations

import fcntl
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from deployments import giving_way
from deployments.giving_way import be_nice, loading_beside


@pytest.fixture(autouse=True)
def lock(tmp_path, monkeypatch):
    """The file whose lock is the turn."""
    monkeypatch.setenv("MASKWORKS_HOME", str(tmp_path))
    return tmp_path / "served" / ".loading"


class Busy:
    """A champion with fewer requests inside each time that it is asked."""

    def __init__(self, num_inside: int) -> None:
        self._left = num_inside

    @property
    def num_inside(self) -> int:
        self._left -= 1
        return self._left + 1


def test_a_step_begins_when_no_request_is_inside():
    champion = Busy(3)
    with loading_beside(champion) as give_way:
        give_way()
    assert champion.num_inside == -1


def test_a_step_begins_after_a_while_though_requests_never_cease(monkeypatch):
    monkeypatch.setattr(giving_way, "_PATIENCE_S", 0)
    with loading_beside(SimpleNamespace(num_inside=1)) as give_way:
        give_way()


def test_only_one_process_loads_at_a_time(lock):
    with loading_beside(Busy(0)), lock.open("w") as of_another, pytest.raises(BlockingIOError):
        fcntl.flock(of_another, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with lock.open("w") as of_another:
        fcntl.flock(of_another, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_process_that_hangs_in_its_turn_does_not_stop_the_others(lock, monkeypatch):
    monkeypatch.setattr(giving_way, "_LONGEST_TURN_S", 0)
    lock.parent.mkdir()
    with lock.open("w") as of_another:
        fcntl.flock(of_another, fcntl.LOCK_EX)
        with loading_beside(Busy(0)) as give_way:
            give_way()


def test_what_is_loaded_first_waits_for_nobody(lock):
    with loading_beside(None) as give_way:
        give_way()
    assert not lock.exists()


@pytest.mark.parametrize("niceness", [0, 15])
def test_a_nice_thread_stands_behind_the_others_of_its_process_however_nice_they_are(niceness):
    """Ray starts its workers with a niceness of 15."""

    def priority() -> int:
        os.nice(niceness)
        be_nice()
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = os.getpriority(os.PRIO_PROCESS, 0)
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(priority).result() == min(19, before + niceness + 10)
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
