"""COCO instances as semantic masks: polygons, run lengths, crowds, and photos whose EXIF turns them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from faster_coco_eval import mask as coco_mask

from models.image import orient, stored_and_upright_size
from models.instance_mask import InstanceMask
from models.label_set import IGNORE_INDEX, InvalidLabelSet, LabelSet
from pipelines.data.records import InvalidData, LabelledData, Record, Refusal, check_records, hold_out

_VAL_SHARE = 0.15
_FEWEST_COORDINATES = 6  # three points


@dataclass(frozen=True)
class CocoObject:
    """One annotation: its class index, COCO segmentation (polygons or run lengths), and whether it marks a crowd."""

    class_index: int
    segmentation: list | dict
    is_crowd: bool


@dataclass(frozen=True)
class CocoAnnotation:
    """The objects of one image in the frame of `size`, the (height, width) that the file states, or None."""

    objects: tuple[CocoObject, ...]
    background: int
    size: tuple[int, int] | None

    def class_map(self, image: bytes) -> np.ndarray:
        """Class index per pixel of the upright image, (h, w) uint8; crowds are ignored, smaller objects lie on larger ones.

        Annotations may be in the upright frame, or in the frame of the file before EXIF turns it; the stated size tells
        which, and upright is taken where it fits both. Raises `InvalidData` where it fits neither.
        """
        values = [IGNORE_INDEX if each.is_crowd else each.class_index for each in self.objects]
        return self._upright(image, lambda size: self._paint(np.full(size, self.background, np.uint8), values))

    def instance_map(self, image: bytes) -> np.ndarray:
        """Which object each pixel shows, (h, w) int32, numbered from 1 as they are listed; crowds are 0. Raises as `class_map`."""
        numbers = [0 if each.is_crowd else number for number, each in enumerate(self.objects, 1)]
        return self._upright(image, lambda size: self._paint(np.zeros(size, np.int32), numbers))

    def instances(self, image: bytes) -> list[InstanceMask]:
        """Each object whole, also where another hides it, as people drew it. Raises as `class_map`."""
        return [
            InstanceMask(
                each.class_index, _run_lengths(self._upright(image, partial(_rasterize, each.segmentation))), is_crowd=each.is_crowd
            )
            for each in self.objects
        ]

    def _upright(self, image: bytes, draw: Callable[[tuple[int, int]], np.ndarray]) -> np.ndarray:
        """What `draw` gives for the annotations' own size, as a person sees it."""
        stored, upright = stored_and_upright_size(image)
        size = self.size or upright
        if size not in (stored, upright):
            raise InvalidData(
                f"the annotations are for {size[1]} x {size[0]} pixels, the photo has {upright[1]} x {upright[0]}; correct width and height, or the polygons, in the JSON"
            )
        drawn = draw(size)
        return drawn if size == upright else orient(drawn, image)

    def _paint(self, canvas: np.ndarray, values: list[int]) -> np.ndarray:
        """`canvas` with each object's value over it, in an order that leaves smaller objects on larger ones, and these on crowds."""
        regions = [(_rasterize(each.segmentation, canvas.shape), value, each) for value, each in zip(values, self.objects)]
        for region, value, _ in sorted(regions, key=lambda entry: (not entry[2].is_crowd, -int(entry[0].sum()))):
            canvas[region > 0] = value
        return canvas


def read_coco(root: Path) -> LabelledData:
    """The records of a COCO file, or of a folder of them; label 0 is `background`, then the categories by their id.

    Layouts: annotations/instances_<split>.json with images in images/<split>/ or <split>/; <split>/_annotations.coco.json
    beside its images; one JSON file. A year behind the split's name (train2017) is dropped, `valid` is `val`. Where there
    is no `val`, 15 % are held out. Raises `InvalidData`.
    """
    files = _annotation_files(root)
    categories = _merge_categories(files)
    label_set = _label_set(categories)
    index_of = {category_id: index for index, category_id in enumerate(sorted(categories), start=1)}
    splits, refused = {}, []
    for split, path in files.items():
        records, unreadable = _records(path, split, index_of)
        splits[split], refusals = check_records(records)
        refused += unreadable + refusals
    return LabelledData(f"coco:{root}", label_set, _with_val(splits), refused)


def _annotation_files(root: Path) -> dict[str, Path]:
    if root.is_file():
        return {"train": root}
    found = {path.stem.removeprefix("instances_"): path for path in sorted((root / "annotations").glob("instances_*.json"))}
    found |= {path.parent.name: path for path in sorted(root.glob("*/_annotations.coco.json"))}
    files = {re.sub(r"\d+$", "", split).replace("valid", "val"): path for split, path in found.items()}
    if "train" not in files:
        raise InvalidData(f"{root} has no annotations/instances_train*.json; name a COCO folder that has one, or the JSON file itself")
    return files


def _load(path: Path) -> dict:
    try:
        content = json.loads(path.read_text())
        missing = [name for name in ("images", "annotations", "categories") if not isinstance(content.get(name), list)]
    except (OSError, ValueError, AttributeError) as error:
        raise InvalidData(f"{path} cannot be read as COCO JSON ({error}); export it again") from error
    if missing:
        raise InvalidData(f"{path} has no list {', '.join(missing)}; export it as COCO instances")
    for name in ("images", "categories"):
        clash = [key for key, count in Counter(entry["id"] for entry in content[name]).items() if count > 1]
        if clash:
            raise InvalidData(f"{path}: {name} share the id {clash[0]}; give each its own")
    return content


def _merge_categories(files: dict[str, Path]) -> dict[int, str]:
    merged: dict[int, str] = {}
    for path in files.values():
        for category in _load(path)["categories"]:
            if merged.setdefault(category["id"], category["name"]) != category["name"]:
                raise InvalidData(
                    f"{path}: category {category['id']} is {category['name']!r} here and {merged[category['id']]!r} in another split; use one name"
                )
    return merged


def _label_set(categories: dict[int, str]) -> LabelSet:
    ids = sorted(categories)
    try:
        return LabelSet.from_names(["background", *(categories[id_] for id_ in ids)], ids=[min([0, *ids]) - (0 in ids), *ids])
    except InvalidLabelSet as error:
        raise InvalidData(f"the COCO categories: {error}") from error


def _records(path: Path, split: str, index_of: dict[int, int]) -> tuple[list[Record], list[Refusal]]:
    content = _load(path)
    by_image: dict[int, list[dict]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        if annotation["image_id"] not in by_image:
            raise InvalidData(
                f"{path}: annotation {annotation.get('id')} is of image {annotation['image_id']}, which is not listed; export it again"
            )
        by_image[annotation["image_id"]].append(annotation)
    folder = _image_folder(path, split)
    records, refused = [], []
    for image in content["images"]:
        image_path = folder / image["file_name"]
        try:
            size = (image["height"], image["width"]) if "height" in image and "width" in image else None
            objects = tuple(_object(annotation, index_of) for annotation in by_image[image["id"]])
            records.append(Record(image_path, CocoAnnotation(objects, background=0, size=size)))
        except InvalidData as error:
            refused.append(Refusal(image_path, str(error)))
    return records, refused


def _image_folder(path: Path, split: str) -> Path:
    root = path.parent.parent if path.parent.name == "annotations" else path.parent
    name = path.stem.removeprefix("instances_")
    folders = [root / "images" / name, root / name, root / "images", root]
    return next(folder for folder in folders if folder.is_dir())


def _object(annotation: dict, index_of: dict[int, int]) -> CocoObject:
    name = f"annotation {annotation.get('id')}"
    if annotation.get("category_id") not in index_of:
        raise InvalidData(
            f"{name} has the category {annotation.get('category_id')}, which is not listed; add it to categories or remove the annotation"
        )
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, list):
        if any(len(polygon) % 2 for polygon in segmentation):
            raise InvalidData(f"{name} has a polygon with an odd number of coordinates; list x and y in turn")
        # A stray click beside a whole polygon has no area and says nothing; alone it hides where the object is.
        segmentation = [polygon for polygon in segmentation if len(polygon) >= _FEWEST_COORDINATES]
    if not segmentation:
        raise InvalidData(f"{name} has no polygon of three points or more; draw the object, or remove the annotation")
    return CocoObject(index_of[annotation["category_id"]], segmentation, bool(annotation.get("iscrowd")))


def _rasterize(segmentation: list | dict, size: tuple[int, int]) -> np.ndarray:
    """The object's pixels, (h, w) uint8, 0 and 1."""
    h, w = size
    if isinstance(segmentation, dict) and list(segmentation.get("size", ())) != [h, w]:
        raise InvalidData(f"run lengths are for {segmentation.get('size')}, the image is {[h, w]} (height, width); export them again")
    try:
        rles = (
            coco_mask.frPyObjects(segmentation, h, w)
            if isinstance(segmentation, list) or isinstance(segmentation["counts"], list)
            else segmentation
        )
        return coco_mask.decode(coco_mask.merge(rles) if isinstance(rles, list) else rles)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InvalidData(f"a segmentation cannot be read ({error}); export it as polygons or run lengths") from error


def _run_lengths(region: np.ndarray) -> dict:
    """COCO's compressed run lengths of `region` (h, w) uint8."""
    code = coco_mask.encode(np.asfortranarray(region))
    return {"size": list(region.shape), "counts": code["counts"].decode("ascii")}


def _with_val(splits: dict[str, list[Record]]) -> dict[str, list[Record]]:
    if "val" in splits:
        return splits
    held_out = hold_out((record.image_path.name for record in splits["train"]), _VAL_SHARE)
    val = [record for record in splits["train"] if record.image_path.name in held_out]
    train = [record for record in splits["train"] if record.image_path.name not in held_out]
    return splits | {"train": train, "val": val}
