"""Golden pictures: photos with the masks that a bundle gave them when it was made, so that whoever loads it later can see that it still does.

golden/golden.json   the floors of the agreement, and the files
golden/0.jpg         a photo, at most `_LONGEST_SIDE` pixels long
golden/0.png         its index PNG, at the photo's own size

The folder lies in a bundle, or beside one among a model's artifacts. It holds pictures of the user's own data.
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from models.fit import preprocess
from models.image import NO_LIMITS, decode_image
from models.mask_png import encode_mask_png
from models.metrics import class_iou, confusion_counts, pixel_accuracy, region_outcomes
from models.restore import restore_class_map

if TYPE_CHECKING:
    from models.segmenter import Segmenter  # brings torch

FOLDER = "golden"
_INDEX = "golden.json"
_FORMAT = 1
_LONGEST_SIDE = 1024
_MIN_AGREEMENT = 0.999
_MIN_CLASS_IOU = 0.95
_FEW_PIXELS = 500  # of a class in all pictures: below it a handful of border pixels would decide


class GoldenMissing(ValueError):
    """No golden pictures, or none that can be read."""


@dataclass(frozen=True)
class Agreement:
    """How well a segmenter repeats its golden masks. `worst_class` is the name of the class with the least IoU, `worst_iou`, of those with
    enough pixels to tell; the floors are those that the pictures were written with."""

    pixels: float
    worst_class: str
    worst_iou: float
    min_pixels: float
    min_iou: float

    @property
    def is_enough(self) -> bool:
        return self.pixels >= self.min_pixels and self.worst_iou >= self.min_iou

    def __str__(self) -> str:
        return (
            f"{self.pixels:.4%} of the golden pixels agree ({self.min_pixels:.1%} must), and class {self.worst_class!r} with an IoU of "
            f"{self.worst_iou:.3f} ({self.min_iou:g} must)"
        )


def write_golden(folder: Path, segmenter: Segmenter, photos: Sequence[bytes]) -> Path:
    """Writes the golden pictures of `segmenter` for image files and returns `folder`, which appears whole or not at all.

    A photo that is longer than `_LONGEST_SIDE` is kept smaller. Raises `models.image.InvalidImage`.
    """
    if not photos:
        raise ValueError("no photos to keep as golden pictures; give one or more")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    pictures = []
    for number, photo in enumerate(map(_small_jpeg, photos)):
        names = {"photo": f"{number}.jpg", "mask": f"{number}.png"}
        (draft / names["photo"]).write_bytes(photo)
        (draft / names["mask"]).write_bytes(encode_mask_png(_mask_of(segmenter, photo), segmenter.spec.label_set))
        pictures.append(names)
    index = {"format": _FORMAT, "min_agreement": _MIN_AGREEMENT, "min_class_iou": _MIN_CLASS_IOU, "pictures": pictures}
    (draft / _INDEX).write_text(json.dumps(index, indent=2) + "\n")
    draft.chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)
    return draft.rename(folder)


def check_golden(folder: Path, segmenter: Segmenter, before_each: Callable[[], None] = lambda: None) -> Agreement:
    """How well `segmenter` repeats the masks in `folder`, all pixels of all pictures counted together. Raises `GoldenMissing`.

    `before_each` is called before each picture.
    """
    index, pictures = _read(folder)
    num_classes = len(segmenter.spec.label_set)
    counts = np.zeros((num_classes, num_classes), np.int64)
    for photo, mask in pictures:
        before_each()
        given = _mask_of(segmenter, photo)
        if mask.shape != given.shape or mask.max() >= num_classes:
            raise GoldenMissing(f"{folder}: a mask does not fit its photo or the model's {num_classes} classes; write the pictures again")
        counts += confusion_counts(mask, given, num_classes)
    outcomes = region_outcomes(counts)
    iou = class_iou(outcomes)
    is_telling = counts.sum(axis=1) + counts.sum(axis=0) >= _FEW_PIXELS
    worst = int(np.argmin(np.where(is_telling & ~np.isnan(iou), iou, np.inf)))
    name = segmenter.spec.label_set.names[worst]
    return Agreement(float(pixel_accuracy(outcomes)), name, float(iou[worst]), index["min_agreement"], index["min_class_iou"])


def _read(folder: Path) -> tuple[dict, list[tuple[bytes, np.ndarray]]]:
    """The index, and each photo with its mask (h, w) uint8."""
    try:
        index = json.loads((folder / _INDEX).read_text())
        if index["format"] != _FORMAT:
            raise ValueError(f"format {index['format']!r} is not {_FORMAT}")
        files = [[(folder / Path(each[kind]).name).read_bytes() for kind in ("photo", "mask")] for each in index["pictures"]]
        pictures = [(photo, np.asarray(Image.open(io.BytesIO(mask), formats=["PNG"]))) for photo, mask in files]
        for photo, _ in pictures:
            decode_image(photo)
        float(index["min_agreement"]), float(index["min_class_iou"])
    except (OSError, ValueError, KeyError, TypeError, SyntaxError) as error:
        raise GoldenMissing(f"{folder} has no golden pictures that can be read ({error}); promote the version again") from error
    if not pictures:
        raise GoldenMissing(f"{folder} lists no pictures; promote the version again")
    return index, pictures


def _mask_of(segmenter: Segmenter, photo: bytes) -> np.ndarray:
    spec = segmenter.spec
    return restore_class_map(segmenter.predict([preprocess(photo, spec.input_size, spec.fit_rule)])[0])


def _small_jpeg(photo: bytes) -> bytes:
    """The photo itself where it is a small JPEG, else one made of it."""
    pixels = decode_image(photo, NO_LIMITS)
    scale = _LONGEST_SIDE / max(pixels.shape[:2])
    if scale >= 1 and photo[:2] == b"\xff\xd8":
        return photo
    if scale < 1:
        h, w = (max(1, round(side * scale)) for side in pixels.shape[:2])
        pixels = cv2.resize(pixels, (w, h), interpolation=cv2.INTER_AREA)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=92)
    return file.getvalue()
