"""What a running service says of labelled photos, asked over HTTP like any caller's."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import requests
from PIL import Image
from requests.adapters import HTTPAdapter
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from models.instance_mask import InstanceMask
from models.instance_metrics import masks_of_answer
from models.metrics import SegmentationCounts
from pipelines.data.records import Record

_TIMEOUT_S = 60
_LONGEST_WAIT_S = 60  # between two tries, whatever the service asks for
# A busy service is asked again when it says.
_PATIENCE = Retry(
    total=20,
    connect=2,
    read=2,
    status_forcelist=(429, 503),
    allowed_methods=None,
    backoff_factor=0.5,
    backoff_max=10,
    retry_after_max=_LONGEST_WAIT_S,
    raise_on_status=False,
)


class ServiceFailed(RuntimeError):
    """A service that does not answer, refuses a photo, or is not the same model throughout."""


class MeasuredService:
    """A service at `address`, http:// or https://. MASKWORKS_API_KEY, where set, goes along. Safe for threads."""

    def __init__(self, address: str, *, connections: int = 4) -> None:
        self._address, self._connections = address.rstrip("/"), connections
        self._versions: set[str] = set()  # of the models that answered
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=connections, max_retries=_PATIENCE))
        self._session.auth = _sign  # not a header, which a .netrc file would replace

    def class_names(self) -> list[str]:
        """The names of the served model's classes, by index. Raises `ServiceFailed`."""
        return [label["name"] for label in self._ask("GET", "/v1/model", "the model").json()["labels"]]

    def count(self, records: Sequence[Record], num_classes: int, *, with_confidence: bool) -> Iterator[SegmentationCounts]:
        """The counts of each record, in their order; for its confidence each photo is sent twice. Raises `ServiceFailed`."""

        def count(record: Record) -> SegmentationCounts:
            data, mask = record.read()
            predicted = self._segment(record, data, "png")
            confidence = self._segment(record, data, "confidence") if with_confidence else None
            try:
                return SegmentationCounts.of(mask, predicted, num_classes, confidence)
            except ValueError as error:
                raise ServiceFailed(f"{record.image_path.name}: {error}") from error

        threads = ThreadPoolExecutor(self._connections)
        try:
            yield from threads.map(count, records)
        finally:
            threads.shutdown(cancel_futures=True)  # after an error the rest is not sent

    def class_map(self, record: Record) -> np.ndarray:
        """The class that the service gives each of the photo's pixels, (h, w) uint8. Raises `ServiceFailed`."""
        return self._segment(record, record.image_path.read_bytes(), "png")

    def objects(self, record: Record) -> list[InstanceMask]:
        """The objects that the service finds on the photo. Raises `ServiceFailed`."""
        return masks_of_answer(self._answer(record, record.image_path.read_bytes(), "json").json())

    def _segment(self, record: Record, data: bytes, format: str) -> np.ndarray:
        return np.array(Image.open(io.BytesIO(self._answer(record, data, format).content), formats=("PNG",)))

    def _answer(self, record: Record, data: bytes, format: str) -> requests.Response:
        name, lane = record.image_path.name, {"X-Lane": "bulk"}  # behind the requests that people wait for
        answer = self._ask("POST", "/v1/segment", name, params={"format": format}, data=data, headers=lane)
        self._versions.add(answer.headers.get("X-Model-Version", ""))
        if len(self._versions) > 1:
            raise ServiceFailed(f"the service changed its model meanwhile ({', '.join(sorted(self._versions))}); measure again")
        return answer

    def _ask(self, method: str, path: str, subject: str, **options: object) -> requests.Response:
        try:
            answer = self._session.request(method, self._address + path, timeout=_TIMEOUT_S, **options)
        except (requests.RequestException, InvalidHeader) as error:
            raise ServiceFailed(f"{self._address} does not answer ({type(error).__name__}); check the address and that it runs") from error
        if not answer.ok:
            raise ServiceFailed(f"{self._address} refused {subject} with {answer.status_code}: {_detail(answer)}")
        return answer


def _sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
    api_key = os.environ.get("MASKWORKS_API_KEY")
    if api_key:
        request.headers["Authorization"] = f"Bearer {api_key}"
    return request


def _detail(answer: requests.Response) -> str:
    """The problem document's sentence, or what else can be said."""
    try:
        return answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return answer.reason
