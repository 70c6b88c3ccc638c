"""COCO's JSON files, as listed records: what they say of each photo, and what is wrong with what they say."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from models.label_set import InvalidLabelSet, LabelSet
from pipelines.data.coco import CocoAnnotation, CocoObject
from pipelines.data.findings import Finding
from pipelines.data.records import IMAGE_SUFFIXES, InvalidData, LabelledData, Record, hold_out

_VAL_SHARE = 0.15
_FEWEST_COORDINATES = 6  # three points
_FARTHEST = 1e5  # pixels; outlines are drawn line by line, and a slipped digit would take hours
_NAMED = 5  # ids that a sentence gives as examples


@dataclass
class _Listing:
    """One JSON file's records and findings, while they are collected."""

    records: list[Record] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def read_coco(root: Path) -> LabelledData:
    """The records of a COCO file, or of a folder of them; label 0 is `background`, then the categories by their id.

    Layouts: annotations/instances_<split>.json with images in images/<split>/ or <split>/; <split>/_annotations.coco.json
    beside its images; one JSON file. A year behind the split's name (train2017) is dropped, `valid` is `val`. Where there
    is no `val`, 15 % are held out. Raises `InvalidData`.
    """
    files = _annotation_files(root)
    contents = {split: _load(path) for split, path in files.items()}
    categories = _merge_categories(files, contents)
    label_set = _label_set(categories)
    index_of = {category_id: index for index, category_id in enumerate(sorted(categories), start=1)}
    listings = {split: _list(path, split, contents[split], index_of) for split, path in files.items()}
    findings = [finding for listing in listings.values() for finding in listing.findings]
    findings += _skipped_ids(files["train"], sorted(categories)) + _unlisted_files(files, contents)
    return LabelledData(f"coco:{root}", label_set, _with_val({split: each.records for split, each in listings.items()}), findings)


def _annotation_files(root: Path) -> dict[str, Path]:
    if root.is_file():
        return {"train": root}
    found = {path.stem.removeprefix("instances_"): path for path in sorted((root / "annotations").glob("instances_*.json"))}
    found |= {path.parent.name: path for path in sorted(root.glob("*/_annotations.coco.json"))}
    files = {re.sub(r"\d+$", "", split).replace("valid", "val"): path for split, path in found.items()}
    if "train" not in files:
        raise InvalidData(f"{root} has no annotations/instances_train*.json; name a COCO folder that has one, or the JSON file itself")
    return files


def _load(path: Path) -> dict[str, list[dict]]:
    try:
        content = json.loads(path.read_text())
        missing = [name for name in ("images", "annotations", "categories") if not isinstance(content.get(name), list)]
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise InvalidData(f"{path} cannot be read as COCO JSON ({error}); export it again") from error
    if missing:
        raise InvalidData(f"{path} has no list {', '.join(missing)}; export it as COCO instances")
    needed = {"images": {"id": int | str, "file_name": str}, "annotations": {"image_id": int | str}, "categories": {"id": int, "name": str}}
    for name, fields in needed.items():
        for entry in content[name]:
            if not isinstance(entry, dict) or not all(isinstance(entry.get(key), type_) for key, type_ in fields.items()):
                raise InvalidData(f"{path}: {name} holds {str(entry)[:80]}; each entry needs {' and '.join(fields)}: export it again")
    clash = _repeated(category["id"] for category in content["categories"])
    if clash:
        raise InvalidData(f"{path}: categories share the id {clash[0]}; give each its own")
    return content


def _merge_categories(files: dict[str, Path], contents: dict[str, dict]) -> dict[int, str]:
    merged: dict[int, str] = {}
    for split, path in files.items():
        for category in contents[split]["categories"]:
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


def _list(path: Path, split: str, content: dict, index_of: dict[int, int]) -> _Listing:
    listing = _Listing()
    folder = _image_folder(path, split)
    by_image: dict[object, list[dict]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        if annotation["image_id"] in by_image:
            by_image[annotation["image_id"]].append(annotation)
        else:
            what = f"annotation {annotation.get('id')} is of image {annotation['image_id']}, which is not listed"
            listing.findings.append(Finding("missing-pair", path, what, split=split))
    repeated = _repeated(annotation["id"] for annotation in content["annotations"] if isinstance(annotation.get("id"), int | str))
    if repeated:
        what = f"{len(repeated)} annotation ids stand twice or more: {_examples(repeated)}"
        listing.findings.append(Finding("repeated-id", path, what, split=split))
    shared = set(_repeated(image["id"] for image in content["images"]))
    listed_twice = set(_repeated(image["file_name"] for image in content["images"]))
    for image in content["images"]:
        image_path = folder / image["file_name"]
        if image["id"] in shared or image["file_name"] in listed_twice:
            what = f"shares the id {image['id']} with another photo" if image["id"] in shared else "is listed under several ids"
            listing.findings.append(Finding("clashing-id", image_path, what, leaves_out=True, split=split))
        else:
            _list_image(listing, image_path, split, image, by_image[image["id"]], index_of)
    return listing


def _list_image(listing: _Listing, path: Path, split: str, image: dict, annotations: list[dict], index_of: dict[int, int]) -> None:
    """Nothing; the listing has the image's record, or why there is none."""
    objects, findings = [], []
    for annotation in annotations:
        try:
            each, num_strays = _object(annotation, index_of)
        except InvalidData as error:
            findings.append(Finding(error.finding, path, str(error), leaves_out=True, split=split))
            continue
        if num_strays:
            what = f"annotation {each.id} has {num_strays} polygon(s) of less than 3 points beside the outline"
            findings.append(Finding("stray-point", path, what, split=split, marks=(len(objects),)))
        objects.append(each)
    if not annotations:
        findings.append(Finding("no-objects", path, "the file lists it without any annotation", split=split))
    height, width = image.get("height"), image.get("width")
    size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    record = Record(path, CocoAnnotation(tuple(objects), background=0, size=size))
    listing.findings += [_drawn_from(finding, record) for finding in findings]
    if not any(finding.leaves_out for finding in findings):
        listing.records.append(record)


def _drawn_from(finding: Finding, record: Record) -> Finding:
    return Finding(**(vars(finding) | {"record": record}))


def _image_folder(path: Path, split: str) -> Path:
    root = path.parent.parent if path.parent.name == "annotations" else path.parent
    name = path.stem.removeprefix("instances_")
    folders = [root / "images" / name, root / name, root / "images", root]
    return next(folder for folder in folders if folder.is_dir())


def _object(annotation: dict, index_of: dict[int, int]) -> tuple[CocoObject, int]:
    """The object, and how many stray points were dropped from its outline. Raises `InvalidData`."""
    name, category = f"annotation {annotation.get('id')}", annotation.get("category_id")
    if not isinstance(category, int) or category not in index_of:
        raise InvalidData(
            f"{name} has the category {category}, which is not listed; add it to categories or remove the annotation", "unknown-category"
        )
    segmentation, num_strays = annotation.get("segmentation"), 0
    if isinstance(segmentation, list):
        for polygon in segmentation:
            _check_polygon(polygon, name)
        # A stray click beside a whole polygon has no area and says nothing; alone it hides where the object is.
        whole = [polygon for polygon in segmentation if len(polygon) >= _FEWEST_COORDINATES]
        segmentation, num_strays = whole, len(segmentation) - len(whole)
    if not segmentation:
        raise InvalidData(f"{name} has no polygon of three points or more; draw the object, or remove the annotation", "few-points")
    if not isinstance(segmentation, list | dict):
        raise InvalidData(f"{name} has a segmentation of type {type(segmentation).__name__}; export polygons or run lengths")
    return CocoObject(index_of[category], segmentation, bool(annotation.get("iscrowd")), annotation.get("id")), num_strays


def _check_polygon(polygon: object, name: str) -> None:
    try:
        coordinates = np.asarray(polygon, np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidData(f"{name} has a polygon that is no list of numbers; list x and y in turn") from error
    if coordinates.ndim != 1 or len(coordinates) % 2:
        raise InvalidData(f"{name} has a polygon with an odd number of coordinates; list x and y in turn")
    if not (np.abs(coordinates) < _FARTHEST).all():  # false for NaN too
        raise InvalidData(f"{name} has a coordinate beyond {_FARTHEST:.0f} or none at all; draw the object again")


def _skipped_ids(path: Path, ids: list[int]) -> list[Finding]:
    skipped = [id_ for before, after in pairwise(ids) for id_ in range(before + 1, min(after, before + 1 + _NAMED))]
    if not skipped:
        return []
    return [Finding("skipped-id", path, f"{len(ids)} categories have the ids {ids[0]} to {ids[-1]}; missing are {_examples(skipped)}")]


def _unlisted_files(files: dict[str, Path], contents: dict[str, dict]) -> list[Finding]:
    folders = {split: _image_folder(path, split) for split, path in files.items()}
    listed = {folders[split] / image["file_name"] for split in files for image in contents[split]["images"]}
    found = {path for folder in set(folders.values()) for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}
    return [Finding("unlisted-file", path, "no JSON file lists it") for path in sorted(found - listed)]


def _repeated(values) -> list:
    return [value for value, count in Counter(values).items() if count > 1]


def _examples(values: list) -> str:
    return ", ".join(map(str, values[:_NAMED])) + (" and more" if len(values) > _NAMED else "")


def _with_val(splits: dict[str, list[Record]]) -> dict[str, list[Record]]:
    if "val" in splits or not splits["train"]:
        return splits
    held_out = hold_out((record.image_path.name for record in splits["train"]), _VAL_SHARE)
    val = [record for record in splits["train"] if record.image_path.name in held_out]
    train = [record for record in splits["train"] if record.image_path.name not in held_out]
    return splits | {"train": train, "val": val}
