"""Oxford-IIIT Pet's official tree: images/, annotations/trimaps/, annotations/trainval.txt and test.txt."""

from __future__ import annotations

from pathlib import Path

from models.label_set import LabelSet
from pipelines.data.findings import Finding
from pipelines.data.mask_files import MaskFile
from pipelines.data.records import IMAGE_SUFFIXES, InvalidData, LabelledData, Record, hold_out

NAMES = ["pet", "background", "border"]  # in the order of the trimaps' values 1, 2, 3
_VAL_SHARE = 0.1  # of trainval; the official test list is never looked at while training


def read_oxford_pets(root: Path) -> LabelledData:
    """The pets in the splits `train`, `val` (both from trainval.txt) and `test`; files in no list are left out.

    Images are read by content: some files named .jpg hold a GIF or a PNG. Raises `InvalidData` without the official tree.
    """
    label_set = LabelSet.from_names(NAMES, ids=[1, 2, 3])
    trainval, test = (_listed(root / "annotations" / f"{name}.txt") for name in ("trainval", "test"))
    held_out = hold_out(trainval, _VAL_SHARE)
    names = {"train": [n for n in trainval if n not in held_out], "val": [n for n in trainval if n in held_out], "test": test}
    splits = {split: [_record(root, stem) for stem in stems] for split, stems in names.items()}
    return LabelledData(f"oxford_pets:{root}", label_set, splits, _unlisted_files(root, {*trainval, *test}))


def _record(root: Path, stem: str) -> Record:
    trimap = MaskFile(root / "annotations" / "trimaps" / f"{stem}.png", len(NAMES), first_value=1)
    return Record(root / "images" / f"{stem}.jpg", trimap)


def _unlisted_files(root: Path, listed: set[str]) -> list[Finding]:
    images = (root / "images").glob("*")
    unlisted = sorted(path for path in images if path.suffix.lower() in IMAGE_SUFFIXES and path.stem not in listed)
    return [Finding("unlisted-file", path, "neither trainval.txt nor test.txt lists it") for path in unlisted]


def _listed(path: Path) -> list[str]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidData(f"{path} cannot be read; oxford_pets wants the folder with images/ and annotations/, as downloaded") from error
    return [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
