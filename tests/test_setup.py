"""What `make` says where it cannot go on: one sentence, with the remedy."""

import os
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def checkout(tmp_path):
    """A folder with setup.sh alone, and a `bin` whose commands come before the machine's."""
    shutil.copy(ROOT / "setup.sh", tmp_path)
    (tmp_path / "bin").mkdir()
    return tmp_path


def add_command(checkout: Path, name: str, script: str) -> None:
    path = checkout / "bin" / name
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)


def run_setup(checkout: Path, path: str) -> str:
    bash = shutil.which("bash")
    done = subprocess.run([bash, "setup.sh"], cwd=checkout, env={"PATH": path}, capture_output=True, text=True)
    assert done.returncode == 1
    return done.stderr


def test_too_little_disk(checkout):
    add_command(checkout, "python3.11", "exit 0")
    add_command(checkout, "df", "echo header; echo /dev/disk 100 50 3145728 50% /")
    said = run_setup(checkout, f"{checkout / 'bin'}:{os.environ['PATH']}")
    assert said == "error: 3 GB are free here and the installation needs 12; free some space and run this again\n"


def test_no_python(checkout):
    (checkout / "bin" / "dirname").symlink_to(shutil.which("dirname"))
    assert "python3.11 is not here; install it" in run_setup(checkout, str(checkout / "bin"))


def test_an_installation_that_fails_without_a_compiler(checkout):
    add_command(
        checkout,
        "python3.11",
        'mkdir -p .venv/bin; printf "#!/bin/bash\\necho no wheel >&2; exit 1" > .venv/bin/python; chmod +x .venv/bin/python',
    )
    add_command(checkout, "df", "echo header; echo /dev/disk 100 50 99999999 50% /")
    for name in ("dirname", "awk", "mkdir", "chmod", "cat"):
        (checkout / "bin" / name).symlink_to(shutil.which(name))
    said = run_setup(checkout, str(checkout / "bin"))
    assert "no wheel" in said
    assert "no C compiler is here; install one" in said


def test_a_port_in_use(tmp_path):
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # in use already, which does as well
            other.bind(("127.0.0.1", 8000))
            other.listen()
        environment = os.environ | {"MASKWORKS_HOME": str(tmp_path)}
        done = subprocess.run([sys.executable, "demo.py"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: port 8000, for the API, is in use; stop what listens there and run this again\n"


def test_data_that_is_not_there(tmp_path):
    environment = os.environ | {"MASKWORKS_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "demo.py", "--data", "coco:/nowhere"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: /nowhere does not exist")
    assert "Traceback" not in done.stderr
