"""Versions in a registry of one's own for benchmarks of promotion: three good ones, four that must never serve, and photos."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Literal

import mlflow
import numpy as np
import torch
from mlflow import MlflowClient
from PIL import Image

from benchmarks.service import MODELS, Model
from models.bundle import save_bundle
from models.fit import preprocess
from models.golden import FOLDER as GOLDEN
from models.golden import write_golden
from models.label_set import LabelSet
from models.mask_png import encode_mask_png
from models.restore import restore_class_map
from models.segmenter import Segmenter
from models.spec import SegmenterSpec
from models.unet import NormalizedNetwork, build_network
from pipelines.data.scenes import draw_scene
from pipelines.tracking import TrackedRun

NAME = "shelf"
_LABELS = LabelSet.from_names(["background", "can", "box", "jar"])
_DAMAGED = 3  # the class
_NUM_GOLDEN = 3
Broken = Literal["corrupt weights", "other labels", "damaged class, golden pictures of the sound one", "damaged class"]


@dataclass(frozen=True)
class Registered:
    """Registered versions by number. `good` have masks that differ; `expected` are their index PNGs of each photo, one for each way
    in which a batch may be put together; of `broken` each must be refused."""

    uri: str
    data: str
    photos: list[bytes]
    good: list[str]
    broken: dict[Broken, str]
    expected: dict[str, list[set[bytes]]]

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri)

    def move_by_hand(self, version: str) -> None:
        """What MLflow's own page does: no gate, no lock."""
        self.client.set_registered_model_alias(NAME, "champion", version)

    def refusal(self, version: str) -> str | None:
        """What the service said of the version."""
        return self.client.get_model_version(NAME, version).tags.get("serving.refused")


def register_versions(folder: Path, model: Model, num_photos: int, max_batch_size: int) -> Registered:
    """All versions, the first of them champion, in SQLite in `folder`, with photos that the first version labelled."""
    architecture, input_size = MODELS[model]
    spec = SegmenterSpec(architecture, _LABELS, input_size)
    photos = take_photos(num_photos)
    sound, uri = balanced_network(spec, photos), f"sqlite:///{folder / 'mlflow.db'}"
    experiment = MlflowClient(uri).create_experiment("promotions", artifact_location=(folder / "artifacts").as_uri())
    good, expected = [], {}

    def register(network: NormalizedNetwork, spec: SegmenterSpec, golden_of: NormalizedNetwork) -> str:
        bundle = save_bundle(folder / "bundle", network, spec, {"data": data, "data_digest": "drawn for a benchmark"})
        write_golden(bundle / GOLDEN, Segmenter(golden_of, spec), photos[:_NUM_GOLDEN])
        run = TrackedRun(uri, MlflowClient(uri).create_run(experiment).info.run_id)
        return run.log_model(bundle, register_as=NAME, alias=None)

    data = write_labelled(folder / "data", Segmenter(sound, spec), photos)
    for noise in (0, 0.05, 0.1):
        network = with_noise(sound, spec, noise)
        good.append(register(network, spec, network))
        expected[f"{NAME}/{good[-1]}"] = expected_pngs(Segmenter(network, spec), photos, max_batch_size)
    damaged, other = damage(sound, spec), replace(spec, label_set=LabelSet.from_names(["background", "jar", "box", "can"]))
    broken: dict[Broken, str] = {
        "corrupt weights": register(sound, spec, sound),
        "other labels": register(sound, other, sound),
        "damaged class, golden pictures of the sound one": register(damaged, spec, sound),
        "damaged class": register(damaged, spec, damaged),
    }
    corrupt(uri, broken["corrupt weights"])
    registered = Registered(uri, data, photos, good, broken, expected)
    registered.move_by_hand(good[0])
    return registered


def take_photos(number: int) -> list[bytes]:
    """Real photos where there are some, else drawn ones, as files."""
    folder = Path(os.environ.get("SEGMENTATION_DATA", "../shared/data")) / "grocery24" / "images" / "val"
    real = sorted(folder.glob("*.jpg"))
    if len(real) >= number:
        return [path.read_bytes() for path in real[:: len(real) // number][:number]]
    files = [BytesIO() for _ in range(number)]
    for seed, file in enumerate(files):
        Image.fromarray(draw_scene(seed).image).save(file, "JPEG", quality=85)
    return [file.getvalue() for file in files]


def balanced_network(spec: SegmenterSpec, photos: list[bytes]) -> NormalizedNetwork:
    """An untrained network in whose masks of the photos every class has its share: its head is scaled and shifted for it."""
    torch.manual_seed(0)
    network = build_network(spec.architecture, len(spec.label_set)).eval()
    head = network.network.segmentation_head[0]
    pixels = np.stack([preprocess(photo, spec.input_size, spec.fit_rule).pixels for photo in photos])
    with torch.inference_mode():
        logits = network(torch.from_numpy(pixels).permute(0, 3, 1, 2)).movedim(1, 0).flatten(1)
        head.bias.copy_((head.bias - logits.mean(1)) / logits.std(1))
        head.weight.div_(logits.std(1)[:, None, None, None])
    return network


def with_noise(network: NormalizedNetwork, spec: SegmenterSpec, noise: float) -> NormalizedNetwork:
    """A copy whose head was changed a little, so that its masks differ."""
    changed = _copy(network, spec)
    weight = changed.network.segmentation_head[0].weight.data
    weight.add_(noise * weight.std() * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    return changed


def damage(network: NormalizedNetwork, spec: SegmenterSpec) -> NormalizedNetwork:
    """A copy that cannot find one class any more."""
    damaged = _copy(network, spec)
    head = damaged.network.segmentation_head[0]
    head.weight.data[_DAMAGED] = 0
    head.bias.data[_DAMAGED] = -10
    return damaged


def corrupt(uri: str, version: str) -> None:
    """Changes a byte of the version's weights where MLflow keeps them."""
    mlflow.set_tracking_uri(uri)
    (weights,) = Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}/{version}")).rglob("weights.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


def expected_pngs(segmenter: Segmenter, photos: list[bytes], max_batch_size: int) -> list[set[bytes]]:
    """For each photo the index PNGs that a batch of any size may give it; a larger batch may change the last bits of a sum."""
    torch.set_num_threads(1)  # as in a replica
    spec = segmenter.spec
    images = [preprocess(photo, spec.input_size, spec.fit_rule) for photo in photos]
    return [
        {
            encode_mask_png(restore_class_map(prediction), spec.label_set)
            for size in range(1, max_batch_size + 1)
            for prediction in segmenter.predict([image] * size)
        }
        for image in images
    ]


def write_labelled(folder: Path, segmenter: Segmenter, photos: list[bytes]) -> str:
    """KIND:PATH of the photos with the segmenter's masks."""
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True)
        for number, photo in enumerate(photos):
            spec = segmenter.spec
            mask = restore_class_map(segmenter.predict([preprocess(photo, spec.input_size, spec.fit_rule)])[0])
            (folder / "images" / split / f"{number}.jpg").write_bytes(photo)
            Image.fromarray(mask).save(folder / "masks" / split / f"{number}.png")
    (folder / "labels.txt").write_text("\n".join(segmenter.spec.label_set.names))
    return f"masks:{folder}"


def _copy(network: NormalizedNetwork, spec: SegmenterSpec) -> NormalizedNetwork:
    copied = build_network(spec.architecture, len(spec.label_set)).eval()
    copied.load_state_dict(network.state_dict())
    return copied
