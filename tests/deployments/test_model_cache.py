"""Copies of versions on the disk: whole or not there, whoever else is at it."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deployments.model_cache import ModelCache


@pytest.fixture
def cache(tmp_path, monkeypatch) -> ModelCache:
    monkeypatch.setenv("MASKWORKS_HOME", str(tmp_path))
    return ModelCache("sqlite:///mlflow.db")


def write(content: str):
    return lambda draft: (draft / "model.json").write_text(content)


def test_a_version_is_downloaded_once(cache):
    folder = cache.folder("shelf", "3", 7, write("first"))
    assert cache.folder("shelf", "3", 7, write("second")) == folder
    assert (folder / "model.json").read_text() == "first"


def test_a_version_of_a_registry_that_was_made_anew_is_another_one(cache):
    assert cache.folder("shelf", "1", 7, write("a")) != cache.folder("shelf", "1", 8, write("b"))
    assert cache.folder("shelf", "1", 7, write("a")) != ModelCache("http://mlflow").folder("shelf", "1", 7, write("c"))


def test_two_at_once_get_one_whole_copy(cache):
    barrier = threading.Barrier(2)

    def download(draft: Path) -> None:
        (draft / "model.json").write_text("whole")
        barrier.wait(10)

    with ThreadPoolExecutor(2) as threads:
        folders = list(threads.map(lambda _: cache.folder("shelf", "3", 7, download), range(2)))
    assert folders[0] == folders[1] and (folders[0] / "model.json").read_text() == "whole"
    assert [each.name for each in folders[0].parent.iterdir()] == ["3-7"]


def test_a_failed_download_leaves_nothing(cache):
    def fail(draft: Path) -> None:
        (draft / "model.json").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        cache.folder("shelf", "3", 7, fail)
    assert list((cache.folder("shelf", "4", 7, write("x")).parent).iterdir()) == [cache.folder("shelf", "4", 7, fail)]


def test_only_the_last_used_copies_are_kept_and_dead_drafts_are_not(cache):
    old = cache.folder("shelf", "1", 1, write("old"))
    draft = old.parent / ".draft-killed"
    draft.mkdir()
    long_ago = time.time() - 10_000
    os.utime(draft, (long_ago, long_ago))
    for number in range(2, 7):
        os.utime(old, (long_ago, long_ago))
        newest = cache.folder("shelf", str(number), 1, write("new"))
    assert sorted(each.name for each in newest.parent.iterdir()) == ["2-1", "3-1", "4-1", "5-1", "6-1"]


def test_the_version_under_an_alias_is_remembered_while_its_copy_is_here(cache):
    assert cache.remembered("shelf", "champion") is None
    cache.folder("shelf", "3", 7, write("x"))
    cache.remember("shelf", "champion", "3", 7)
    assert cache.remembered("shelf", "champion") == ("3", 7)
    cache.forget("shelf", "3", 7)
    assert cache.remembered("shelf", "champion") is None


@pytest.mark.parametrize("name", ["..", ".", "a/../../b", "model with blanks"])
def test_no_name_leaves_the_folder(cache, name, tmp_path):
    folder = cache.folder(name, "1", 1, write("x"))
    assert (tmp_path / "served").resolve() in folder.resolve().parents and len(folder.relative_to(tmp_path / "served").parts) == 3
