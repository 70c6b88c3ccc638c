"""What a caller asks of an image, read from the query and the headers of a request."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from deployments.admission import DeadlinePassed
from deployments.formats import Format, choose_format
from deployments.problems import InvalidRequest
from models.label_set import LabelSet

Lane = Literal["interactive", "bulk"]
PARAMETERS = ("format", "classes", "min_score", "tiling", "name")
DEADLINE_HEADER, LANE_HEADER = "X-Deadline-Ms", "X-Lane"


@dataclass(frozen=True)
class Query:
    """One image's wishes; travels with it through the graph."""

    format: Format
    classes: tuple[int, ...] | None = None
    """The indices of the classes to answer with; None for all."""
    min_score: float = 0.0
    """Objects below it are left out."""
    tiled: bool = False
    """A large image is looked at in overlapping pieces instead of once, made small."""
    lane: Lane = "interactive"
    """`bulk` waits behind `interactive`."""
    deadline: float = math.inf
    """In seconds of `time.time()`; work that has not reached the model by then is dropped."""
    name: str = "image"
    """What formats for annotation tools call the photo; it only ever stands in the answer."""

    keeps_mask: bool = False
    """Whether the answer carries the class map too, for those who compare."""

    def check_deadline(self) -> None:
        """Raises `DeadlinePassed`: nobody waits for the answer any more."""
        if time.time() > self.deadline:
            raise DeadlinePassed("the deadline passed while the request waited for its turn; ask again later")


def read_query(parameters: Mapping[str, str], headers: Mapping[str, str], label_set: LabelSet, default_deadline_s: float) -> Query:
    """The query of a request. Raises `InvalidRequest`, `NotAcceptable`."""
    unknown = sorted(set(parameters) - set(PARAMETERS))
    if unknown:
        raise InvalidRequest(f"query parameter {unknown[0][:40]!r} is not known; there are {', '.join(PARAMETERS)}")
    deadline_s = _number(headers, DEADLINE_HEADER, 1e3 * default_deadline_s, lambda value: value > 0, "a positive number") / 1e3
    return Query(
        format=choose_format(parameters.get("format"), headers.get("accept")),
        classes=_classes(parameters["classes"], label_set) if "classes" in parameters else None,
        min_score=_number(parameters, "min_score", 0.0, lambda value: 0 <= value <= 1, "a number from 0 to 1"),
        tiled=_choice(parameters, "tiling", ("off", "auto")) == "auto",
        lane=_choice(headers, LANE_HEADER, ("interactive", "bulk")),
        deadline=time.time() + min(deadline_s, default_deadline_s),
        name=_name(parameters.get("name", "image")),
    )


def _classes(text: str, label_set: LabelSet) -> tuple[int, ...]:
    names = [text] if text in label_set.names else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in label_set.names:
            raise InvalidRequest(f"class {name[:40]!r} is not known; GET /v1/model lists the classes; separate names by commas")
    return tuple(sorted({label_set.names.index(name) for name in names}))


def _name(text: str) -> str:
    if not (0 < len(text) <= 255 and text.isprintable()):
        raise InvalidRequest(f"name {text[:40]!r} is not 1 to 255 printable characters; correct it or leave it out")
    return text


def _number(source: Mapping[str, str], name: str, default: float, holds: Callable[[float], bool], rule: str) -> float:
    text = source.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and holds(value)):
        raise InvalidRequest(f"{name} {text[:40]!r} is not {rule}; correct it or leave it out")
    return value


def _choice(source: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    """One of `choices`, the first where `source` says nothing."""
    value = source.get(name, choices[0])
    if value not in choices:
        raise InvalidRequest(f"{name} {value[:40]!r} is not known; use one of {', '.join(choices)}")
    return value
