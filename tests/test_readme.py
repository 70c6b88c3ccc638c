"""What the README shows is run, block by block, in its order; only sizes are made small."""

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
import requests
import tyro
from PIL import Image

from deployments.config import AppConfig
from pipelines.config import TrainConfig
from pipelines.data.scenes import draw_scene, write_scenes

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SECTIONS = {part.split("\n", 1)[0]: part for part in README.split("\n## ")[1:]}
SMALLER = {r"--epochs \d+": "--epochs 1 --input-size 64 64", r"ray start": "ray start --block"}
SERVERS = {  # started and left running until the section ends, once they answer here
    "mlflow server": "http://127.0.0.1:5000/health",
    "serve run": "http://127.0.0.1:8000/readyz",
    "ray start": "http://127.0.0.1:8265/api/version",
}
PATIENCE_S = 300
STOP_S = 20
NOT_YET = "No available agent to submit job, please try again later"  # what Ray says to who types faster than a cluster starts


def commands(section: str, language: str) -> list[str]:
    blocks = re.findall(rf"```{language}\n(.*?)```", SECTIONS[section], re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]


class Shell:
    """Runs README lines as a user's terminal would, and ends what it started."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.servers: list[subprocess.Popen] = []

    def type(self, line: str) -> str:
        """Runs a line to its end, or until the server that it starts answers; what it printed."""
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            self.environment[name] = value
            return ""
        for pattern, replacement in SMALLER.items():
            line = re.sub(pattern, replacement, line)
        ready = next((address for server, address in SERVERS.items() if server in line), None)
        return self._serve(line, ready) if ready else self._run(line)

    def _run(self, line: str) -> str:
        deadline = time.monotonic() + PATIENCE_S
        done = self._end_of(line)
        while NOT_YET in done.stdout and time.monotonic() < deadline:
            time.sleep(1)
            done = self._end_of(line)
        assert done.returncode == 0, f"{line}\n{done.stdout}"
        return done.stdout

    def _end_of(self, line: str) -> subprocess.CompletedProcess:
        piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.run(["bash", "-c", line], env=self.environment, cwd=ROOT, text=True, timeout=PATIENCE_S, **piped)

    def _serve(self, line: str, ready: str) -> str:
        log = Path(self.environment["MASKWORKS_HOME"]) / f"server-{len(self.servers)}.log"
        with log.open("w") as file:
            server = subprocess.Popen(
                ["bash", "-c", line], env=self.environment, cwd=ROOT, stdout=file, stderr=file, start_new_session=True
            )
        self.servers.append(server)
        deadline = time.monotonic() + PATIENCE_S
        while not answers(ready):
            assert server.poll() is None and time.monotonic() < deadline, f"{line}\n{log.read_text()}"
            time.sleep(0.5)
        return ""

    def stop(self) -> None:
        for server in reversed(self.servers):
            server.terminate()
            with suppress(subprocess.TimeoutExpired):
                server.wait(STOP_S)
            with suppress(ProcessLookupError):  # what is left of its group
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        self.servers.clear()
        deadline = time.monotonic() + PATIENCE_S
        while any(map(answers, SERVERS.values())):  # replicas and proxies end a moment after their cluster
            assert time.monotonic() < deadline
            time.sleep(0.5)


def answers(address: str) -> bool:
    try:
        return requests.get(address, timeout=5).status_code in (200, 401)  # Ray's dashboard asks for its token
    except requests.RequestException:
        return False


@pytest.fixture
def shell(tmp_path):
    taken = [address for address in SERVERS.values() if answers(address)]
    assert not taken, f"{taken} answer already; stop what serves there, the README's commands need these ports"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    photo = tmp_path / "photo.jpg"
    Image.fromarray(draw_scene(3).image).save(photo)
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
        "DATA": str(write_scenes(tmp_path / "data", num_train=24, num_val=4)),
        "PHOTO": str(photo),
        "MASKWORKS_HOME": str(tmp_path / "home"),
    }
    (tmp_path / "home").mkdir()
    # Ray of this test's own: no cluster that ran here before is found, and none is left to be found. A short path, for sockets.
    with tempfile.TemporaryDirectory(prefix="readme-", ignore_cleanup_errors=True) as environment["RAY_TMPDIR"]:
        terminal = Shell(environment)
        yield terminal
        terminal.stop()


@pytest.mark.ray
def test_training_evaluating_and_serving_work_as_shown(shell, tmp_path):
    for line in [*commands("Train on your own photos", "bash"), *commands("Promote", "bash")]:
        shell.type(line)
    shell.stop()
    said = [shell.type(re.sub(r"(--out(put)?) ", rf"\1 {tmp_path}/", line)) for line in commands("Serve", "bash")]
    shell.stop()
    exported, _ = (shell.type(line) for line in commands("Engines", "bash"))
    assert "pixels of the same class" in exported
    assert '"model_version":"shelf/1"' in said[1]
    assert any("foreground_iou" in each for each in said)
    assert '"name":"shelf"' in said[-1]
    assert len(list((tmp_path / "masks").iterdir())) == 4
    for name in ("mask.png", "overlay.png", "cans.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.size == (320, 240)


@pytest.mark.ray
def test_a_job_on_a_running_cluster_and_a_deployment_work_as_shown(shell):
    said = {line.split(" --")[0]: shell.type(line) for line in commands("On a running Ray cluster", "bash")}
    assert "registered scenes version 1" in said["ray job submit"]
    deadline = time.monotonic() + PATIENCE_S
    while "status: RUNNING" not in (status := shell.type("serve status")):
        assert time.monotonic() < deadline, status
        time.sleep(1)
    assert "UNHEALTHY" not in status
    photo = Path(shell.environment["PHOTO"]).read_bytes()
    assert requests.post("http://127.0.0.1:8000/v1/segment", data=photo, timeout=30).json()["model_version"] == "scenes/1"


def test_the_training_for_gpu_nodes_is_one_that_the_command_line_takes():
    (line,) = (line for line in commands("On a running Ray cluster", "console") if "ray job submit" in line)
    config = tyro.cli(TrainConfig, args=shlex.split(line)[shlex.split(line).index("pipelines.train") + 1 :])
    assert config.scale.use_gpu
    assert config.scale.num_workers % 8 == 0


def test_the_pages_files_and_commands_exist():
    for path in re.findall(r"`((?:models|pipelines|deployments|benchmarks)/\S*|cluster\.yaml)`", README):
        assert (ROOT / path).exists(), path
    assert (ROOT / re.search(r"!\[.*?\]\((.*?)\)", README)[1]).is_file()
    for module in set(re.findall(r"python -m (\S+)", README)):
        path = ROOT / module.strip("`").replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module
    for target in set(re.findall(r"make ([a-z-]+)", README)) - {"it", "sure"}:
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target


def test_serve_runs_argument_is_one_that_the_application_takes():
    for name in [*re.findall(r"build_app (\w+)=", README), "placement"]:
        assert name in AppConfig.model_fields
