"""What Prometheus sees of the service, through the endpoint that Ray opens on every node.

Ray puts `ray_` before each name and adds the labels `deployment`, `replica` and `application`. Outside Ray nothing is exported, and
recording does no harm. Labels take a handful of values each, whatever callers send.
"""

from __future__ import annotations

from collections.abc import Mapping

from ray.serve.metrics import Counter, Gauge, Histogram

PREFIX = "maskworks_"
_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.12, 0.25, 0.5, 1, 2, 4, 8, 15, 30)
# Ray makes up a histogram's sum from the middles of its buckets: with these it is right for batches of up to 16.
_BATCH_SIZES = (*(size + 0.5 for size in range(17)), 32.5, 64.5)


class Metrics:
    """The service's own metrics. To be built inside the replica whose name they carry; safe for threads."""

    def __init__(self) -> None:
        self._stage = Histogram(f"{PREFIX}stage_seconds", "How long each part of an answer took.", list(_SECONDS), ("stage",))
        self._batch = Histogram(f"{PREFIX}batch_size", "Images that shared an answer's forward pass.", list(_BATCH_SIZES))
        self._pixels = Counter(f"{PREFIX}pixels_total", "Pixels of the photos that were answered.")
        self._answers = Counter(f"{PREFIX}answers_total", "Photos that were answered.", ("format",))
        self._refusals = Counter(
            f"{PREFIX}refusals_total",
            "Requests, or images of a request of several, that were answered with a problem.",
            ("reason", "status"),
        )
        self._version = Gauge(f"{PREFIX}served_version", "The number of the registered version that answers.", ("model",))
        self._refused_versions = Counter(
            f"{PREFIX}refused_versions_total", "Times that what a model's alias names did not come to serve.", ("reason",)
        )
        self._drift = Gauge(
            f"{PREFIX}drift",
            "How far photos and answers are from validation pictures: 0 not at all, 1 all beyond them on one side.",
            ("model", "measure"),
        )
        self._shadow_iou = Gauge(
            f"{PREFIX}shadow_iou", "IoU of a challenger's masks with the champion's on live photos.", ("challenger", "class")
        )
        self._shadow_photos = Gauge(f"{PREFIX}shadow_photos", "Live photos that a challenger was compared on.", ("challenger",))
        self._queue = Gauge(f"{PREFIX}queue_length", "Images that were let in and not answered yet.", ("lane",))

    def answered(self, times_s: Mapping[str, float], batch_size: int, num_pixels: int, answer_format: str) -> None:
        """One photo's answer; `times_s` has the seconds of each part and of the `total`."""
        for stage, duration_s in times_s.items():
            self._stage.observe(duration_s, {"stage": stage})
        self._batch.observe(batch_size)
        self._pixels.inc(num_pixels)
        self._answers.inc(1, {"format": answer_format})

    def refused(self, reason: str, status: int) -> None:
        """A request, or an image of several, that got the problem named `reason`."""
        self._refusals.inc(1, {"reason": reason, "status": str(status)})

    def queue(self, length: int, lane: str) -> None:
        """How many images of `lane` are inside now."""
        self._queue.set(length, {"lane": lane})

    def serves(self, model: str, version: int) -> None:
        """The version of `model` that answers from now on."""
        self._version.set(version, {"model": model})

    def refused_version(self, reason: str) -> None:
        """What an alias names does not serve; `reason` is one word of a few."""
        self._refused_versions.inc(1, {"reason": reason})

    def drift(self, model: str, drift: Mapping[str, float]) -> None:
        """How far each measure of `models.watch` has drifted."""
        for measure, value in drift.items():
            self._drift.set(value, {"model": model, "measure": measure})

    def shadow(self, challenger: str, num_photos: int, iou: Mapping[str, float]) -> None:
        """How a challenger's masks agree with the champion's."""
        self._shadow_photos.set(num_photos, {"challenger": challenger})
        for name, value in iou.items():
            self._shadow_iou.set(value, {"challenger": challenger, "class": name})

    @property
    def names(self) -> dict[str, type]:
        """Each metric's name before Ray's prefix, and its kind."""
        return {each.info["name"]: type(each) for each in vars(self).values()}
