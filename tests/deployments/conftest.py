"""The HTTP interface over all stages in this process, with no Ray."""

from __future__ import annotations

import io
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from mlflow import MlflowClient
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from deployments.admission import Admission
from deployments.api import Api, create_app
from deployments.catalog import catalog_of
from deployments.config import AppConfig
from deployments.graph import FusedGraph
from deployments.model_source import fetch_bundle
from deployments.served_version import ServedVersion
from tests.deployments.registry_file import RegistryFile, make_bundle

MAX_BODY_BYTES = 200_000


def encode_photo(pixels: np.ndarray, format: str = "JPEG", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


@pytest.fixture(scope="session")
def pixels() -> np.ndarray:
    """A picture with some structure, not square: (90, 120, 3)."""
    y, x = np.mgrid[:90, :120]
    return np.stack([x * 2, y * 2, 255 * ((x - 60) ** 2 + (y - 40) ** 2 < 900)], axis=-1).astype(np.uint8)


@pytest.fixture(scope="session")
def photo(pixels: np.ndarray) -> bytes:
    return encode_photo(pixels)


@pytest.fixture(scope="session")
def config(bundle_folder: Path) -> AppConfig:
    return AppConfig(model_uri=str(bundle_folder), max_body_bytes=MAX_BODY_BYTES, max_pixels=1_000_000, body_timeout_s=2, codec_threads=2)


@pytest.fixture(scope="session")
def graph(config: AppConfig) -> FusedGraph:
    return FusedGraph(fetch_bundle(config.model_uri), config)


@pytest.fixture(scope="session")
def served(graph: FusedGraph, config: AppConfig) -> ServedVersion:
    return ServedVersion(fetch_bundle(config.model_uri), graph.spec, graph)


@pytest.fixture(scope="session")
def api(served: ServedVersion, config: AppConfig) -> Api:
    return api_of(served, config)


def api_of(served: ServedVersion, config: AppConfig, num_places: int = 64) -> Api:
    """The interface with one version."""
    return Api(catalog_of(served, config, Admission(num_places)), config)


@pytest.fixture
def client(api: Api) -> Iterator[TestClient]:
    with TestClient(create_app(api)) as client:
        yield client


@contextmanager
def serving(app: Starlette, port: int = 0) -> Iterator[str]:
    """The address at which `app` answers over real HTTP; at any free port where none is named."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def address(api: Api) -> Iterator[str]:
    with serving(create_app(api)) as address:
        yield address


@pytest.fixture(scope="session")
def bundles(tmp_path_factory, pet_labels) -> list[Path]:
    root = tmp_path_factory.mktemp("bundles")
    return [make_bundle(root / str(seed), pet_labels, seed) for seed in range(3)]


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory) -> Path:
    """MLflow takes seconds to make one."""
    file = tmp_path_factory.mktemp("database") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_registered_models()
    return file


@pytest.fixture
def registry(tmp_path, bundles, monkeypatch, empty_database) -> RegistryFile:
    monkeypatch.setenv("MASKWORKS_HOME", str(tmp_path / "home"))
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    registry = RegistryFile(tmp_path)
    for bundle in bundles[:2]:
        registry.register(bundle)
    registry.move("1")
    return registry
