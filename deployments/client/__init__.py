"""Speaks to a running service; needs neither Ray nor torch. `__main__.py` is the command line.

with Client("http://127.0.0.1:8000") as client:
    mask = client.segment("photo.jpg", "png").mask()
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Literal
from urllib.parse import quote

import numpy as np
import requests
from PIL import Image
from requests.adapters import HTTPAdapter
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

PASSING = (None, 429, 503)  # no answer, or a busy service: the same request may do better later
_FROM_THE_FRONT = (500, 502, 504)  # without a problem document: the proxy's words for a replica that died with the request
_PAUSES_S = (0.5, 1, 2, 4)  # before each further try; longer where the service says so
_CONNECTIONS = 64
_SUFFIXES = {  # of the other formats: their name
    "overlay": ".png",
    "overlay_jpeg": ".jpg",
    "overlay_webp": ".webp",
    "confidence": ".png",
    "polygons": ".json",
    "labelme": ".json",
    "label_studio": ".json",
    "cvat": ".xml",
}


class ServiceError(Exception):
    """The service refused or did not answer: the problem's words, its HTTP status or None, and how long it asks to wait."""

    def __init__(self, message: str, status: int | None = None, retry_after_s: float = 0) -> None:
        super().__init__(message)
        self.status, self.retry_after_s = status, retry_after_s


@dataclass(frozen=True)
class Answer:
    """What the service said of one image."""

    body: bytes
    media_type: str
    model_version: str

    def mask(self) -> np.ndarray:
        """The class indices (h, w) uint8 of an answer in the format png or npy. Raises `ValueError` for others."""
        if self.media_type == "application/x-npy":
            return np.load(io.BytesIO(self.body), allow_pickle=False)
        if self.media_type == "image/png":
            image = Image.open(io.BytesIO(self.body), formats=["PNG"])
            if image.mode == "P":
                return np.array(image)
        raise ValueError(f"an answer of type {self.media_type} holds no mask; ask with format='png' or 'npy'")

    def objects(self) -> list[dict]:
        """The objects of an answer in the format json, as /openapi.json describes them. Raises `ValueError` for others."""
        if self.media_type != "application/json":
            raise ValueError(f"an answer of type {self.media_type} lists no objects; ask with format='json'")
        return json.loads(self.body)["objects"]


class Client:
    """A service at `url`. A request is tried again while the service is busy or away, for `timeout_s` seconds in all; without
    `retry`, for a caller that shows what it waits for, it is tried once. Safe for threads."""

    def __init__(
        self, url: str = "http://127.0.0.1:8000", timeout_s: float = 60, api_key: str | None = None, *, retry: bool = True
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ServiceError(f"the address {url!r} names no protocol; begin it with http:// or https://")
        self.url, self.timeout_s = url.rstrip("/"), timeout_s
        self._pauses_s = _PAUSES_S if retry else ()
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))
        self._session.auth = _bearer(api_key) if api_key else None

    def segment(
        self,
        image: bytes | Path | str,
        format: str = "json",
        *,
        classes: list[str] | None = None,
        min_score: float | None = None,
        tiling: Literal["off", "auto"] | None = None,
        lane: Literal["interactive", "bulk"] | None = None,
        model: str | None = None,
        name: str | None = None,
    ) -> Answer:
        """The answer for an image, a file's bytes or its path, in a format of /v1/model. Raises `ServiceError`, `OSError`.

        `model` is one of `models`, where the service has several; `name` is what the formats for annotation tools call the photo.
        """
        data = image if isinstance(image, bytes) else Path(image).read_bytes()
        wishes = {"format": format, "classes": classes and ",".join(classes), "min_score": min_score, "tiling": tiling, "name": name}
        path = f"/v1/models/{quote(model, safe='')}/segment" if model else "/v1/segment"
        answer = self._send("POST", path, params=wishes, data=data, headers={"X-Lane": lane})
        media_type = answer.headers["Content-Type"].split(";")[0]
        return Answer(answer.content, media_type, answer.headers.get("X-Model-Version", ""))

    def model(self, name: str | None = None) -> dict:
        """What the service says of its model, or of that one of several: version, labels, limits, formats. Raises `ServiceError`."""
        return self._send("GET", f"/v1/models/{quote(name, safe='')}" if name else "/v1/model").json()

    def models(self) -> list[str]:
        """The names of the served models; none where the service has one only, and no list. Raises `ServiceError`."""
        try:
            return [each["name"] for each in self._send("GET", "/v1/models").json()["models"]]
        except ServiceError as error:
            if error.status == 404:
                return []
            raise

    def ready(self) -> bool:
        """Whether the whole service answers now; asked once."""
        try:
            return self._session.get(f"{self.url}/readyz", timeout=self.timeout_s).ok
        except requests.RequestException:
            return False

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, method: str, path: str, **options: object) -> requests.Response:
        give_up = monotonic() + self.timeout_s
        for pause_s in self._pauses_s:
            try:
                return self._try(method, path, give_up, **options)
            except ServiceError as error:
                pause_s = max(pause_s, error.retry_after_s)
                if error.status not in PASSING or monotonic() + pause_s > give_up:
                    raise
            sleep(pause_s)
        return self._try(method, path, give_up, **options)

    def _try(self, method: str, path: str, give_up: float, **options: object) -> requests.Response:
        try:
            answer = self._session.request(method, self.url + path, timeout=max(give_up - monotonic(), 0.1), **options)
        except requests.RequestException as error:
            raise ServiceError(f"{self.url} does not answer ({type(error).__name__}); check the address and that it runs") from error
        if not answer.ok:
            raise ServiceError(_detail(answer), None if _is_lost(answer) else answer.status_code, _retry_after_s(answer))
        return answer


def suffix_of(format: str) -> str:
    """How the name of a file in that format ends: .png, .json, ..."""
    return _SUFFIXES.get(format, f".{format}")


def _bearer(api_key: str) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    """As `auth` and not as a header, which a .netrc file would replace."""

    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {api_key}"
        return request

    return sign


def _is_lost(answer: requests.Response) -> bool:
    """Whether the service itself said nothing to the request, which changes nothing and so can be sent again."""
    return answer.status_code in _FROM_THE_FRONT and answer.headers.get("Content-Type") != "application/problem+json"


def _detail(answer: requests.Response) -> str:
    """The problem document's sentence, or what else can be said."""
    try:
        return answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return f"{answer.url.split('?')[0]} answered {answer.status_code} {answer.reason}"


def _retry_after_s(answer: requests.Response) -> float:
    try:
        return Retry().parse_retry_after(answer.headers.get("Retry-After", "0"))
    except InvalidHeader:
        return 0.0
