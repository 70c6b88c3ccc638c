"""The photos of a visit, with no browser: what is sent, and what is known of each afterwards."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette

from deployments.api import create_app
from deployments.client import Client, ServiceError
from deployments.page_parts import components
from deployments.page_parts.photos import Desk, Photo, Source, shrink, trouble_of
from models.image import ImageLimits
from tests.deployments.conftest import api_of, encode_photo, serving
from tests.deployments.page.conftest import wait_until

LIMITS = ImageLimits(200_000, 1_000_000)


class Counted:
    """Counts the requests that `app` gets."""

    def __init__(self, app: Starlette) -> None:
        self.app, self.num_requests = app, 0

    async def __call__(self, scope, receive, send) -> None:
        self.num_requests += scope["type"] == "http"
        await self.app(scope, receive, send)


@pytest.fixture
def counted(api) -> Counted:
    return Counted(create_app(api))


@pytest.fixture
def desk(counted):
    with serving(counted) as url, Client(url, retry=False) as client:
        yield Desk(client, None, LIMITS)


def finish(desk: Desk) -> None:
    def is_done() -> bool:
        desk.move_on()
        return not desk.under_way

    wait_until(is_done)


def only(desk: Desk) -> Photo:
    (photo,) = desk.photos.values()
    return photo


def test_a_photo_costs_the_service_one_request(desk, counted, photo):
    desk.lay([Source("1", "a.jpg", photo)])
    finish(desk)
    desk.lay([Source("1", "a.jpg", photo)])
    finish(desk)
    assert only(desk).answer["size"] == [90, 120]
    assert only(desk).took_s > 0
    assert counted.num_requests == 1


@pytest.mark.parametrize(
    ("data", "title"),
    [
        (b"", "Not a readable image"),
        (b"notes", "Not a readable image"),
        (encode_photo(np.zeros((1001, 1000), np.uint8)), "Too large"),
        (b"x" * 200_001, "Too large"),
    ],
)
def test_what_the_service_would_refuse_is_not_sent(desk, counted, data, title):
    desk.lay([Source("1", "a.jpg", data)])
    finish(desk)
    assert only(desk).trouble.title == title
    assert counted.num_requests == 0


def test_the_photo_is_there_to_show_before_its_answer(served, config, photo):
    one = api_of(served, config, num_places=1)
    with serving(create_app(one)) as url, Client(url, retry=False) as client:
        desk = Desk(client, None, LIMITS)
        desk.lay([Source("1", "a.jpg", photo)])
        with one.models.default.admission.place(bulk=False):
            wait_until(lambda: desk.move_on() and only(desk).preview is not None)
            assert only(desk).answer is None
        finish(desk)


def test_a_photo_that_was_taken_away_is_forgotten(desk, photo):
    desk.lay([Source("1", "a.jpg", photo), Source("2", "b.jpg", photo)])
    desk.move_on()
    desk.lay([Source("2", "b.jpg", photo)])
    finish(desk)
    assert only(desk).source.name == "b.jpg"


def test_a_busy_service_is_asked_again_when_it_said(served, config, photo):
    one = api_of(served, config, num_places=1)
    with serving(create_app(one)) as url, Client(url, retry=False) as client:
        desk = Desk(client, None, LIMITS)
        desk.lay([Source("1", "a.jpg", photo)])
        with one.models.default.admission.place(bulk=False):
            wait_until(lambda: desk.move_on() and only(desk).trouble)
            assert only(desk).trouble.title == "The service is busy"
            assert only(desk).wait_s == 1
        finish(desk)
    assert only(desk).trouble is None


def test_a_large_photo_is_shown_smaller():
    pixels = np.asarray(Image.new("RGB", (3200, 100)))
    assert shrink(pixels).shape == (50, 1600, 3)
    assert shrink(pixels[:, :1600]).shape == (100, 1600, 3)


def test_a_mistake_of_the_page_is_not_told_as_the_services():
    assert not trouble_of(ServiceError("the key is not known", 401)).passes
    with pytest.raises(ZeroDivisionError):
        trouble_of(ZeroDivisionError())


@pytest.mark.parametrize(("model", "least"), [({"instances": True}, 0.3), ({"instances": False}, 0.5), ({}, 0.5)])
def test_single_objects_are_shown_from_a_lower_score_on_unless_the_visitor_chose_one(model, least, monkeypatch):
    monkeypatch.setattr(components.st, "session_state", {})
    assert components.least_score(model) == least
    monkeypatch.setattr(components.st, "session_state", {"viewer": {"least_score": 0.0}})
    assert components.least_score(model) == 0
