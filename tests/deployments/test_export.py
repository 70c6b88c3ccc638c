"""A bundle's export for ONNX Runtime, from the command to the served answer."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deployments.config import AppConfig
from deployments.export import CannotExport, ExportConfig, main
from deployments.formats import JSON
from deployments.model_source import fetch_bundle
from deployments.model_stage import BatchedModel, load_stage
from deployments.query import Query
from deployments.stages import Prepared
from models.bundle import load_bundle, save_bundle
from models.engines import EngineOptions, EngineRefused
from models.fit import fit_image
from models.restore import restore_class_map
from models.spec import Architecture, SegmenterSpec
from models.unet import build_network

ONNX = EngineOptions("onnx")


@pytest.fixture(scope="module")
def plain(tmp_path_factory, pet_labels) -> Path:
    """A bundle of the smallest network there is, without an export."""
    torch.manual_seed(0)
    spec = SegmenterSpec(Architecture("unet2015", base_channels=2), pet_labels, (112, 112))
    return save_bundle(tmp_path_factory.mktemp("plain") / "bundle", build_network(spec.architecture, 3), spec, {})


@pytest.fixture(scope="module")
def exported(plain, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    main(ExportConfig(str(plain), out=folder, rounds=0))
    return folder


@pytest.fixture
def bundle(exported, tmp_path) -> Path:
    """An exported bundle to change."""
    return shutil.copytree(exported, tmp_path / "bundle")


def report(bundle: Path) -> dict:
    return json.loads((bundle / "engines/onnx/parity.json").read_text())


def test_the_bundle_named_stays_as_it_was_where_a_copy_was_asked_for(plain, exported):
    assert sorted(path.name for path in plain.iterdir()) == ["model.json", "weights.safetensors"]
    assert sorted(path.name for path in exported.iterdir()) == ["engines", "model.json", "weights.safetensors"]
    assert sorted(path.name for path in (exported / "engines/onnx").iterdir()) == ["model.onnx", "parity.json"]


def test_the_report_says_how_well_it_agrees_and_on_what(exported):
    said = report(exported)
    assert said["images"] == "16 drawn images"
    assert said["num_images"] == 16
    assert said["pixel_agreement"] >= 0.999
    assert list(said["class_iou"]) == ["pet", "background", "border"]


def test_the_exported_engine_gives_the_same_masks(exported):
    eager, onnx = load_bundle(exported), load_bundle(exported, engine=ONNX)
    random = np.random.default_rng(0)
    images = [fit_image(random.integers(0, 255, (h, 80, 3), dtype=np.uint8), (112, 112), "letterbox") for h in (40, 80, 100)]
    for expected, given in zip(eager.predict(images), onnx.predict(images)):
        assert (restore_class_map(expected) == restore_class_map(given)).mean() >= 0.999


@pytest.mark.slow
def test_exporting_again_replaces_the_export(bundle, photo, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(photo)
    Image.new("RGB", (30, 20)).save(photos / "b.png")
    (photos / "notes.txt").write_text("no photo")
    (bundle / "engines/onnx/old").touch()
    main(ExportConfig(str(bundle), photos=photos, rounds=0))
    assert report(bundle)["images"] == "2 photos of photos"
    assert "2 photos of photos" in capsys.readouterr().out
    assert sorted(path.name for path in bundle.iterdir()) == ["engines", "model.json", "weights.safetensors"]
    assert sorted(path.name for path in (bundle / "engines/onnx").iterdir()) == ["model.onnx", "parity.json"]


@pytest.mark.slow
def test_latency_and_memory_are_measured_for_both_engines(bundle):
    main(ExportConfig(str(bundle), rounds=1))
    said = report(bundle)
    assert {size: set(times) for size, times in said["latency_ms"].items()} == {"1": {"torch", "onnx"}, "8": {"torch", "onnx"}}
    assert set(said["resident_mb"]) == {"torch", "onnx"}


def test_an_export_that_fails_leaves_the_one_before(bundle, monkeypatch):
    before = report(bundle)
    monkeypatch.setattr("deployments.export.export_graph", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        main(ExportConfig(str(bundle), rounds=0))
    assert report(bundle) == before
    assert sorted(path.name for path in bundle.iterdir()) == ["engines", "model.json", "weights.safetensors"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"photos": Path("nowhere")}, "nowhere holds no photo"),
        ({"model": "models:/shelf@champion"}, "--out"),
        ({"out": Path()}, "exists already"),
    ],
)
def test_what_cannot_be_exported_is_named(plain, change, reason):
    with pytest.raises(CannotExport, match=reason):
        main(replace(ExportConfig(str(plain), rounds=0), **change))


def test_a_bundle_without_an_export_is_refused_with_the_command(plain):
    with pytest.raises(EngineRefused, match=f"no export for engine onnx; run: python -m deployments.export {plain} --engine onnx"):
        load_bundle(plain, engine=ONNX)


def test_a_damaged_graph_is_refused_before_it_is_parsed(bundle):
    graph = bundle / "engines/onnx/model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    with pytest.raises(EngineRefused, match="is not the file that parity.json was written with"):
        load_bundle(bundle, engine=ONNX)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"weights_sha256": "0"}, "made of other weights"),
        ({"pixel_agreement": 0.5}, r"agrees with torch on 50\.0000% .* min_parity asks for 99\.9000%"),
        ({"pixel_agreement": float("nan")}, "agrees with torch on nan%"),
        ({"pixel_agreement": None}, "is damaged"),
    ],
)
def test_an_export_that_does_not_hold_is_refused(bundle, change, reason):
    (bundle / "engines/onnx/parity.json").write_text(json.dumps(report(bundle) | change))
    with pytest.raises(EngineRefused, match=reason):
        load_bundle(bundle, engine=ONNX)


def test_the_floor_is_configurable(bundle):
    (bundle / "engines/onnx/parity.json").write_text(json.dumps(report(bundle) | {"pixel_agreement": 0.5}))
    assert load_bundle(bundle, engine=replace(ONNX, min_parity=0.5)).predict([]) == []


def test_the_application_serves_with_the_engine_it_is_given(exported):
    config = AppConfig(model_uri=str(exported), engine="onnx", max_batch_size=2)
    model = BatchedModel(load_stage(fetch_bundle(config.model_uri), config), config)
    image = fit_image(np.zeros((50, 60, 3), np.uint8), (112, 112), "letterbox")
    served = asyncio.run(model.predict(Prepared(image, {}), Query(JSON)))
    (expected,) = load_bundle(exported, engine=ONNX).predict([image])
    np.testing.assert_array_equal(served.prediction.class_map, expected.class_map)


def test_onnx_with_a_gpu_is_refused():
    with pytest.raises(ValueError, match="set num_gpus=0, or engine=torch"):
        AppConfig(model_uri="x", engine="onnx", num_gpus=1)
