"""What can be wrong with a data set: the kinds of finding by their stable names, and one finding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pipelines.data.records import Record

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Kind:
    """A kind of finding: how bad, why it matters, what to do, and what `--repair` does about it while reading, if that is safe."""

    severity: Severity
    why: str
    remedy: str
    repair: str | None = None


KINDS: dict[str, Kind] = {
    # Files
    "unreadable-image": Kind("error", "the photo cannot be trained on and is left out", "copy or export the file again, or remove it"),
    "unreadable-annotation": Kind("error", "where the objects are is unknown; the photo is left out", "export the annotation again"),
    "missing-pair": Kind("error", "half of an example teaches nothing and is left out", "bring the other half back, or remove this one"),
    "misnamed-file": Kind(
        "warning", "read by content here, but other tools trust the name and fail", "rename it, or convert it to what it says"
    ),
    "unlisted-file": Kind("note", "nobody trains on it", "annotate it, or remove it"),
    # Frames and sizes
    "size-mismatch": Kind(
        "error",
        "outlines would lie beside the objects; the photo is left out",
        "correct the stated size, or export the annotation at the photo's size",
    ),
    "exif-frame": Kind(
        "warning",
        "drawn over the file as stored; turned together with the photo here, but tools that turn only one of them train on shifted masks",
        "nothing needed here; elsewhere, turn the pixels and drop the EXIF tag",
    ),
    "exif-undecided": Kind(
        "note",
        "EXIF turns the photo in a way that keeps its size, so sizes cannot tell which frame the annotation is in; upright is assumed",
        "look at its picture; turn the pixels and drop the EXIF tag",
    ),
    "exif-suspect": Kind(
        "warning",
        "EXIF turns the photo in a way that keeps its size, and the outlines fit the edges of the photo before its turn clearly better",
        "look at its picture; if the outlines are off, turn the pixels and drop the EXIF tag",
    ),
    # Objects
    "few-points": Kind("error", "the object is somewhere, unmarked; the photo is left out", "draw the object, or remove the annotation"),
    "stray-point": Kind("warning", "a slip of the mouse; it has no area and is dropped", "remove the polygon with less than 3 points"),
    "duplicate-object": Kind(
        "warning",
        "one object counts twice; where a box lies over an outline, the box's corners are trained as object",
        "remove one of the two annotations",
        repair="the box, or the later one of two equal outlines, is dropped",
    ),
    "contested-object": Kind("error", "the same pixels belong to two classes; which one wins is chance", "remove the wrong annotation"),
    "off-photo": Kind(
        "warning", "outlines beyond the photo hint at another frame or size; what lies beyond is cut off", "check it, and clip the outline"
    ),
    "empty-object": Kind("warning", "it covers no pixel of the photo and teaches nothing", "draw it again, or remove it"),
    "vanishing-object": Kind(
        "note", "at the model's input size it is less than a few pixels and cannot be learnt", "use a larger input size, or crop the photos"
    ),
    "box-outline": Kind(
        "note", "a box stands for the outline; its corners are trained as object", "draw the outline where the object is no box"
    ),
    # Masks
    "binary-mask": Kind(
        "error",
        "255 means ignored, so only background would be trained; the photo is left out",
        "write the class's index instead of 255",
        repair="255 is read as class 1, where there are two classes and no mask uses 1",
    ),
    "colour-mask": Kind(
        "error",
        "colours are no class indices; the photo is left out",
        "convert the colours to indices",
        repair="where all channels are equal, one of them is read",
    ),
    "unknown-value": Kind(
        "error", "values without a class cannot be trained; the photo is left out", "export indices, or complete the labels"
    ),
    "unknown-category": Kind("error", "a class without a name cannot be trained; the photo is left out", "add it to the categories"),
    "empty-mask": Kind(
        "warning", "the mask says the same of every pixel; often an export that failed", "check that there is nothing to mark"
    ),
    "no-objects": Kind("warning", "the whole photo is trained as background", "check that there is nothing to mark"),
    # Ids
    "clashing-id": Kind("error", "it cannot be told which of them is meant; they are left out", "give each its own id"),
    "repeated-id": Kind("warning", "both are read here, but other tools drop or mix them", "give each annotation its own id"),
    "skipped-id": Kind(
        "note", "classes are numbered in the order of their ids here; do not take ids for indices", "nothing, if it is meant"
    ),
    # Splits
    "photo-in-two-splits": Kind(
        "error",
        "the model is measured on what it has learnt by heart; the numbers are too good",
        "keep it in one split",
        repair="it is left out of train (of val, where the other is in test)",
    ),
    "burst-across-splits": Kind(
        "warning",
        "two shots of one scene: the model is measured on nearly what it has learnt; the numbers are too good",
        "keep both shots in one split",
        repair="it is left out of train (of val, where the other is in test)",
    ),
    "repeated-photo": Kind("warning", "it counts twice, and two annotations of it may disagree", "remove one of the two"),
    "empty-split": Kind("error", "there is nothing to train on, or nothing to choose the best model by", "put photos into it"),
    "one-class-split": Kind("error", "with one class there is nothing to tell apart", "mark the other classes, or mix the splits anew"),
    "unseen-class": Kind("warning", "it is measured but never trained: its IoU will be 0", "move photos of it to train"),
    "absent-class": Kind("warning", "it has a name and no object", "mark some, or drop the name"),
    "imbalance": Kind("note", "rare classes are learnt late or never", "collect more photos of them"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: `name` is a key of `KINDS`, `what` a sentence about this file.

    `marks` are the objects it is about, as indices into the annotation's objects, `other` the second photo of a pair,
    and `record` what a picture of it is drawn from.
    """

    name: str
    path: Path
    what: str
    leaves_out: bool = False
    """The reader gives no record of this photo."""
    repaired: bool = False
    """Mended while reading, so it is no longer in what was read."""
    split: str | None = None
    marks: tuple[int, ...] = ()
    other: Path | None = None
    record: Record | None = None

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]

    @property
    def severity(self) -> Severity:
        return self.kind.severity
