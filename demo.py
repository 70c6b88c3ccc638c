"""The main job on one machine: MLflow, Ray, training, registry, serving, one picture, the page. Ctrl-C stops all that it started.

Each step is a command that you could type yourself; it is printed before it runs.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import requests
import tyro
from PIL import Image

from models.home import home
from pipelines.data.records import InvalidData
from pipelines.data.scenes import draw_scene
from pipelines.data.sources import read_data

API, PAGE, MLFLOW, DASHBOARD, RAY = 8000, 8501, 5000, 8265, 6380  # ports
OUTPUT = Path("demo-output")
_NEEDED_GB = 2
_PATIENCE_S = 180  # for a server to answer
_STOP_S = 8  # for a process to end by itself
_UNSEEN_SCENE = 7  # val's and train's scenes have seeds of their own
# A short training has no time for the default's strong augmentation.
_SMALL = "--encoder mobilenet_v2 --decoder-channels 128 --learning-rate 2e-3 --scale 0.7 1.5"
# Small enough for some minutes on two cores; a longer training is `python -m pipelines.train`.
_QUICK = {
    "scenes": f"{_SMALL} --copy-paste 0 --input-size 96 128 --epochs 14 --global-batch-size 8 --validate-every 7",
    "oxford_pets": f"{_SMALL} --input-size 128 128 --epochs 40 --global-batch-size 8 --validate-every 8",
    "coco": f"{_SMALL} --input-size 160 160 --epochs 16 --global-batch-size 8 --validate-every 4",
    "masks": f"{_SMALL} --input-size 256 256 --epochs 40 --global-batch-size 8 --validate-every 8",
}


class CannotRun(Exception):
    """What is in the way, in one sentence."""


@dataclass(frozen=True)
class DemoConfig:
    """Train, register and serve a model on this machine."""

    data: str = "scenes"
    """oxford_pets:PATH, coco:PATH, masks:PATH or scenes."""
    accept: str = ""
    """Errors in the data, by the doctor's names and separated by commas, to train in spite of; the files in question are left out."""
    once: bool = False
    """Stop after the picture, instead of serving on."""


def main(config: DemoConfig) -> None:
    """The steps in order."""
    kind = config.data.partition(":")[0]
    check_machine()
    picture = sample_picture(config.data)
    OUTPUT.mkdir(exist_ok=True)
    tracking_uri = f"http://127.0.0.1:{MLFLOW}"
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": tracking_uri,
        "RAY_ADDRESS": f"127.0.0.1:{RAY}",
        "RAY_AUTH_MODE": "token",  # else anyone who reaches it could run code in the cluster
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",  # safe here: no stage blocks the event loop
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes that nothing here needs
    }
    with ExitStack() as started:
        started.enter_context(running("mlflow", mlflow_command(), environment, until=f"{tracking_uri}/health"))
        subprocess.run(["ray", "get-auth-token", "--generate"], env=environment, check=True, capture_output=True)
        folder = started.enter_context(TemporaryDirectory(prefix="maskworks-", ignore_cleanup_errors=True))
        started.enter_context(
            running("ray", ray_command(folder), environment, until=f"http://127.0.0.1:{DASHBOARD}/api/version", ending=signal.SIGTERM)
        )
        accept = f" --accept {shlex.quote(config.accept)}" if config.accept else ""
        run(f"python -m pipelines.train --data {shlex.quote(config.data)} --alias champion {_QUICK[kind]}{accept}", environment)
        serve = f"serve run deployments.app:build_app model_uri=models:/{kind}@champion"
        started.enter_context(running("serve", serve, environment, until=f"http://127.0.0.1:{API}/readyz"))
        page = f"streamlit run deployments/page.py --server.port {PAGE} http://127.0.0.1:{API}"
        started.enter_context(running("page", page, environment, until=f"http://127.0.0.1:{PAGE}/_stcore/health"))
        show_answer(picture)
        show_addresses()
        if not config.once:
            wait_for_the_end()


def check_machine() -> None:
    """Raises `CannotRun` where a port is taken or the disk is full."""
    for name, port in {"the API": API, "the page": PAGE, "MLflow": MLFLOW, "Ray's dashboard": DASHBOARD, "Ray": RAY}.items():
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                raise CannotRun(f"port {port}, for {name}, is in use; stop what listens there and run this again")
    home().mkdir(parents=True, exist_ok=True)
    free_gb = shutil.disk_usage(home()).free / 1e9
    if free_gb < _NEEDED_GB:
        raise CannotRun(
            f"{free_gb:.1f} GB are free in {home()} and {_NEEDED_GB} are needed; free some space, or set MASKWORKS_HOME to another disk"
        )


def sample_picture(source: str) -> bytes:
    """An image that training does not see: a freshly drawn scene, or the first of the data's test or validation split."""
    if source.startswith("scenes"):
        file = BytesIO()
        Image.fromarray(draw_scene(_UNSEEN_SCENE, (480, 640)).image).save(file, "JPEG", quality=92)
        return file.getvalue()
    splits = read_data(source).splits
    return splits.get("test", splits["val"])[0].image_path.read_bytes()


def mlflow_command() -> str:
    """MLflow on one machine: clients write artifacts straight to the disk, as they do without a server."""
    store, artifacts = f"sqlite:///{home() / 'mlflow.db'}", (home() / "artifacts").as_uri()
    address = f"--host 127.0.0.1 --port {MLFLOW} --workers 1"
    return f"mlflow server {address} --backend-store-uri {shlex.quote(store)} --no-serve-artifacts --default-artifact-root {shlex.quote(artifacts)}"


def ray_command(folder: str) -> str:
    """A Ray head; its own ports listen everywhere, and only who has the token gets an answer.

    Its files are in `folder`: in Ray's usual place later programs would look for this cluster when it is gone.
    """
    dashboard = f"--dashboard-host 127.0.0.1 --dashboard-port {DASHBOARD}"
    return f"ray start --head --block --port {RAY} {dashboard} --temp-dir {folder} --disable-usage-stats"


def run(command: str, environment: dict[str, str]) -> None:
    """Runs the command to its end with its output shown; raises `CannotRun` where it fails."""
    print(f"\n$ {command}", flush=True)
    with process(command, environment) as running_process:
        if running_process.wait():
            raise CannotRun(f"this command failed, its last lines say why: {command}")


@contextmanager
def running(name: str, command: str, environment: dict[str, str], *, until: str, ending: int = signal.SIGINT) -> Iterator[None]:
    """Runs the command beside this program, its output in a file, from when the address `until` answers 200."""
    print(f"\n$ {command}", flush=True)
    log_path = OUTPUT / f"{name}.log"
    with log_path.open("wb") as log, process(command, environment, log, ending) as started:
        deadline = time.monotonic() + _PATIENCE_S
        while not answers(until):
            if started.poll() is not None or time.monotonic() > deadline:
                lines = log_path.read_text(errors="replace").strip().splitlines()[-5:]
                raise CannotRun(f"{name} did not start; {log_path} ends with:\n  " + "\n  ".join(lines))
            time.sleep(0.5)
        yield


@contextmanager
def process(command: str, environment: dict[str, str], log=None, ending: int = signal.SIGINT) -> Iterator[subprocess.Popen]:
    """The command's process in a group of its own, so that Ctrl-C reaches it only through this program, in order."""
    started = subprocess.Popen(shlex.split(command), env=environment, stdout=log, stderr=log and subprocess.STDOUT, start_new_session=True)
    try:
        yield started
    finally:
        started.send_signal(ending)
        with suppress(subprocess.TimeoutExpired):
            started.wait(_STOP_S)
        with suppress(ProcessLookupError):  # what is left of the group
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def answers(address: str) -> bool:
    """Whether a GET gets a good answer now."""
    try:
        return requests.get(address, timeout=2).status_code in (200, 401, 403)  # Ray's dashboard asks for its token
    except requests.RequestException:
        return False


def show_answer(picture: bytes) -> None:
    """Sends the picture, saves it with its overlay, and prints what was found."""
    (OUTPUT / "picture.jpg").write_bytes(picture)
    address = f"http://127.0.0.1:{API}/v1/segment"
    overlay, found = (requests.post(address, params={"format": form}, data=picture, timeout=60) for form in ("overlay", "json"))
    overlay.raise_for_status()
    found.raise_for_status()
    (OUTPUT / "overlay.png").write_bytes(overlay.content)
    print(f"\nmodel {found.json()['model_version']} says of {OUTPUT / 'picture.jpg'} ({OUTPUT / 'overlay.png'} shows it):")
    for entry in found.json()["objects"][:12]:
        print(f"  {entry['class']:<20} score {entry['score']:.2f}  box {entry['box']}")


def show_addresses() -> None:
    """Prints where everything is, and a line to copy."""
    token = "its token: ray get-auth-token"
    print(
        f"""
page            http://127.0.0.1:{PAGE}
API             http://127.0.0.1:{API}/v1/segment
documentation   http://127.0.0.1:{API}/docs
MLflow          http://127.0.0.1:{MLFLOW}
Ray dashboard   http://127.0.0.1:{DASHBOARD}   ({token})

curl --data-binary @{OUTPUT / "picture.jpg"} 'http://127.0.0.1:{API}/v1/segment?format=overlay' --output overlay.png
""",
        flush=True,
    )


def wait_for_the_end() -> None:
    """Returns at Ctrl-C, or when asked to stop."""
    print("serving; Ctrl-C stops everything", flush=True)
    signal.pause()


def interrupt_once(signum: int, frame: object) -> None:
    """Ends the program; what comes meanwhile (make repeats the signal) must not end the ending."""
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, interrupt_once)
    try:
        main(tyro.cli(DemoConfig))
    except KeyboardInterrupt:
        print("\nstopped")
    except (CannotRun, InvalidData) as error:
        sys.exit(f"error: {error}")
