"""Copies of registered versions on this machine's disk, so that a start needs no MLflow and a version may vanish from it.

<home>/served/<start of a digest of MLflow's address>/<name>/<number>-<created>/   a version's artifacts
                                                            /alias-<alias>.json    the version that was served last under the alias
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from models.home import home

_VERSIONS_KEPT = 5  # of each model, the last used ones
_DRAFT_AGE_S = 3600  # after which a draft is what a killed process left
logger = logging.getLogger("ray.serve")


class ModelCache:
    """Safe for several processes: a copy appears whole or not at all, and whoever comes second takes the first one's."""

    def __init__(self, tracking_uri: str) -> None:
        self._root = home() / "served" / hashlib.sha256(tracking_uri.encode()).hexdigest()[:12]

    def folder(self, name: str, number: str, created: int, download: Callable[[Path], object]) -> Path:
        """The version's folder; where it is not here, `download` fills it. Raises what that raises."""
        folder = self._of(name) / f"{number}-{created}"
        if not folder.is_dir():
            self._fill(folder, download)
            self._drop_old(folder)
        os.utime(folder)
        return folder

    def any_copy(self, name: str, number: str) -> Path | None:
        """The newest copy of a version, where nobody can say when the version was created."""
        return max(self._of(name).glob(f"{number}-*"), key=_used, default=None)

    def forget(self, name: str, number: str, created: int) -> None:
        """Removes a copy, which turned out to be damaged."""
        shutil.rmtree(self._of(name) / f"{number}-{created}", ignore_errors=True)

    def remember(self, name: str, alias: str, number: str, created: int) -> None:
        """Notes the version that is now served under the alias."""
        note = self._note(name, alias)
        draft = note.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps({"number": number, "created": created}))
        draft.replace(note)

    def remembered(self, name: str, alias: str) -> tuple[str, int] | None:
        """Number and creation of the version that was served last under the alias, if its copy is here."""
        try:
            note = json.loads(self._note(name, alias).read_text())
            number, created = str(note["number"]), int(note["created"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return (number, created) if (self._of(name) / f"{number}-{created}").is_dir() else None

    def _of(self, name: str) -> Path:
        return self._root / quote(name, safe=" ").replace(".", "%2E")

    def _note(self, name: str, alias: str) -> Path:
        return self._of(name) / f"alias-{quote(alias, safe='')}.json"

    def _fill(self, folder: Path, download: Callable[[Path], object]) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder.parent))
        try:
            download(draft)
            if not folder.is_dir():
                draft.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _drop_old(self, newest: Path) -> None:
        """Leaves the newest copies and no drafts of processes that were killed."""
        now = time.time()
        for each in newest.parent.glob(".draft-*"):
            if now - _used(each) > _DRAFT_AGE_S:
                shutil.rmtree(each, ignore_errors=True)
        copies = sorted((each for each in newest.parent.iterdir() if each.is_dir() and each.name[0] != "."), key=_used)
        for each in copies[:-_VERSIONS_KEPT]:
            logger.info("the copy %s is removed; %s newer ones are kept", each, _VERSIONS_KEPT)
            shutil.rmtree(each, ignore_errors=True)


def _used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:  # another process removed it
        return 0
