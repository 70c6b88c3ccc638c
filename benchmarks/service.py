"""What the benchmarks measure: untrained bundles, real photos, and a Serve of one's own on this machine alone."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
from dotenv import dotenv_values
from PIL import Image

from models.bundle import save_bundle
from models.label_set import LabelSet
from models.spec import Architecture, SegmenterSpec
from models.unet import build_network

Model = Literal["toy", "unet-mobilenet_v2"]
Placement = Literal["fused", "split"]
Photo = Literal["small", "phone"]
NUM_PROCESSES = 2  # that hold a model, with a thread each
_FRONT = Path(__file__).parents[1] / "deployments" / "front.env"
MODELS = {  # architecture and input size; the toy's network costs next to nothing, so that the overhead shows
    "toy": (Architecture("unet", "tu-test_resnet"), (64, 64)),
    "unet-mobilenet_v2": (Architecture("unet", "mobilenet_v2"), (256, 256)),
}
_PHOTOS = {"small": ("dog.jpg", (427, 640)), "phone": ("090410.jpg", (3060, 4080))}  # a progressive JPEG; one that EXIF turns


def server_environment(haproxy: bool) -> dict[str, str]:
    """Settings that Ray's processes read as they start."""
    return dotenv_values(_FRONT) if haproxy else {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}


def sample_photo(photo: Photo = "small") -> bytes:
    """A photo of 640 x 427 or of 12 megapixels as JPEG: the real one where there is one, else a drawn one of its size."""
    name, (height, width) = _PHOTOS[photo]
    real = Path(os.environ.get("SEGMENTATION_DATA", "../shared/data")) / "photos" / name
    if real.is_file():
        return real.read_bytes()
    y, x = np.mgrid[:height, :width]
    waves = [127 + 127 * np.sin((x * (1 + channel) + y * (3 - channel)) / 40) for channel in range(3)]
    file = io.BytesIO()
    Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def make_bundle(folder: Path, model: Model, engine: str = "torch") -> Path:
    """A bundle of the untrained network, with the engine's export where it needs one."""
    import torch

    from deployments.export import ExportConfig, export

    torch.manual_seed(0)
    architecture, input_size = MODELS[model]
    label_set = LabelSet.from_names(["background", "pet", "border"])
    spec = SegmenterSpec(architecture, label_set, input_size)
    bundle = save_bundle(folder, build_network(architecture, len(label_set)), spec, {})
    if engine == "onnx":
        export(bundle, ExportConfig(str(bundle), rounds=0))
    return bundle


@contextmanager
def server(bundle: Path | str, placement: Placement, **settings: object) -> Iterator[int]:
    """The port of a Serve of its own on this machine alone, with a bundle or a model URI, stopped at the end; `settings` are `AppConfig`'s."""
    import ray
    from ray import serve

    from deployments.app import build_app
    from deployments.config import AppConfig

    replicas = {"fused": {"num_replicas": NUM_PROCESSES}, "split": {"num_model_replicas": NUM_PROCESSES}}[placement]
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    policy = os.sched_getscheduler(0)
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))  # Ray's processes inherit it, as with `chrt --batch 0 ray start`
    ray.init(
        address="local",
        num_cpus=NUM_PROCESSES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
    )
    os.sched_setscheduler(0, policy, os.sched_param(0))
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(build_app(AppConfig(model_uri=str(bundle), placement=placement, **replicas | settings)))
        yield port
    finally:
        serve.shutdown()
        ray.shutdown()


def serving_rss_bytes() -> int:
    """Resident memory of the replicas and the proxy that this process started."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            command = " ".join(process.cmdline())
            total += process.memory_info().rss * any(part in command for part in ("ServeReplica", "ProxyActor", "haproxy", "HAProxy"))
        except psutil.NoSuchProcess:
            continue
    return total
