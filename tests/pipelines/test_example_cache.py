"""Examples are read once, whoever asks, and the budget holds."""

import pickle

import numpy as np
import pytest

from pipelines.example_cache import ExampleCache


class Reader:
    """Ten examples of two arrays, 20 bytes each, and how often each was read."""

    def __init__(self):
        self.reads = []

    def __call__(self, index):
        self.reads.append(index)
        random = np.random.default_rng(index)
        return random.integers(256, size=(2, 3, 2), dtype=np.uint8), random.integers(1000, size=(2, 2), dtype=np.int16)


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("MASKWORKS_HOME", str(tmp_path))
    return tmp_path


def assert_same(one, other):
    for first, second in zip(one, other, strict=True):
        assert first.dtype == second.dtype
        assert np.array_equal(first, second)


def test_an_example_is_read_once_and_stays_the_same():
    read = Reader()
    cache = ExampleCache(read, 10, "key", 10_000)
    read.reads.clear()
    for _ in range(3):
        for index in range(10):
            assert_same(cache[index], Reader()(index))
    assert read.reads == list(range(10))


def test_other_processes_and_later_trainings_find_what_was_read():
    first = ExampleCache(Reader(), 10, "key", 10_000)
    _ = first[4], first[5]
    read = Reader()
    later = ExampleCache(read, 10, "key", 10_000)
    sent = pickle.loads(pickle.dumps(first))
    read.reads.clear()
    sent.read.reads.clear()
    assert_same(later[4], Reader()(4))
    assert_same(sent[5], Reader()(5))
    assert read.reads == sent.read.reads == []


def test_what_an_example_gives_can_be_changed_without_harm():
    cache = ExampleCache(Reader(), 10, "key", 10_000)
    cache[3][0][:] = 0
    assert_same(cache[3], Reader()(3))


def test_the_budget_holds_and_the_rest_is_read_each_time(home):
    read = Reader()
    cache = ExampleCache(read, 10, "key", 10 + 3 * 20 + 5)
    read.reads.clear()
    for _ in range(2):
        assert_same(cache[2], Reader()(2))
        assert_same(cache[3], Reader()(3))
    assert read.reads == [2, 3, 3]
    (file,) = home.rglob("*.examples")
    assert file.stat().st_size == 10 + 3 * 20
    assert ExampleCache(Reader(), 10, "key", 0).capacity == 0


def test_other_data_is_never_mixed_up_and_its_file_is_deleted_when_nobody_uses_it(home):
    first = ExampleCache(Reader(), 10, "one", 10_000)
    _ = first[1]
    other = ExampleCache(lambda index: tuple(array + 1 for array in Reader()(index)), 10, "other", 10_000)
    assert_same(other[1], [array + 1 for array in Reader()(1)])
    assert len(list(home.rglob("*.examples"))) == 2  # the first one is in use
    del first
    _ = ExampleCache(Reader(), 10, "third", 10_000)
    assert first_is_gone(home)


def first_is_gone(home):
    return len(list(home.rglob("*.examples"))) == 2  # other and third


def test_a_disk_without_room_costs_nothing_but_speed(monkeypatch):
    def no_room(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", no_room)
    read = Reader()
    cache = ExampleCache(read, 10, "key", 10_000)
    assert_same(cache[1], Reader()(1))
