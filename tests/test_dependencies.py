"""What is installed: pinned, and at least the versions below which known holes are open."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
LINES = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
PINS = {re.sub(r"[-_.]+", "-", name).lower(): Version(version) for name, version in LINES}
FLOORS = {
    "pillow": "13.0.0",  # JPEG heap overflow before it
    "torch": "2.10",
    "mlflow": "3.17.2",
    "starlette": "1.3.1",
    "python-multipart": "0.0.32",
    "h11": "0.16",
    "aiohttp": "3.14.4",
    "urllib3": "2.6.3",
    "protobuf": "6.33.5",
}


@pytest.mark.parametrize("package", FLOORS)
def test_is_not_older_than_its_floor(package):
    assert PINS[package] >= Version(FLOORS[package])


def test_everything_that_the_project_asks_for_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.sub(r"[-_.]+", "-", Requirement(line).name).lower() for line in asked}
    assert names - set(PINS) == set()


def test_every_package_is_pinned_once():
    assert len(LINES) == len(PINS)
