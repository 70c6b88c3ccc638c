"""A visit: where photos come from, how long it takes, what is said when something is in the way."""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image
from playwright.sync_api import expect

from deployments.api import create_app
from deployments.config import ModelEntry
from models.bundle import save_bundle
from models.label_set import LabelSet
from models.spec import Architecture, SegmenterSpec
from models.unet import build_network
from tests.deployments.conftest import encode_photo, serving
from tests.deployments.image_files import saved
from tests.deployments.page.conftest import DESKTOP, MAX_PIXELS, PHONE, answered, api_of, give, viewer, visit

pytestmark = pytest.mark.browser


@pytest.fixture
def report(capsys, record_property) -> Callable[[str, float], None]:
    """Writes a measured time, in seconds, beside the tests' dots; nothing is asserted of it."""

    def write(name: str, duration_s: float) -> None:
        record_property(name, duration_s)
        with capsys.disabled():
            print(f"\n{name}: {duration_s:.2f} s", end="", flush=True)

    return write


def test_the_first_sight(browser, page_address, service, report):
    begin = time.perf_counter()
    with visit(browser, page_address) as page:
        expect(page.get_by_text("Upload", exact=True).first).to_be_visible()
        report("first sight", time.perf_counter() - begin)


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_real_photo_gets_its_answer(browser, page_address, service, real_data, viewport, report):
    with visit(browser, page_address, viewport) as page:
        for path in sorted((real_data / "photos").iterdir()):
            begin = time.perf_counter()
            requests.post(f"{service}/v1/segment", data=path.read_bytes(), timeout=30).raise_for_status()
            api_s, begin = time.perf_counter() - begin, time.perf_counter()
            give(page, path)
            answered(page, path.name)
            report(f"{path.name} on the page, over the API's own {api_s:.2f} s", time.perf_counter() - begin - api_s)
            assert viewer(page, "viewer.find('.photo').naturalWidth") == viewer(page, "viewer.layers.width") <= 1600
            assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
            page.get_by_role("button", name=f"Remove {path.name}").first.click()
            expect(page.locator(".stage")).to_have_count(0)


def test_a_sample_is_one_click_away(page):
    page.get_by_role("button", name="Bottles").click()
    answered(page, "bottles.jpg")


def test_the_camera_gives_a_photo(page):
    page.get_by_text("Camera", exact=True).click()
    page.wait_for_function("() => [...document.querySelectorAll('video')].some(each => each.readyState >= 2 && each.videoWidth)")
    page.get_by_role("button", name="Take Photo").click()
    answered(page, "camera.jpg")


def test_several_photos_are_answered_each(page, pixels):
    photos = [(f"{number}.png", encode_photo(np.roll(pixels, 20 * number, axis=1), "PNG")) for number in range(3)]
    give(page, *photos, ("broken.jpg", b"no image"))
    strip = page.locator(".strip button")
    expect(strip).to_have_count(4)
    expect(strip.filter(has_text="objects")).to_have_count(3)
    expect(strip.filter(has_text="broken.jpg")).to_contain_text("Not a readable image")
    strip.filter(has_text="2.png").click()
    answered(page, "2.png")
    expect(strip.filter(has_text="2.png")).to_have_attribute("aria-current", "true")


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("notes.jpg", b"These are notes.", "Not a readable image.*no image in a known format"),
        ("cut.jpg", encode_photo(np.zeros((90, 120, 3), np.uint8))[:-200], "Not a readable image"),
        ("wide.png", saved(Image.new("1", (5000, MAX_PIXELS // 5000 + 1)), "PNG"), "Too large.*pixels"),
        ("heavy.jpg", b"\xff\xd8" + bytes(5 * 2**20), "must be 4.*MB or smaller"),
    ],
)
def test_what_is_no_photo_for_the_service_is_told_in_words(page, name, data, words):
    give(page, (name, data))
    expect(page.get_by_text(re.compile(words, re.DOTALL)).first).to_be_visible()


def test_a_busy_service_is_asked_again(browser, page_address, bundle_folder, service_port, photo):
    api = api_of(bundle_folder, num_places=1)
    with serving(create_app(api), service_port), visit(browser, page_address) as page:
        with api.models.default.admission.place(bulk=False):
            give(page, ("late.jpg", photo))
            expect(page.get_by_text(re.compile(r"busy.*trying again in \d+ s"))).to_be_visible()
        answered(page, "late.jpg")


def test_a_service_that_is_away_is_waited_for(browser, page_address, page_api, service_port, photo):
    with visit(browser, page_address) as page:
        expect(page.get_by_text("The service does not answer")).to_be_visible()
        with serving(create_app(page_api), service_port):
            give(page, ("before.jpg", photo))
            answered(page, "before.jpg")
        give(page, ("after.jpg", photo))
        page.locator(".strip button", has_text="after.jpg").click()
        expect(page.get_by_text(re.compile("does not answer.*trying again"))).to_be_visible()
        with serving(create_app(page_api), service_port):
            answered(page, "after.jpg")


def test_a_photo_with_nothing_in_it(browser, page_address, service_port, pet_labels, tmp_path, photo):
    api = api_of(save_biased_bundle(tmp_path / "bundle", pet_labels, pet_labels.background))
    with serving(create_app(api), service_port), visit(browser, page_address) as page:
        give(page, ("empty.jpg", photo))
        answered(page, "empty.jpg")
        known = [name for name in pet_labels.names if name != "background"]
        expect(page.get_by_text(f"No objects found. The model knows: {', '.join(known)}.")).to_be_visible()


def save_biased_bundle(folder: Path, labels: LabelSet, index: int) -> Path:
    """A bundle that sees nothing but this class."""
    spec = SegmenterSpec(Architecture(encoder="mobilenet_v2"), labels, (64, 64))
    network = build_network(spec.architecture, len(labels))
    network.network.segmentation_head[0].bias.data[index] = 1000
    return save_bundle(folder, network, spec, {"data": "none"})


def test_one_of_several_models_is_chosen(browser, page_address, service_port, pet_labels, tmp_path, photo):
    pets = save_biased_bundle(tmp_path / "pets", pet_labels, 0)
    cans = save_biased_bundle(tmp_path / "cans", LabelSet.from_names(["background", "can"]), 1)
    api = api_of(pets, models={"cans": ModelEntry(model_uri=str(cans))})
    with serving(create_app(api), service_port), visit(browser, page_address) as page:
        give(page, ("both.jpg", photo))
        answered(page, "both.jpg")
        expect(page.locator(".legend tbody")).to_contain_text("pet")
        page.get_by_role("combobox", name="Model").click()
        page.get_by_role("option", name="cans").click()
        expect(page.locator(".legend tbody")).to_contain_text("can")
        expect(page.get_by_text(re.compile("Model cans@.*1 class"))).to_be_visible()


def test_nothing_that_was_given_is_kept(browser, page_address, service, page_home, photo):
    with visit(browser, page_address) as page:
        give(page, ("private.jpg", photo + bytes(3 * 2**20)))  # large enough for a form's file on disk
        answered(page, "private.jpg")
        written = [path for path in page_home.rglob("*") if path.is_file() and photo[:500] in path.read_bytes()]
        assert written == []
    with visit(browser, page_address) as page:
        expect(page.locator("input[type=file]")).to_be_attached()
        assert page.get_by_text("private.jpg").count() == 0


def test_the_picture_of_the_page(browser, page_address, service_port, bundle_folder, tmp_path):
    """`make picture` lets a trained model answer and keeps the picture for the README."""
    model, target = os.environ.get("PAGE_MODEL") or bundle_folder, Path(os.environ.get("PAGE_PICTURE", tmp_path / "page.png"))
    with serving(create_app(api_of(model)), service_port), visit(browser, page_address) as page:
        page.get_by_role("button", name="Cans and fruit").click()
        answered(page, "cans-and-fruit.jpg")
        page.mouse.move(0, 0)
        with Image.open(io.BytesIO(page.screenshot())) as picture:
            levels = [round(round(value * 63 / 255) * 255 / 63) for value in range(256)]  # six bits, whose files are half as long
            picture.convert("RGB").point(levels * 3).save(target, optimize=True)
    with Image.open(target) as picture:
        assert picture.size == (DESKTOP["width"], DESKTOP["height"])
    assert target.stat().st_size < 400_000
