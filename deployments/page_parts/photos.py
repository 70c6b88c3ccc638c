"""The photos of one visit: each is decoded, sent to the service, and sent again when a busy or absent service may do better."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import cv2
import numpy as np

from deployments.client import PASSING, Client, ServiceError
from models.image import ImageLimits, ImageTooLarge, InvalidImage, decode_reduced

_AT_ONCE = 4  # photos under way
_AWAY_PAUSE_S = 2  # before a service that does not answer is asked again
_PREVIEW_SIDE, _PREVIEW_SHORT_SIDE = 1600, 1200  # pixels: what a large screen shows
_THUMBNAIL_SIDE = 160


@dataclass(frozen=True)
class Source:
    """A photo as it was given. `id` is different for each giving."""

    id: str
    name: str
    data: bytes


@dataclass(frozen=True)
class Trouble:
    """Why there is no answer, in words; `title` in three."""

    title: str
    detail: str
    passes: bool = False
    """Whether the same request may do better later."""


@dataclass
class Photo:
    """A photo and what is known of it. It lives in the visitor's session, and nowhere else."""

    source: Source
    preview: np.ndarray | None = None
    """(h, w, 3) uint8 RGB, upright, at most `_PREVIEW_SIDE` on a side; None until decoded."""
    answer: dict | None = None
    """The service's JSON."""
    took_s: float = 0.0
    """From sending the photo to having the answer."""
    confidence: np.ndarray | None = None
    """(h, w) uint8, like `preview`; None until somebody wants to see it."""
    trouble: Trouble | None = None
    retry_at: float = 0.0
    """In seconds of `time.monotonic`."""
    attempt: Future | None = None

    def objects(self, least_score: float) -> list[dict]:
        """The answer's objects that are at least so sure."""
        return [each for each in self.answer["objects"] if each["score"] >= least_score]

    @property
    def under_way(self) -> bool:
        return self.answer is None and (self.trouble is None or self.trouble.passes)

    @property
    def wait_s(self) -> int:
        """Whole seconds until the next try."""
        return max(0, round(self.retry_at - time.monotonic()))

    @property
    def state(self) -> tuple:
        """What differs when there is something new to show."""
        return self.preview is None, self.answer is None, self.trouble


@dataclass
class Desk:
    """The photos that a visitor has laid down, in that order. Only the visitor's open page moves it on: when it is closed, nothing is sent any more."""

    client: Client
    """One that asks once; the desk asks again."""
    model: str | None
    limits: ImageLimits
    photos: dict[str, Photo] = field(default_factory=dict)
    version: str | None = None
    """Of the model that answered last."""
    _seen: list[tuple] = field(default_factory=list)
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_AT_ONCE))

    def lay(self, sources: Iterable[Source]) -> None:
        """Exactly these photos from now on; what is known of those that stay is kept, the others are forgotten."""
        self.photos = {each.id: self.photos.get(each.id) or Photo(each) for each in sources}

    def move_on(self) -> bool:
        """Sends what is due and takes in what has come; whether there is something new to show since the last time."""
        for photo in self.under_way:
            if photo.attempt is None and time.monotonic() >= photo.retry_at:
                photo.attempt = self._threads.submit(self._segment, photo, first=photo is self.under_way[0])
            elif photo.attempt is not None and photo.attempt.done():
                self._settle(photo)
        before, self._seen = self._seen, [photo.state for photo in self.photos.values()]
        return before != self._seen

    def wait(self, duration_s: float) -> None:
        """Until an attempt has ended, at most so long."""
        wait([photo.attempt for photo in self.under_way if photo.attempt], duration_s, FIRST_COMPLETED)

    @property
    def under_way(self) -> list[Photo]:
        return [photo for photo in self.photos.values() if photo.under_way]

    def _segment(self, photo: Photo, *, first: bool) -> tuple[dict, float]:
        """The service's JSON and how long it took; in a thread. The first photo is waited for, the others may wait behind other people's."""
        data = photo.source.data
        if photo.preview is None:
            photo.preview = shrink(decode_reduced(data, _PREVIEW_SHORT_SIDE, self.limits))
        begin = time.perf_counter()
        answer = self.client.segment(data, "json", model=self.model, lane=None if first else "bulk")
        took_s = time.perf_counter() - begin
        return json.loads(answer.body), took_s

    def _settle(self, photo: Photo) -> None:
        """Takes in what the attempt brought."""
        error, attempt, photo.attempt = photo.attempt.exception(), photo.attempt, None
        if error is None:
            photo.trouble = None
            photo.answer, photo.took_s = attempt.result()
            self.version = photo.answer["model_version"]
            return
        photo.trouble = trouble_of(error)
        photo.retry_at = time.monotonic() + (getattr(error, "retry_after_s", 0) or _AWAY_PAUSE_S)


def trouble_of(error: BaseException) -> Trouble:
    """What a visitor is told of `error`, which is raised again where it is none of the photo's or the service's."""
    match error:
        case ImageTooLarge():
            return Trouble("Too large", str(error))
        case InvalidImage():
            return Trouble("Not a readable image", str(error))
        case ServiceError(status=None):
            return Trouble("The service does not answer", str(error), passes=True)
        case ServiceError(status=status) if status in PASSING:
            return Trouble("The service is busy", str(error), passes=True)
        case ServiceError(status=413):
            return Trouble("Too large", str(error))
        case ServiceError():
            return Trouble("The service refused", str(error))
    raise error


def shrink(pixels: np.ndarray, side: int = _PREVIEW_SIDE) -> np.ndarray:
    """`pixels` (h, w) or (h, w, 3) uint8 with at most `side` pixels on the longer side."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return pixels
    return cv2.resize(pixels, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA)


def thumbnail(photo: Photo) -> np.ndarray | None:
    return None if photo.preview is None else shrink(photo.preview, _THUMBNAIL_SIDE)
