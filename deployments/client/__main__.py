"""Sends photos to a running service from the command line.

python -m deployments.client photo.jpg                      what is in it, as a table
python -m deployments.client photo.jpg --out mask.png
python -m deployments.client photos/ --out masks/           run again, it goes on where it ended
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Literal

import tyro
from tqdm import tqdm

from deployments.client import Client, ServiceError, suffix_of

_PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")


class InvalidCommand(ValueError):
    """A command line that cannot be carried out."""


@dataclass(frozen=True)
class ClientConfig:
    """Send one photo, or a folder of them, to a running service. MASKWORKS_API_KEY, where set, goes along as the bearer token."""

    photos: tyro.conf.Positional[Path]
    """A photo, or a folder: every jpg, png, webp, gif and bmp in it and in its folders."""
    out: Path | None = None
    """The file that the answer is written to, for a folder the folder. Without it one photo's objects are printed."""
    url: str = "http://127.0.0.1:8000"
    """The service's address."""
    format: str | None = None
    """A format of GET /v1/model: json, png, overlay, ... Where unset, the suffix of --out; for a folder png."""
    classes: tuple[str, ...] = ()
    """Answer with these classes only."""
    min_score: float | None = None
    """Leave out objects with a lower score, from 0 to 1."""
    tiling: Literal["off", "auto"] = "off"
    """auto: a large photo is looked at in pieces, which finds small things and takes longer."""
    workers: int = 4
    """Photos of a folder that are under way at the same time."""
    timeout_s: float = 60
    """How long one photo may take, with all tries while the service is busy or away."""


def main(config: ClientConfig) -> int:
    """The exit status: 1 where a photo failed. Raises `ServiceError`, `InvalidCommand`, `OSError`."""
    if config.workers < 1:
        raise InvalidCommand(f"workers is {config.workers}; use 1 or more")
    with Client(config.url, config.timeout_s, os.environ.get("MASKWORKS_API_KEY")) as client:
        if config.photos.is_dir():
            return _segment_folder(client, config)
        if config.out is None:
            print(_table(client.segment(config.photos, "json", **_wishes(config)).objects()))
            return 0
        format = config.format or config.out.suffix.removeprefix(".") or "png"
        _write(config.out, client.segment(config.photos, format, **_wishes(config)).body)
        return 0


def _wishes(config: ClientConfig) -> dict:
    return {"classes": list(config.classes) or None, "min_score": config.min_score, "tiling": config.tiling}


def _table(objects: list[dict]) -> str:
    rows = [f"{each['class']:<24} {each['score']:>6.2f} {each['area']:>10}  {', '.join(map(str, each['box']))}" for each in objects]
    return "\n".join([f"{'class':<24} {'score':>6} {'pixels':>10}  x, y, width, height", *rows])


def _segment_folder(client: Client, config: ClientConfig) -> int:
    targets = _targets(config)
    waiting = {photo: target for photo, target in targets.items() if not target.exists()}
    if waiting:
        client.model()  # an address or a key that is wrong fails once, and not for every photo
    failures = {photo: reason for photo, reason in _results(client, config, waiting) if reason}
    print(f"{len(waiting) - len(failures)} written to {config.out}, {len(targets) - len(waiting)} were there, {len(failures)} failed")
    for photo, reason in sorted(failures.items()):
        print(f"  {photo.relative_to(config.photos)}: {reason}")
    return 1 if failures else 0


def _targets(config: ClientConfig) -> dict[Path, Path]:
    """Each photo with the file that its answer goes to. Raises `InvalidCommand`."""
    if config.out is None or config.out.is_file():
        raise InvalidCommand(f"{config.photos} is a folder; name a folder for the answers with --out")
    format = config.format or "png"
    suffix = suffix_of(format)
    photos: dict[Path, Path] = {}
    for path in sorted(config.photos.rglob("*")):
        if path.suffix.lower() in _PHOTOS and config.out not in path.parents and path.is_file():
            target = config.out / path.relative_to(config.photos).with_suffix(suffix)
            if target in photos:
                raise InvalidCommand(f"{photos[target]} and {path} would both be written to {target}; rename one of them")
            photos[target] = path
    if not photos:
        raise InvalidCommand(f"{config.photos} holds no photo ({', '.join(_PHOTOS)}); name another folder")
    return {photo: target for target, photo in photos.items()}


def _results(client: Client, config: ClientConfig, waiting: Mapping[Path, Path]) -> Iterator[tuple[Path, str | None]]:
    """Each photo, as it is done, with the reason where it failed; all that is left fails once the service is gone."""

    gone = Event()

    def work(photo: Path, target: Path) -> None:
        if gone.is_set():
            raise ServiceError("not sent, since the service was gone; run the command again")
        answer = client.segment(photo, config.format or "png", lane="bulk", **_wishes(config))
        _write(target, answer.body)

    threads = ThreadPoolExecutor(config.workers)
    try:
        futures = {threads.submit(work, photo, target): photo for photo, target in waiting.items()}
        for future in tqdm(as_completed(futures), total=len(futures), unit="photo", disable=None):
            error = future.exception()
            if error is not None and not isinstance(error, (ServiceError, OSError)):
                raise error
            yield futures[future], error and str(error)
            if isinstance(error, ServiceError) and error.status is None and not (gone.is_set() or client.ready()):
                gone.set()
    finally:
        threads.shutdown(cancel_futures=True)  # on Ctrl-C too: what is under way ends, the rest never starts


def _write(path: Path, body: bytes) -> None:
    """The whole file or none, so that one that is there is done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(body)
    part.replace(path)


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(ClientConfig)))
    except (ServiceError, InvalidCommand, OSError) as error:
        sys.exit(f"error: {error}")
