"""A folder of images beside a folder of index PNGs: images/, masks/ and labels.txt, one class name a line."""

from __future__ import annotations

from pathlib import Path

from models.label_set import InvalidLabelSet, LabelSet
from pipelines.data.findings import Finding
from pipelines.data.mask_files import MaskFile
from pipelines.data.records import IMAGE_SUFFIXES, InvalidData, LabelledData, Record, hold_out

_VAL_SHARE = 0.15
_SPLITS = ("train", "val", "test")


def read_masks(root: Path) -> LabelledData:
    """The folder's records; in the splits of images/{train,val,test} where those exist, else 15 % are held out as `val`.

    A mask has the name of its image, in the same place under masks/. Raises `InvalidData`.
    """
    label_set = _label_set(root / "labels.txt")
    images = sorted(path for path in (root / "images").rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise InvalidData(f"{root / 'images'} holds no image; masks wants images/, masks/ and labels.txt in one folder")
    records = [Record(path, MaskFile(_mask_path(root, path), len(label_set))) for path in images]
    return LabelledData(f"masks:{root}", label_set, _splits(root, records), _unpaired_masks(root, images))


def _mask_path(root: Path, image: Path) -> Path:
    return (root / "masks" / image.relative_to(root / "images")).with_suffix(".png")


def _unpaired_masks(root: Path, images: list[Path]) -> list[Finding]:
    expected = {_mask_path(root, image) for image in images}
    alone = sorted(path for path in (root / "masks").rglob("*.png") if path not in expected)
    return [Finding("missing-pair", path, f"{path.name} has no image of its name; add the image or remove the mask") for path in alone]


def _splits(root: Path, records: list[Record]) -> dict[str, list[Record]]:
    named = {split: [r for r in records if (root / "images" / split) in r.image_path.parents] for split in _SPLITS}
    if named["train"]:
        return {split: chosen for split, chosen in named.items() if chosen}
    held_out = hold_out((record.image_path.stem for record in records), _VAL_SHARE)
    return {
        "train": [record for record in records if record.image_path.stem not in held_out],
        "val": [record for record in records if record.image_path.stem in held_out],
    }


def _label_set(path: Path) -> LabelSet:
    try:
        names = [line.strip() for line in path.read_text().splitlines() if line.strip()]
        return LabelSet.from_names(names)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidData(f"{path} cannot be read; write one class name a line, in the order of the masks' values from 0") from error
    except InvalidLabelSet as error:
        raise InvalidData(f"{path}: {error}") from error
