import json

import numpy as np
import pytest
from PIL import Image

from models.bundle import load_bundle
from pipelines.data.records import InvalidData
from pipelines.data.scenes import write_scenes
from pipelines.data.sources import read_data
from pipelines.evaluate import EvaluateConfig, main
from pipelines.object_evaluation import evaluate_objects, marks_objects, mean_rand_error, predict_objects


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Drawn shelves, on some of which objects of one class touch."""
    return f"coco:{write_scenes(tmp_path_factory.mktemp('data') / 'scenes', num_train=1, num_val=4, size=(96, 128))}"


@pytest.fixture(scope="module")
def masks(scenes, tmp_path_factory):
    """A folder of masks without a wrong pixel."""
    folder = tmp_path_factory.mktemp("masks")
    for record in read_data(scenes).splits["val"]:
        Image.fromarray(record.read()[1]).save(folder / f"{record.image_path.stem}.png")
    return folder


def test_true_objects_are_found_exactly(scenes):
    data = read_data(scenes)
    records = data.splits["val"]
    assert marks_objects(records)
    metrics = evaluate_objects(
        records, data.label_set, lambda record: record.annotation.instances(record.image_path.read_bytes()), num_threads=2
    ).summary()
    assert metrics["ap"] == metrics["pq"] == pytest.approx(1) and metrics["counting_error"] == 0


def test_the_command_shows_that_a_perfect_class_map_does_not_tell_touching_objects_apart(scenes, masks, tmp_path, capsys):
    main(EvaluateConfig(data=scenes, predictions=masks, json_file=tmp_path / "metrics.json"))
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["metrics"]["miou"] == 1
    assert 0 < written["objects"]["ap50"] < 1 and written["objects"]["counting_error"] > 0
    said = capsys.readouterr().out
    assert f"ap50              {written['objects']['ap50']:>7.4f}" in said and "objects: mask AP as COCO's" in said


def test_a_bundles_objects_are_at_the_photos_own_size(scenes, bundle_folder):
    data = read_data(scenes)
    segmenter = load_bundle(bundle_folder)
    found = predict_objects(segmenter, data.splits["val"][0])
    assert {each.class_index for each in found} <= {0, 2} and all(each.run_lengths["size"] == [96, 128] for each in found)


def test_the_command_measures_the_rand_error_of_a_class_and_refuses_one_that_is_not_there(scenes, masks, capsys):
    main(EvaluateConfig(data=scenes, predictions=masks, rand_error_class="can"))
    assert "rand_error         0.0000   of can: 1 - F-score" in capsys.readouterr().out
    with pytest.raises(InvalidData, match="no class 'cell'; choose one of background, can"):
        main(EvaluateConfig(data=scenes, predictions=masks, rand_error_class="cell"))


def test_the_rand_error_is_the_mean_of_the_photos_that_have_the_class(scenes):
    records = read_data(scenes).splits["val"]

    def none_apart(record):
        return np.ones_like(record.read()[1])

    numbers = [mean_rand_error([record], none_apart, 1, num_threads=1) for record in records]
    assert mean_rand_error(records, none_apart, 1, num_threads=2) == pytest.approx(np.nanmean(numbers))
    assert np.isnan(mean_rand_error(records[:1], none_apart, 99, num_threads=1))
