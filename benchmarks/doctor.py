"""How long the doctor takes for thousands of small photos, and for photos as cameras give them.

python -m benchmarks.doctor
python -m benchmarks.doctor --help
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from PIL import Image

from pipelines.data.scenes import CLASS_NAMES, draw_scene, split_seeds, write_scenes
from pipelines.data.sources import examine_data

_SCENE = (240, 320)


@dataclass(frozen=True)
class DoctorBenchmark:
    """Draw data sets, then measure the doctor on them."""

    num_small: int = 11_000
    """Drawn photos of 320 x 240 pixels, a fifth of them in val."""
    num_large: int = 200
    """Photos of 12 megapixels, with outlines as polygons; what 11,000 of them would take is extrapolated."""
    json: Path | None = None
    """Write the table's rows here too."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    photos: str
    num_photos: int
    num_objects: int
    seconds: float
    photos_per_s: float
    seconds_for_11000: float
    num_findings: int


def main(config: DoctorBenchmark) -> None:
    """Prints the table."""
    rows = []
    for name, num, draw in (("320 x 240", config.num_small, _draw_small), ("4000 x 3000", config.num_large, _draw_large)):
        if num:
            with tempfile.TemporaryDirectory() as folder:
                print(f"drawing {num} photos of {name}", flush=True)
                draw(Path(folder) / "data", num)
                rows.append(_measure(name, Path(folder) / "data"))
    print(f"\n{len(os.sched_getaffinity(0))} CPUs")
    print(f"{'photos':<14}{'number':>8}{'objects':>9}{'seconds':>9}{'photos/s':>10}{'s for 11000':>13}{'findings':>10}")
    for row in rows:
        numbers = f"{row.seconds:>9.1f}{row.photos_per_s:>10.0f}{row.seconds_for_11000:>13.0f}{row.num_findings:>10}"
        print(f"{row.photos:<14}{row.num_photos:>8}{row.num_objects:>9}{numbers}")
    if config.json:
        config.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))


def _measure(name: str, folder: Path) -> Row:
    begin = time.perf_counter()
    data = examine_data(f"coco:{folder}", repair=False, input_size=(256, 256))
    seconds = time.perf_counter() - begin
    records = [record for split in data.splits.values() for record in split]
    num_objects = sum(len(record.annotation.objects) for record in records)
    rate = len(records) / seconds
    return Row(name, len(records), num_objects, seconds, rate, 11_000 / rate, len(data.findings))


def _draw_small(folder: Path, num: int) -> None:
    write_scenes(folder, num_train=num - max(1, num // 5), num_val=max(1, num // 5), size=_SCENE)


def _draw_large(folder: Path, num: int) -> None:
    (folder / "annotations").mkdir(parents=True)
    for split, first, num_in_split in split_seeds(num - max(1, num // 5), max(1, num // 5), 1):
        (folder / "images" / split).mkdir(parents=True)
        images, annotations = [], []
        for seed in range(first, first + num_in_split):
            scene, scale = draw_scene(seed, _SCENE), 12.5
            noise = np.random.default_rng(seed).integers(0, 12, (3000, 4000, 1), np.uint8)
            picture = cv2.add(cv2.resize(scene.image, (4000, 3000), interpolation=cv2.INTER_CUBIC), cv2.merge([noise] * 3))
            Image.fromarray(picture).save(folder / "images" / split / f"{seed}.jpg", quality=90)
            images.append({"id": seed, "file_name": f"{seed}.jpg", "height": 3000, "width": 4000})
            for number, class_index in enumerate(scene.instance_classes, 1):
                region = (scene.instance_mask == number).astype(np.uint8)
                outlines = [each for each in cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0] if len(each) > 2]
                polygons = [(outline.reshape(-1) * scale).tolist() for outline in outlines]
                annotations.append({"id": len(annotations), "image_id": seed, "category_id": class_index, "segmentation": polygons})
        categories = [{"id": index, "name": name} for index, name in enumerate(CLASS_NAMES) if index]
        content = {"images": images, "annotations": [each for each in annotations if each["segmentation"]], "categories": categories}
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


if __name__ == "__main__":
    main(tyro.cli(DoctorBenchmark))
