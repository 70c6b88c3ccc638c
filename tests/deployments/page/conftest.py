"""A real browser before the page of a real `streamlit run`, which asks the real service."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import requests
from playwright.sync_api import Browser, Page, expect, sync_playwright

from deployments.api import Api, create_app
from deployments.config import ModelEntry
from tests.deployments.conftest import serving
from tests.deployments.test_several_models import api_with

ROOT = Path(__file__).parents[3]
COMMAND = re.search(r"streamlit run deployments/page.py http\S+", (ROOT / "README.md").read_text())[0]
FLAGS = [  # a browser that starts as root, asks nobody on the network, and has a camera with a moving picture
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
]
DESKTOP, PHONE = {"width": 1400, "height": 1000}, {"width": 390, "height": 844}
PATIENCE_MS = 15_000
MAX_PIXELS = 20_000_000
expect.set_options(timeout=PATIENCE_MS)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def service_port() -> int:
    return free_port()


@pytest.fixture(scope="session")
def page_home(tmp_path_factory) -> Path:
    """Where the page's process would put files of its own."""
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="session")
def page_address(service_port: int, page_home: Path) -> Iterator[str]:
    """The page of a real `streamlit run`, which asks the service at `service_port`."""
    port = free_port()
    command = [*shlex.split(COMMAND.replace(":8000", f":{service_port}")), "--server.port", str(port)]
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TMPDIR": str(page_home),
        "HOME": str(page_home),
    }
    log = page_home.with_suffix(".log")
    with log.open("wb") as file, subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file) as process:
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(f"{address}/_stcore/health"), lambda: log.read_text())
        yield address
        process.terminate()
    assert "Traceback" not in log.read_text()


def answers(address: str) -> bool:
    try:
        return requests.get(address, timeout=5).ok
    except requests.RequestException:
        return False


def wait_until(holds, explain=lambda: "") -> None:
    deadline = time.monotonic() + PATIENCE_MS / 1e3
    while not holds():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.05)


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium is installed; Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def page_api(bundle_folder: Path) -> Api:
    return api_of(bundle_folder)


def api_of(model_uri: Path | str, models: dict[str, ModelEntry] | None = None, *, num_places: int = 64) -> Api:
    """The interface with room for real photos."""
    return api_with(str(model_uri), models or {}, max_waiting=num_places, max_body_bytes=4 * 2**20, max_pixels=MAX_PIXELS)


@pytest.fixture
def service(page_api: Api, service_port: int) -> Iterator[str]:
    with serving(create_app(page_api), service_port) as address:
        yield address


@contextmanager
def visit(browser: Browser, address: str, viewport: dict = DESKTOP) -> Iterator[Page]:
    """The page as a new visitor opens it; no script of it may fail, and nothing of it may come from elsewhere."""
    with browser.new_context(viewport=viewport, accept_downloads=True, permissions=["camera"]) as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        failures = []
        page.on("pageerror", lambda error: failures.append(error))
        page.on("request", lambda request: re.match("(http|ws)s?://(?!127.0.0.1)", request.url) and failures.append(request.url))
        page.goto(address)
        yield page
        assert failures == []


@pytest.fixture
def page(browser: Browser, page_address: str, service: str) -> Iterator[Page]:
    with visit(browser, page_address) as page:
        yield page


def give(page: Page, *files: tuple[str, bytes] | Path) -> None:
    """Chooses the files in the upload's dialog."""
    chosen = [file if isinstance(file, Path) else {"name": file[0], "mimeType": "image/jpeg", "buffer": file[1]} for file in files]
    page.locator("input[type=file]").set_input_files(chosen)


FIND_VIEWER = "[...document.querySelectorAll('*')].map(each => each.shadowRoot?.viewer).find(Boolean)"


def answered(page: Page, name: str) -> None:
    """Returns once the photo is shown with its answer."""
    expect(page.get_by_text(re.compile(rf"{re.escape(name)}.*answered in"))).to_be_visible()
    page.wait_for_function(
        f"name => {{ const viewer = {FIND_VIEWER}; return viewer?.data.name === name && viewer.shown === viewer.data.id; }}", arg=name
    )


def viewer(page: Page, expression: str) -> object:
    """The value of a JavaScript expression about `viewer`, the component's object."""
    return page.evaluate(f"() => {{ const viewer = {FIND_VIEWER}; return {expression}; }}")


def class_map_of(page: Page, background: int) -> np.ndarray:
    """The class of each pixel as the viewer knows it, (h, w)."""
    width, height, classes = viewer(
        page, "[viewer.layers.width, viewer.layers.height, [...viewer.layers.map].map(at => at ? viewer.objects[at - 1].class_index : -1)]"
    )
    found = np.array(classes).reshape(height, width)
    return np.where(found < 0, background, found)


def colored(page: Page, layer: str) -> int:
    """How many pixels of a layer are not transparent."""
    canvas = f"viewer.find('{layer}')"
    data = f"{canvas}.getContext('2d').getImageData(0, 0, {canvas}.width, {canvas}.height).data"
    return viewer(page, f"{data}.reduce((sum, value, at) => sum + (at % 4 === 3 && value > 0), 0)")
