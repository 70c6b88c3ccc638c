"""`KIND:PATH`, the name of a data set wherever one is asked for."""

from __future__ import annotations

from pathlib import Path

from models.home import home
from pipelines.data.coco_files import read_coco
from pipelines.data.masks import read_masks
from pipelines.data.oxford_pets import read_oxford_pets
from pipelines.data.records import InvalidData, LabelledData
from pipelines.data.scenes import DRAWING, PARAMETERS_FILE, write_scenes
from pipelines.diagnosis.diagnose import diagnose

_READERS = {"oxford_pets": read_oxford_pets, "coco": read_coco, "masks": read_masks}
FORMS = "oxford_pets:PATH, coco:PATH, masks:PATH or scenes"


def read_data(source: str, *, repair: bool = False, input_size: tuple[int, int] = (256, 256)) -> LabelledData:
    """The data set that `source` names: oxford_pets:PATH, coco:PATH, masks:PATH, scenes or scenes:PATH.

    Every file is looked at: `findings` says what is wrong, and records that cannot be trained on are left out. `repair` applies
    the safe remedies to what is read, never to a file. `input_size` is the model's (height, width), for objects that vanish
    there. `scenes` are drawn at the first use and kept in PATH. Raises `InvalidData` where nothing can be trained on it.
    """
    data = examine_data(source, repair=repair, input_size=input_size)
    empty = [split for split in ("train", "val") if not data.splits.get(split)]
    if empty:
        left_out = [finding for finding in data.findings if finding.leaves_out and not finding.repaired]
        reasons = "".join(f"\n  {finding.path.name}: {finding.what}" for finding in left_out[:5])
        raise InvalidData(f"{source} has no usable image in {' and '.join(empty)}; {len(left_out)} files were refused{reasons}")
    return data


def examine_data(source: str, *, repair: bool, input_size: tuple[int, int]) -> LabelledData:
    """What `read_data` gives, also where a split has nothing left. Raises `InvalidData` where the layout itself cannot be read."""
    kind, _, path = source.partition(":")
    if kind == "scenes":
        listed = read_coco(draw_if_missing(source))
    elif kind in _READERS and path:
        listed = _READERS[kind](_existing(path))
    else:
        raise InvalidData(f"data {source!r} is not known; write {FORMS}")
    return diagnose(listed, repair=repair, input_size=input_size)


def draw_if_missing(source: str) -> Path | None:
    """The folder of drawn scenes that `source` names, drawn on this machine if they are not there; None for other kinds."""
    kind, _, path = source.partition(":")
    if kind != "scenes":
        return None
    folder = Path(path).expanduser().absolute() if path else home() / f"scenes-{DRAWING}"
    if path and (folder / PARAMETERS_FILE).is_file():
        return folder  # a folder of one's own, with other numbers
    try:
        return write_scenes(folder)
    except OSError as error:
        raise InvalidData(f"scenes cannot be drawn: {error}") from error


def _existing(path: str) -> Path:
    folder = Path(path).expanduser().absolute()  # workers have another current directory
    if not folder.exists():
        raise InvalidData(f"{folder} does not exist; name the folder that holds the data, as this machine sees it")
    return folder
