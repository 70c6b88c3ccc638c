"""The doctor as a user meets it: the command's report and exit status, repairs while reading, and what stops a training."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.data.records import InvalidData
from pipelines.data.sources import examine_data, read_data
from pipelines.diagnosis.processes import map_in_processes
from pipelines.diagnosis.report import check_accepted
from pipelines.diagnosis.sheets import draw_sheets
from pipelines.doctor import DoctorConfig, main
from tests.pipelines.planted_data import PlantedCoco, PlantedMasks, scene
from tests.pipelines.test_doctor_faults import box, boxed_outline, lost_photo, outline, train_photo_in_val, white_masks

ROOT = Path(__file__).parent.parent.parent


def test_the_command_reports_the_worst_first_and_fails_on_errors(tmp_path, capsys):
    coco = PlantedCoco(tmp_path / "data")
    lost_photo(coco)
    coco.add(2, box(2, 2, 22, 30))
    coco.add(3, [[5, 5], *outline(3)])
    status = main(DoctorConfig(coco.write(), json=tmp_path / "report.json", pictures=tmp_path / "pictures"))
    said = capsys.readouterr().out
    assert status == 1
    assert said.index("error      missing-pair: 1 in 1 file") < said.index("warning    stray-point") < said.index("note       box-outline")
    assert "images/train/1.jpg: 1.jpg is named, but does not exist" in said
    assert "--accept missing-pair" in said
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["counts"] == {"missing-pair": 1, "stray-point": 1, "box-outline": 1}
    assert report["photos"] == {"train": 4, "val": 3}
    first = report["findings"][0]
    assert (first["severity"], first["file"], first["split"], first["left_out"]) == ("error", "images/train/1.jpg", "train", True)
    assert all(each["why"] and each["remedy"] for each in report["findings"])
    assert {path.stem for path in (tmp_path / "pictures").iterdir()} == {"stray-point", "box-outline"}
    assert main(DoctorConfig(coco.write(), accept=("missing-pair",))) == 0


def test_the_command_line_ends_with_2_where_nothing_can_be_read(tmp_path):
    (tmp_path / "instances.json").write_text("[]")
    command = [sys.executable, "-m", "pipelines.doctor", f"coco:{tmp_path / 'instances.json'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONWARNINGS": "error"})
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr


def test_a_sheet_marks_the_object_in_red_on_its_photo(tmp_path):
    coco = PlantedCoco(tmp_path)
    coco.add(1, box(20, 30, 60, 90))
    ((name, sheet),) = draw_sheets(read_data(coco.write()))
    assert name == "box-outline"
    red = (sheet == (230, 0, 40)).all(axis=2)
    rows, columns = np.nonzero(red)
    scale = 300 / 160  # the photo's 160 pixels fill a panel of 300
    assert np.allclose([columns.min(), rows.min(), columns.max(), rows.max()], np.array([20, 30, 60, 90]) * scale, atol=4)


def test_a_repair_drops_the_box_over_an_outline_and_touches_no_file(tmp_path):
    coco = PlantedCoco(tmp_path)
    boxed_outline(coco)
    source = coco.write()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    plain, repaired = read_data(source), read_data(source, repair=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    corner = (120 // 2 - 18, 160 // 2 - 28)  # in the box, outside the ellipse
    maps = [next(each for each in data.splits["train"] if each.image_path.name == "1.jpg").read()[1] for data in (plain, repaired)]
    assert maps[0][corner] == 1
    assert maps[1][corner] == scene(1).class_mask[corner] != 1
    assert [finding.repaired for finding in repaired.findings] == [True]
    assert plain.digest() != repaired.digest()


def test_a_repair_keeps_the_photo_that_is_in_two_splits_out_of_train(tmp_path):
    coco = PlantedCoco(tmp_path)
    train_photo_in_val(coco)
    data = read_data(coco.write(), repair=True)
    assert [record.image_path.name for record in data.splits["train"]] == ["0.jpg", "2.jpg", "3.jpg", "4.jpg"]
    assert len(data.splits["val"]) == 3
    check_accepted(data, ())


def test_a_repair_reads_255_as_the_class_only_where_no_mask_says_otherwise(tmp_path):
    all_white, one_white = PlantedMasks(tmp_path / "all"), PlantedMasks(tmp_path / "one")
    white_masks(all_white)
    Image.fromarray((scene(1).class_mask > 0).astype(np.uint8) * np.uint8(255)).save(one_white.mask(1))
    data = read_data(all_white.write(), repair=True)
    assert [len(records) for records in data.splits.values()] == [5, 3]
    assert (data.splits["train"][1].read()[1] == (scene(1).class_mask > 0)).all()
    data = read_data(one_white.write(), repair=True)
    assert [record.image_path.name for record in data.splits["train"]] == ["0.jpg", "2.jpg", "3.jpg", "4.jpg"]


def test_a_repair_reads_indices_that_were_saved_as_a_colour_picture(tmp_path):
    masks = PlantedMasks(tmp_path)
    values = (scene(1).class_mask > 0).astype(np.uint8)
    Image.fromarray(np.stack([values] * 3, 2)).save(masks.mask(1))
    data = read_data(masks.write(), repair=True)
    assert (data.splits["train"][1].read()[1] == values).all()


def test_errors_stop_a_training_unless_they_are_accepted_by_name(tmp_path):
    coco = PlantedCoco(tmp_path)
    lost_photo(coco)
    coco.add(2, [[5, 5]])
    data = read_data(coco.write())
    with pytest.raises(InvalidData, match="--accept missing-pair,few-points"):
        check_accepted(data, ())
    with pytest.raises(InvalidData, match="--accept few-points"):
        check_accepted(data, ("missing-pair",))
    check_accepted(data, ("missing-pair,few-points",))
    check_accepted(data, ("missing-pair", "few-points"))
    with pytest.raises(InvalidData, match="names no finding"):
        check_accepted(data, ("missing-pears",))


@pytest.mark.slow
def test_a_file_that_kills_its_process_costs_nothing_but_itself():
    numbers = list(range(80))
    assert map_in_processes(_die_of_41, numbers, crashed=lambda number: -number, what="test") == [
        -number if number == 41 else number for number in numbers
    ]


def _die_of_41(number):
    if number == 41:
        os._exit(1)
    return number


@pytest.mark.slow
def test_many_files_are_examined_as_few_are(tmp_path):
    coco = PlantedCoco(tmp_path)
    pixels = scene(0).image
    for copy in range(70):
        Image.fromarray(np.roll(pixels, copy * 7 + 7, axis=copy % 2)).save(coco.photo(0).with_name(f"extra{copy}.jpg"))
        coco.content["train"]["images"].append({"id": 100 + copy, "file_name": f"extra{copy}.jpg", "height": 120, "width": 160})
        coco.add(100 + copy, outline(0))
    coco.add(169, box(20, 30, 60, 90))
    data = examine_data(coco.write(), repair=False, input_size=(256, 256))
    assert len(data.splits["train"]) == 75
    assert [finding.path.name for finding in data.findings if finding.name == "box-outline"] == ["extra69.jpg"]
