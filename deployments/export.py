"""Prepares a bundle for another engine, once: `python -m deployments.export BUNDLE --engine onnx --photos FOLDER`.

Writes `engines/onnx/` into the bundle, whole or not at all: the graph, and a report of how well and how fast it computes the same.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro

from deployments.engine_costs import latency_ms, resident_mb
from deployments.model_source import fetch_bundle
from models.bundle import load_network
from models.engines.eager import EagerEngine
from models.engines.onnx import FOLDER, MODEL, PARITY, OnnxEngine, export_graph
from models.engines.parity import compare, drawn_images
from models.fit import preprocess
from models.spec import SegmenterSpec, read_card, read_spec

_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_NUM_DRAWN = 16
_MAX_PHOTOS = 200


class CannotExport(ValueError):
    """What was asked for leads to no export."""


@dataclass(frozen=True)
class ExportConfig:
    """What to export, and what to compare it on."""

    model: Annotated[str, tyro.conf.Positional]
    """A bundle's path, runs:/<id>/<name>, models:/<name>@<alias> or models:/<name>/<version>."""
    engine: Literal["onnx"] = "onnx"
    photos: Path | None = None
    """A folder of photos to compare on, the first 200 by name; without one, images are drawn."""
    out: Path | None = None
    """Where to write a copy of the bundle with its export. Needed for runs:/ and models:/, which stay as they are."""
    tracking_uri: str | None = None
    """MLflow's address."""
    rounds: int = 10
    """Rounds of measuring latency and memory; 0 leaves them out."""
    num_threads: int = 1
    """CPU threads that latency is measured with."""


def main(config: ExportConfig) -> None:
    """Exports and prints the report. Raises `CannotExport`, `models.spec.InvalidBundle`, `models.image.InvalidImage`."""
    bundle = _writable_bundle(config)
    report = export(bundle, config)
    print(report_table(report))
    print(f"wrote {bundle / FOLDER}; serve it with engine={config.engine} model_uri={bundle}")


def export(bundle: Path, config: ExportConfig) -> dict[str, Any]:
    """The report, after `engines/onnx/` of the bundle was written, in place of what was there."""
    spec = read_spec(bundle)
    images, shown = _images(spec, config.photos)
    network = load_network(bundle, spec)
    with tempfile.TemporaryDirectory(prefix=".draft-", dir=bundle) as draft:
        graph = Path(draft) / FOLDER.name / MODEL
        graph.parent.mkdir()
        export_graph(network, spec.input_size, graph)
        model = graph.read_bytes()
        torch.set_num_threads(config.num_threads)
        eager, engine = EagerEngine(network), OnnxEngine(model, config.num_threads)
        parity = asdict(compare(eager, engine, images, len(spec.label_set)))
        report = {
            "sha256": hashlib.sha256(model).hexdigest(),
            "weights_sha256": read_card(bundle)["weights_sha256"],
            "images": shown,
            **parity | {"class_iou": dict(zip(spec.label_set.names, parity["class_iou"]))},
        }
        if config.rounds:
            report["num_threads"] = config.num_threads
            report["latency_ms"] = latency_ms({"torch": eager, config.engine: engine}, spec.input_size, config.rounds)
            report["resident_mb"] = {"torch": resident_mb(bundle, None), config.engine: resident_mb(bundle, graph)}
        (graph.parent / PARITY).write_text(json.dumps(report, indent=2) + "\n")
        (bundle / FOLDER).parent.mkdir(exist_ok=True)
        shutil.rmtree(bundle / FOLDER, ignore_errors=True)
        graph.parent.rename(bundle / FOLDER)
    return report


def report_table(report: dict[str, Any]) -> str:
    """The report as lines of text."""
    rows = [
        ("compared on", report["images"]),
        ("pixels of the same class", f"{report['pixel_agreement']:.4%}"),
        ("largest difference of an output", f"{report['largest_difference']:.5f}"),
        *((f"IoU of {name} with torch's masks", _or_none(iou)) for name, iou in report["class_iou"].items()),
    ]
    for batch_size, engines in report.get("latency_ms", {}).items():
        times = "   ".join(f"{name} {value:.1f}" for name, value in engines.items())
        rows.append((f"ms for a batch of {batch_size}, median, {report['num_threads']} thread(s)", times))
    for name, megabytes in report.get("resident_mb", {}).items():
        rows.append((f"MB of a process with {name}", f"{megabytes:.0f}"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _or_none(iou: float | None) -> str:
    return "in no mask" if iou is None else f"{iou:.5f}"


def _writable_bundle(config: ExportConfig) -> Path:
    is_mlflow = config.model.startswith(("runs:", "models:"))
    if is_mlflow and config.out is None:
        raise CannotExport(f"{config.model} is MLflow's and stays as it is; name a folder for a copy with --out")
    if config.out is not None and config.out.exists():
        raise CannotExport(f"{config.out} exists already; name a folder that does not for --out")
    folder = fetch_bundle(config.model, config.tracking_uri).folder
    return folder if config.out is None else Path(shutil.copytree(folder, config.out))


def _images(spec: SegmenterSpec, photos: Path | None) -> tuple[np.ndarray, str]:
    """Images of the model's input size (N, H, W, 3) uint8, and what they are."""
    if photos is None:
        return drawn_images(spec.input_size, _NUM_DRAWN), f"{_NUM_DRAWN} drawn images"
    paths = sorted(path for path in photos.rglob("*") if path.suffix.lower() in _SUFFIXES)[:_MAX_PHOTOS]
    if not paths:
        raise CannotExport(f"{photos} holds no photo; name a folder with some, or leave --photos out to compare on drawn images")
    fitted = [preprocess(path.read_bytes(), spec.input_size, spec.fit_rule).pixels for path in paths]
    return np.stack(fitted), f"{len(paths)} photos of {photos.name}"


if __name__ == "__main__":
    main(tyro.cli(ExportConfig))
