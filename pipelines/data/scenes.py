"""Small drawn grocery-shelf scenes with exact class and instance masks, and their COCO data set on disk.

Command line: python -m pipelines.data.scenes FOLDER [--num-train N] [--num-val N] [--seed N]
"""

import json
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from faster_coco_eval.core import mask as coco_mask
from PIL import Image

from pipelines.data.scenes_layout import arrange
from pipelines.data.scenes_shapes import paste
from pipelines.data.scenes_shelf import cast_shadows, develop, draw_place

CLASS_NAMES = ("background", "can", "box", "bottle", "apple", "lemon")
SMALLEST = 64  # pixels; in less no object can be told from another
DRAWING = 1  # raised when the same seed gives another scene than before
PARAMETERS_FILE = "scenes.json"  # what a folder of scenes was made with
SEEDS_PER_SPLIT = 1_000_000


@dataclass(frozen=True)
class Scene:
    """One scene and its truth.

    image: (h, w, 3) uint8 RGB. class_mask: (h, w) uint8, an index into CLASS_NAMES. instance_mask: (h, w) uint16, 0 for
    none and 1..N in drawing order, visible pixels only. instance_classes: the class index of instances 1..N.
    """

    image: np.ndarray
    class_mask: np.ndarray
    instance_mask: np.ndarray
    instance_classes: tuple[int, ...]


def draw_scene(seed: int, size: tuple[int, int] = (240, 320)) -> Scene:
    """The scene that belongs to `seed` at `size` (height, width): always the same one, 2 to 12 objects.

    ValueError: a negative seed, or a side under 64 pixels.
    """
    if seed < 0:
        raise ValueError(f"seed is {seed}; a seed is 0 or more; pass a non-negative integer")
    if min(size) < SMALLEST:
        raise ValueError(f"size is {tuple(size)}; height and width are {SMALLEST} or more; pass a larger size")
    rng = np.random.default_rng(seed)
    picture, surfaces = draw_place(rng, size)
    placed = arrange(rng, surfaces, size)
    cast_shadows(rng, picture, surfaces, [(item.sprite, item.at) for item in placed])
    drawn = np.zeros(size, np.uint16)
    for number, item in enumerate(placed, start=1):
        paste(picture, drawn, item.sprite, item.at, number)
    visible = [number for number in range(1, len(placed) + 1) if (drawn == number).any()]
    dense = np.zeros(len(placed) + 1, np.uint16)
    dense[visible] = np.arange(1, len(visible) + 1)
    instance_mask = dense[drawn]
    instance_classes = tuple(placed[number - 1].class_index for number in visible)
    class_mask = np.array((0, *instance_classes), np.uint8)[instance_mask]
    return Scene(develop(rng, picture), class_mask, instance_mask, instance_classes)


def write_scenes(folder: Path, *, num_train: int = 320, num_val: int = 64, seed: int = 0, size: tuple[int, int] = (240, 320)) -> Path:
    """`folder`, holding images/{train,val}/000000.jpg and annotations/instances_{train,val}.json (COCO, compressed RLE).

    A folder that already holds the very same scenes is left as it is. All is written beside it and renamed at the end,
    so that it is there whole or not at all, also when several processes write it at once.
    ValueError: a number of scenes outside 1..1000000. FileExistsError: the folder holds something else.
    """
    folder = Path(folder)
    for name, num in (("num_train", num_train), ("num_val", num_val)):
        if not 1 <= num <= SEEDS_PER_SPLIT:
            raise ValueError(f"{name} is {num}; a split has 1 to {SEEDS_PER_SPLIT} scenes; pass a number in that range")
    made_with = {"drawing": DRAWING, "num_train": num_train, "num_val": num_val, "seed": seed, "size": list(size)}
    if _holds(folder, made_with):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
    try:
        for split, first, num in split_seeds(num_train, num_val, seed):
            _write_split(draft, split, range(first, first + num), size)
        (draft / PARAMETERS_FILE).write_text(json.dumps(made_with, indent=2) + "\n")
        try:
            draft.rename(folder)
        except OSError:
            if not _holds(folder, made_with):  # another process was first, with the same scenes: use its folder
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def split_seeds(num_train: int, num_val: int, seed: int) -> tuple[tuple[str, int, int], ...]:
    """(split, seed of its first scene, number of scenes) for train and val; no scene seed is shared, whatever `seed`."""
    start = 2 * SEEDS_PER_SPLIT * seed
    return ("train", start, num_train), ("val", start + SEEDS_PER_SPLIT, num_val)


def _holds(folder: Path, made_with: dict) -> bool:
    """True for a complete folder of these scenes, False for a missing or empty one; FileExistsError for any other."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    rule = "a scenes folder is new, empty or complete with the same parameters"
    remedy = "choose another folder, or delete this one first"
    try:
        found = json.loads((folder / PARAMETERS_FILE).read_text())
    except (OSError, ValueError):
        raise FileExistsError(f"{folder} holds something other than scenes; {rule}; {remedy}") from None
    if found != made_with:
        raise FileExistsError(f"{folder} was made with {found}, not {made_with}; {rule}; {remedy}")
    for split in ("train", "val"):
        num = len(list((folder / "images" / split).glob("*.jpg")))
        if num != made_with[f"num_{split}"] or not (folder / "annotations" / f"instances_{split}.json").is_file():
            raise FileExistsError(f"{folder} has lost files of its {split} split; {rule}; {remedy}")
    return True


def _write_split(folder: Path, split: str, seeds: range, size: tuple[int, int]) -> None:
    """Nothing; the images of one split and its annotation file are in `folder`."""
    (folder / "images" / split).mkdir(parents=True)
    (folder / "annotations").mkdir(exist_ok=True)
    images, annotations = [], []
    for image_id, scene_seed in enumerate(seeds):
        scene = draw_scene(scene_seed, size)
        name = f"{image_id:06d}.jpg"
        Image.fromarray(scene.image).save(folder / "images" / split / name, quality=92)
        images.append({"id": image_id, "file_name": name, "height": size[0], "width": size[1]})
        for entry in annotations_of(scene):
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **entry})
    categories = [{"id": index, "name": name} for index, name in enumerate(CLASS_NAMES) if index]
    record = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(record))


def annotations_of(scene: Scene) -> list[dict]:
    """One COCO annotation per instance in drawing order, without ids: category, RLE, area and bbox of what is visible."""
    entries = []
    for number, class_index in enumerate(scene.instance_classes, start=1):
        code = coco_mask.encode(np.asfortranarray(scene.instance_mask == number, dtype=np.uint8))
        segmentation = {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode("ascii")}
        entries.append(
            {
                "category_id": class_index,
                "segmentation": segmentation,
                "area": int(coco_mask.area(code)),
                "bbox": [float(value) for value in coco_mask.toBbox(code)],
                "iscrowd": 0,
            }
        )
    return entries


def main(folder: tyro.conf.Positional[Path], num_train: int = 320, num_val: int = 64, seed: int = 0) -> None:
    """Draw a training and a validation set of shelf scenes in COCO layout."""
    folder = write_scenes(folder, num_train=num_train, num_val=num_val, seed=seed)
    print(f"{folder}: {num_train} train and {num_val} val scenes, classes {', '.join(CLASS_NAMES[1:])}")


if __name__ == "__main__":
    tyro.cli(main)
