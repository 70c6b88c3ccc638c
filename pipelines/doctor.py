"""Says what is wrong with labelled photos before hours of training are spent on them.

python -m pipelines.doctor coco:PATH --pictures findings
python -m pipelines.doctor --help
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from PIL import Image

from pipelines.data.records import InvalidData
from pipelines.data.sources import examine_data
from pipelines.diagnosis.report import report_dict, report_text, stopping_names
from pipelines.diagnosis.sheets import draw_sheets

_CANNOT_READ = 2


@dataclass(frozen=True)
class DoctorConfig:
    """Look at every file of a data set and report what is wrong, how bad it is and what to do; no file is changed.

    Exit status: 0 where training could begin, 1 where errors would stop it, 2 where the data cannot be read at all.
    """

    data: tyro.conf.Positional[str]
    """oxford_pets:PATH, coco:PATH, masks:PATH or scenes."""
    repair: bool = False
    """Apply the safe remedies, as a training with --repair would, and report what they leave."""
    accept: tuple[str, ...] = ()
    """Errors, by name, that shall not count."""
    json: Path | None = None
    """Write the whole report here too."""
    pictures: Path | None = None
    """Draw the findings into this folder, a sheet for each kind."""
    examples: int = 3
    """Files that the terminal shows of each kind."""
    input_size: tuple[int, int] = (256, 256)
    """Height and width that the model will see."""


def main(config: DoctorConfig) -> int:
    """The exit status; prints the report."""
    data = examine_data(config.data, repair=config.repair, input_size=config.input_size)
    names = stopping_names(data.findings, config.accept)
    print(report_text(data, num_examples=config.examples))
    if names:
        print(f"errors stop a training unless it is told to do without the files in question: --accept {','.join(names)}")
    if config.json:
        _write(config.json, json.dumps(report_dict(data), indent=2))
    if config.pictures:
        config.pictures.mkdir(parents=True, exist_ok=True)
        for name, sheet in draw_sheets(data):
            Image.fromarray(sheet).save(config.pictures / f"{name}.jpg", quality=90)
    return 1 if names else 0


def _write(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text)
    draft.replace(path)


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(DoctorConfig)))
    except (InvalidData, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(_CANNOT_READ)
