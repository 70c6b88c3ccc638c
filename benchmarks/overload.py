"""What callers see at twice the capacity: `python -m benchmarks.overload`.

First the capacity is measured, with connections that each wait for their answer. Then requests come at random moments, twice as
many a second as that, each with a deadline. What is let in must be answered within the deadline, the rest told at once when
to come back; anything but 200, 429 and 503 is a failure. Alone on a machine, or the numbers say little.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from benchmarks.http_load import Arrival, post_at_rate, post_for
from benchmarks.service import Model, Placement, make_bundle, sample_photo, server, server_environment

_PATH = "/v1/segment?format=png"
_ALLOWED = {200, 429, 503}


@dataclass(frozen=True)
class Options:
    """What to measure."""

    json: Path | None = None
    """Where to write the result as well."""
    seconds: float = 20
    """Length of each of the two measurements."""
    load: float = 2.0
    """Requests a second, in units of the measured capacity."""
    deadline_s: float = 2.0
    model: Model = "unet-mobilenet_v2"
    placement: Placement = "fused"
    haproxy: bool = False
    """HAProxy in front. It opens its statistics on ports 8404 and 9101 of all interfaces meanwhile."""


@dataclass(frozen=True)
class Result:
    """Latencies in milliseconds; `within_deadline` is the share of the answers."""

    capacity_per_s: float
    offered_per_s: float
    answered_per_s: float
    statuses: dict[str, int]
    answered_p50_ms: float
    answered_p99_ms: float
    within_deadline: float
    refused_p50_ms: float
    refused_p99_ms: float
    retry_after_s: tuple[int, int]


def main(options: Options) -> None:
    """Measures and prints; exits with 1 where a request got something else than an answer or a refusal."""
    os.environ.update(server_environment(options.haproxy))
    photo = sample_photo()
    with tempfile.TemporaryDirectory() as folder:
        bundle = make_bundle(Path(folder) / options.model, options.model)
        with server(bundle, options.placement) as port:
            closed = post_for(options.seconds, port=port, path=_PATH, body=photo, connections=16, warm_up_s=3)
            capacity = closed.answers_per_s
            headers = {"X-Deadline-Ms": f"{1e3 * options.deadline_s:g}"}
            rate = options.load * capacity
            arrivals = post_at_rate(rate, options.seconds, port=port, path=_PATH, body=photo, headers=headers)
    result = summarize(capacity, rate, arrivals, options)
    for name, value in asdict(result).items():
        print(f"{name:>16}  {value}")
    if options.json:
        options.json.write_text(json.dumps(asdict(result), indent=2) + "\n")
    if not {each.status for each in arrivals} <= _ALLOWED:
        sys.exit("some requests got neither an answer nor a refusal")


def summarize(capacity: float, rate: float, arrivals: list[Arrival], options: Options) -> Result:
    """The counts and percentiles of what came back."""
    answered = [1e3 * each.latency_s for each in arrivals if each.status == 200]
    refused = [1e3 * each.latency_s for each in arrivals if each.status in (429, 503)]
    retries = [each.retry_after_s for each in arrivals if each.retry_after_s]
    statuses = Counter(str(each.status) for each in arrivals)
    return Result(
        capacity_per_s=round(capacity, 1),
        offered_per_s=round(rate, 1),
        answered_per_s=round(len(answered) / options.seconds, 1),
        statuses=dict(sorted(statuses.items())),
        answered_p50_ms=_percentile(answered, 50),
        answered_p99_ms=_percentile(answered, 99),
        within_deadline=round(sum(each <= 1e3 * options.deadline_s for each in answered) / max(1, len(answered)), 4),
        refused_p50_ms=_percentile(refused, 50),
        refused_p99_ms=_percentile(refused, 99),
        retry_after_s=(min(retries, default=0), max(retries, default=0)),
    )


def _percentile(values: list[float], percent: int) -> float:
    return round(statistics.quantiles(values, n=100)[percent - 1], 1) if len(values) > 1 else 0.0


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
