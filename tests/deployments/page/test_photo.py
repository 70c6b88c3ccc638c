"""One photo: what stands over it, what is said of it, what can be taken along."""

from __future__ import annotations

import base64
import io
import re

import cv2
import numpy as np
import pytest
import requests
from PIL import Image
from playwright.sync_api import expect

from deployments.page_parts.downloads import TITLES
from tests.deployments.conftest import encode_photo
from tests.deployments.page.conftest import answered, class_map_of, colored, give, viewer

pytestmark = pytest.mark.browser
PET, BACKGROUND = 0, 1


def segment(service: str, photo: bytes, **wishes: str) -> requests.Response:
    return requests.post(f"{service}/v1/segment", params=wishes, data=photo, timeout=30)


@pytest.fixture
def shown(page, photo):
    """The page with one small photo and its answer."""
    give(page, ("shelf.jpg", photo))
    answered(page, "shelf.jpg")
    page.get_by_role("slider", name="sure").press("Home")  # an untrained model is sure of nothing
    expect(page.get_by_text("Files hold all objects.")).to_be_visible()
    return page


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_it_stands_upright_and_each_pixel_has_the_services_class(page, service, pixels, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = encode_photo(pixels, exif=exif)
    give(page, ("turned.jpg", turned))
    answered(page, "turned.jpg")
    mask = np.array(Image.open(io.BytesIO(segment(service, turned, format="png").content)))
    assert mask.shape == ((120, 90) if orientation in (6, 8) else (90, 120))
    assert (class_map_of(page, BACKGROUND) == mask).all()
    picture = Image.open(io.BytesIO(base64.b64decode(viewer(page, "viewer.find('.photo').src").split(",")[1])))
    upright = np.rot90(pixels, {1: 0, 3: 2, 6: 3, 8: 1}[orientation])
    assert np.abs(np.asarray(picture, int) - upright).mean() < 5


def test_the_legend_counts_objects_and_area_as_the_service_does(shown, service, photo):
    said = segment(service, photo).json()
    classes = {each["name"]: each["share"] for each in said["classes"]}
    for name in {each["class"] for each in said["objects"]}:
        number = sum(each["class"] == name for each in said["objects"])
        row = shown.locator(".legend tr", has=shown.get_by_role("checkbox", name=name))
        share = "<0.1" if classes[name] < 0.001 else f"{100 * classes[name]:.1f}"
        expect(row).to_contain_text(f"{name}{number}{share}")
    expect(shown.locator(".count")).to_have_text(f"{len(said['objects'])} objects")
    expect(shown.locator(".objects button")).to_have_count(len(said["objects"]))


def test_only_objects_that_are_sure_enough_are_shown_counted_and_taken_along(shown, service, photo):
    scores = sorted(each["score"] for each in segment(service, photo).json()["objects"])
    least = int(100 * scores[0] + 1) / 100
    number = sum(score >= least for score in scores)
    assert 0 < number < len(scores)
    shown.get_by_role("slider", name="sure").fill(str(round(100 * least)))
    expect(shown.locator(".count")).to_have_text(f"{number} objects")
    expect(shown.locator(".more")).to_have_text(f"Hidden, because less sure: {len(scores) - number}.")
    expect(shown.get_by_text(f"at least {least:.0%} sure.")).to_be_visible()  # the server knows
    kept = segment(service, photo, min_score=str(least))
    with shown.expect_download() as started:
        shown.get_by_role("button", name=TITLES["json"], exact=True).click()
    assert started.value.path().read_bytes() == kept.content
    with shown.expect_download() as started:
        shown.get_by_role("button", name="Counts, CSV").click()
    rows = [line.split(",") for line in started.value.path().read_text().splitlines()[1:]]
    assert sum(int(count) for _, _, count, _ in rows) == number
    shares = {each["name"]: each["share"] for each in kept.json()["classes"]}
    assert all(float(share) == pytest.approx(shares[name], abs=1e-4) for _, name, _, share in rows if name != "background")


def test_a_class_is_hidden_and_shown_again_without_a_word_to_the_server(shown):
    shown.evaluate(
        "() => { window.sent = 0; const { send } = WebSocket.prototype; WebSocket.prototype.send = function (...all) { sent++; send.apply(this, all); } }"
    )
    pets = viewer(shown, f"[...viewer.layers.map].filter(at => at && viewer.objects[at - 1].class_index === {PET}).length")
    before = colored(shown, ".tint")
    assert 0 < pets < before
    box = shown.get_by_role("checkbox", name="pet")
    box.uncheck()
    assert colored(shown, ".tint") == before - pets
    box.check()
    assert colored(shown, ".tint") == before
    shown.get_by_role("button", name="Hide all").click()
    assert colored(shown, ".tint") == colored(shown, ".lines") == 0
    assert shown.evaluate("sent") == 0


def test_an_object_says_class_and_confidence_to_the_mouse_and_to_the_keyboard(shown, service, photo):
    largest = segment(service, photo).json()["objects"][0]
    words = f"confidence {round(100 * largest['score'])}"
    x, y = viewer(shown, "[viewer.layers.places[0].x / viewer.layers.width, viewer.layers.places[0].y / viewer.layers.height]")
    frame = shown.locator(".stage").bounding_box()
    tip = shown.locator(".tip")
    shown.mouse.move(frame["x"] + frame["width"] * x, frame["y"] + frame["height"] * y)
    expect(tip).to_contain_text(f"{largest['class']} 1{words}")
    shown.mouse.move(5, 5)
    expect(tip).to_be_empty()
    first = shown.locator(".objects button").first
    first.focus()
    expect(tip).to_contain_text(words)
    assert colored(shown, ".spot") > 0
    shown.keyboard.press("Enter")
    expect(first).to_have_attribute("aria-pressed", "true")
    shown.keyboard.press("Escape")
    expect(first).to_have_attribute("aria-pressed", "false")


def test_the_views_are_chosen_with_the_keyboard(shown):
    shown.get_by_role("radio", name="Overlay").focus()
    shown.keyboard.press("ArrowRight")
    divider = shown.get_by_role("slider", name="Divider")
    expect(divider).to_be_visible()
    divider.focus()
    shown.keyboard.press("Home")
    assert viewer(shown, "getComputedStyle(viewer.find('.layers')).clipPath") == "inset(0px 0px 0px 0%)"
    shown.keyboard.press("End")
    assert viewer(shown, "getComputedStyle(viewer.find('.layers')).clipPath") == "inset(0px 0px 0px 100%)"
    shown.get_by_role("radio", name="Compare").focus()
    shown.keyboard.press("ArrowLeft")
    opacity = shown.get_by_role("slider", name="Opacity")
    opacity.focus()
    shown.keyboard.press("Home")
    assert viewer(shown, "viewer.find('.tint').style.opacity") == "0"
    signs = colored(shown, ".signs")
    shown.get_by_role("checkbox", name="Names").uncheck()
    assert signs > colored(shown, ".signs") == 0


def test_the_confidence_is_fetched_when_it_is_wanted(shown, service, photo):
    assert viewer(shown, "viewer.find('.heat').src") == ""
    shown.locator(".views label", has_text="Confidence").click()
    heat = shown.locator(".heat")
    expect(heat).to_have_attribute("src", re.compile("^data:"))
    expect(heat).to_be_visible()
    expect(shown.locator(".words")).to_be_hidden()
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(heat.get_attribute("src").split(",")[1]))), int)
    said = np.asarray(Image.open(io.BytesIO(segment(service, photo, format="confidence").content)))
    viridis = cv2.applyColorMap(said, cv2.COLORMAP_VIRIDIS)[..., ::-1]
    assert np.abs(drawn - viridis).mean() < 8  # it is a JPEG


def test_every_format_can_be_taken_along(shown, service, photo):
    formats = [each["name"] for each in requests.get(f"{service}/v1/model", timeout=5).json()["formats"]]
    for name in formats:
        shown.wait_for_timeout(120)  # Chromium drops what is over ten downloads in a second
        with shown.expect_download() as started:
            shown.get_by_role("button", name=TITLES[name], exact=True).click()
        assert started.value.suggested_filename.startswith(f"shelf-{name}.")
        assert started.value.path().read_bytes() == segment(service, photo, format=name, name="shelf.jpg").content, name
