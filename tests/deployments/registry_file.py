"""A registry in a file, with versions of a small model, and a service of them without HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from mlflow import MlflowClient
from PIL import Image
from safetensors.torch import load_file, save_file

from deployments.catalog import Catalog, build_catalog
from deployments.config import AppConfig
from deployments.following import FollowedModel
from deployments.formats import NPY
from deployments.metrics import Metrics
from deployments.query import Query
from deployments.served_version import ServedVersion, load_version
from models.bundle import load_bundle, save_bundle
from models.fit import preprocess
from models.golden import FOLDER as GOLDEN
from models.golden import write_golden
from models.label_set import LabelSet
from models.restore import restore_class_map
from models.spec import Architecture, SegmenterSpec
from models.unet import build_network

ALIAS = "champion"


class RegistryFile:
    """MLflow in a file, whose versions of `shelf` are folders that a test can spoil."""

    def __init__(self, root: Path) -> None:
        self.root, self.file = root, root / "mlflow.db"
        self.uri = f"sqlite:///{self.file}"
        self.client = MlflowClient(self.uri)
        self.client.create_registered_model("shelf")

    def register(self, bundle: Path, run_id: str | None = None) -> str:
        model = self.root / f"model-{len(list(self.root.glob('model-*')))}"
        shutil.copytree(bundle, model / "artifacts" / "bundle")
        (model / "MLmodel").write_text("flavors: {}\n")
        return str(self.client.create_model_version("shelf", source=str(model), run_id=run_id).version)

    def move(self, number: str, alias: str = ALIAS) -> None:
        self.client.set_registered_model_alias("shelf", alias, number)

    @contextmanager
    def away(self) -> Iterator[None]:
        """No database answers meanwhile."""
        content = self.file.read_bytes()
        self.file.write_bytes(b"no database" * 1000)
        yield
        self.file.write_bytes(content)

    def tags(self, number: str) -> dict[str, str]:
        return self.client.get_model_version("shelf", number).tags


def make_bundle(folder: Path, labels: LabelSet, seed: int, decoder_channels: int = 32) -> Path:
    """A bundle with golden pictures, unlike those of other seeds."""
    torch.manual_seed(seed)
    spec = SegmenterSpec(Architecture(decoder_channels=decoder_channels), labels, (64, 64))
    save_bundle(folder, build_network(spec.architecture, len(labels)), spec, {})
    y, x = np.mgrid[:60, :80]
    picture = np.stack([x * 3, y * 4, (x * y) % 256], axis=-1).astype(np.uint8)
    write_golden(folder / GOLDEN, load_bundle(folder), [cv2.imencode(".png", each)[1].tobytes() for each in (picture, picture[::-1])])
    return folder


class Counting(Metrics):
    """Remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.reasons: list[str] = []

    def refused_version(self, reason: str) -> None:
        super().refused_version(reason)
        self.reasons.append(reason)


class Service:
    """A service without HTTP, whose thread does not run: the test looks."""

    def __init__(self, registry: RegistryFile, **settings) -> None:
        self.metrics = Counting()
        config = AppConfig(model_uri=f"models:/shelf@{ALIAS}", tracking_uri=registry.uri, max_batch_size=1, **settings)
        self.catalog: Catalog = build_catalog(config, partial(load_version, metrics=self.metrics), self.metrics)
        self.model: FollowedModel = self.catalog.default

    def start(self) -> Service:
        self.model.start()
        return self

    @property
    def version(self) -> str:
        return self.model.current.version

    def look(self) -> str:
        self.model.look()
        return self.version


def with_one_class_damaged(bundle: Path) -> None:
    """The class that the first golden picture has most of wins nowhere any more."""
    weights = load_file(bundle / "weights.safetensors")
    name = [each for each in weights if each.endswith("bias") and weights[each].shape == (3,)][-1]
    golden = Image.open(io.BytesIO((bundle / GOLDEN / "0.png").read_bytes()))
    weights[name][np.bincount(np.asarray(golden).ravel()).argmax()] = -100
    save_file(weights, bundle / "weights.safetensors")
    card = json.loads((bundle / "model.json").read_text())
    digest = hashlib.sha256((bundle / "weights.safetensors").read_bytes()).hexdigest()
    (bundle / "model.json").write_text(json.dumps(card | {"weights_sha256": digest}))


def mask_of(version: ServedVersion, photo: bytes) -> np.ndarray:
    answer = asyncio.run(version.graph.segment(photo, Query(NPY)))
    return np.load(io.BytesIO(answer.body))


def mask_of_bundle(folder: Path, photo: bytes) -> np.ndarray:
    segmenter = load_bundle(folder)
    return restore_class_map(segmenter.predict([preprocess(photo, segmenter.spec.input_size, segmenter.spec.fit_rule)])[0])
