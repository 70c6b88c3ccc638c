"""Small clean data sets of drawn scenes, which tests then spoil in one place."""

from __future__ import annotations

import functools
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.data.scenes import CLASS_NAMES, Scene, annotations_of, draw_scene

SIZE = (120, 160)
SEEDS = {"train": range(5), "val": range(5, 8)}  # together they show each class in both splits
ORIENTATION = 0x0112


@functools.cache
def scene(seed: int) -> Scene:
    return draw_scene(seed, SIZE)


@functools.cache
def jpeg(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(scene(seed).image).save(file, "JPEG", quality=92)
    return file.getvalue()


def save_turned(pixels: np.ndarray, path: Path, orientation: int) -> None:
    """Writes the pixels as they are, with the EXIF tag that says how to turn them."""
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    Image.fromarray(pixels).save(path, exif=tags, quality=92)


class PlantedCoco:
    """A COCO folder in memory: its photos lie in `root`, its JSON is written by `write`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.content = {}
        for split, seeds in SEEDS.items():
            folder = root / "images" / split
            folder.mkdir(parents=True)
            images, annotations = [], []
            for seed in seeds:
                (folder / f"{seed}.jpg").write_bytes(jpeg(seed))
                images.append({"id": seed, "file_name": f"{seed}.jpg", "height": SIZE[0], "width": SIZE[1]})
                annotations += [{"image_id": seed, **entry} for entry in annotations_of(scene(seed))]
            annotations = [{"id": 1000 * seeds[0] + number, **entry} for number, entry in enumerate(annotations, 1)]
            categories = [{"id": index, "name": name} for index, name in enumerate(CLASS_NAMES) if index]
            self.content[split] = {"images": images, "annotations": annotations, "categories": categories}

    def photo(self, seed: int) -> Path:
        return self.root / "images" / ("train" if seed in SEEDS["train"] else "val") / f"{seed}.jpg"

    def add(self, seed: int, segmentation: object, **fields: object) -> None:
        """One more annotation on a photo of train; of class 1 unless `fields` say otherwise."""
        new = {"id": 99_000 + len(self.content["train"]["annotations"]), "image_id": seed, "category_id": 1, "segmentation": segmentation}
        self.content["train"]["annotations"].append(new | fields)

    def annotations(self, seed: int) -> list[dict]:
        return [each for content in self.content.values() for each in content["annotations"] if each["image_id"] == seed]

    def write(self) -> str:
        """The name of the data."""
        (self.root / "annotations").mkdir(exist_ok=True)
        for split, content in self.content.items():
            (self.root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
        return f"coco:{self.root}"


class PlantedMasks:
    """A folder of photos and masks of two classes, written at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for split, seeds in SEEDS.items():
            for kind in ("images", "masks"):
                (root / kind / split).mkdir(parents=True)
            for seed in seeds:
                self.photo(seed).write_bytes(jpeg(seed))
                Image.fromarray((scene(seed).class_mask > 0).astype(np.uint8)).save(self.mask(seed))
        (root / "labels.txt").write_text("background\nthing\n")

    def photo(self, seed: int) -> Path:
        return self.root / "images" / ("train" if seed in SEEDS["train"] else "val") / f"{seed}.jpg"

    def mask(self, seed: int) -> Path:
        return self.root / "masks" / ("train" if seed in SEEDS["train"] else "val") / f"{seed}.png"

    def write(self) -> str:
        """The name of the data."""
        return f"masks:{self.root}"
