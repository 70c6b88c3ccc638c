"""Whether a network is trained to tell objects apart."""

import numpy as np
import pytest
from PIL import Image

from models.spec import Architecture
from pipelines.data.records import InvalidData
from pipelines.data.scenes import write_scenes
from pipelines.data.sources import read_data
from pipelines.train import decide_head


def test_where_nothing_is_said_the_data_decides_and_else_the_caller(tmp_path):
    scenes = read_data(f"coco:{write_scenes(tmp_path / 'scenes', num_train=1, num_val=1, size=(64, 64))}")
    assert decide_head(Architecture(), scenes).instances is True
    assert decide_head(Architecture(instances=False), scenes).instances is False


def test_masks_alone_mark_no_objects(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / name / f"{i}.png")
    (tmp_path / "labels.txt").write_text("background\ncan\n")
    masks = read_data(f"masks:{tmp_path}")
    assert decide_head(Architecture(), masks).instances is False
    with pytest.raises(InvalidData, match="marks no single objects, which --instances needs"):
        decide_head(Architecture(instances=True), masks)
