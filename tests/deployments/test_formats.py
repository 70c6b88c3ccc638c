from __future__ import annotations

import pytest

from deployments.formats import FORMATS, GEOJSON, JSON, NPY, OVERLAY, OVERLAY_JPEG, OVERLAY_WEBP, PNG, choose_format
from deployments.problems import InvalidRequest, NotAcceptable


@pytest.mark.parametrize("answer_format", FORMATS)
def test_a_name_wins_over_the_header(answer_format):
    assert choose_format(answer_format.name, "text/html") is answer_format


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, JSON),
        ("", JSON),
        ("image/png", PNG),
        ("IMAGE/PNG ; q=0.3", PNG),
        ("application/json;q=0.5, image/png;q=0.6", PNG),
        ("application/json;q=0.6, image/png;q=0.6", JSON),
        ("*/*;q=0.1, image/png", PNG),
        ("application/json;q=0, */*", PNG),
        ("image/jpeg", OVERLAY_JPEG),
        ("image/webp, image/jpeg;q=0.9", OVERLAY_WEBP),
        ("image/jpeg, */*;q=0.1", JSON),
        ("image/*", PNG),
        ("application/geo+json", GEOJSON),
        ("application/x-npy", NPY),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", JSON),
    ],
)
def test_the_header_alone(accept, expected):
    assert choose_format(None, accept) is expected


@pytest.mark.parametrize(
    "accept", ["text/html", "image/avif", "application/xml", "application/json;q=0", "image/png;q=nan", "image/png;q=9", ",", "*/*;q=0"]
)
def test_nothing_fits(accept):
    with pytest.raises(NotAcceptable, match=r"application/json, image/png"):
        choose_format(None, accept)


def test_unknown_name():
    with pytest.raises(InvalidRequest, match=r"'PNG' is not known; use one of json, png, overlay"):
        choose_format("PNG", None)


def test_the_overlay_is_asked_for_by_name_only():
    assert not OVERLAY.negotiable
