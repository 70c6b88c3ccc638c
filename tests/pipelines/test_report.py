"""The pages that a person looks at after a measurement."""

import csv
import io
import json

import cv2
import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image
from ray import cloudpickle

from models.label_set import LabelSet
from models.metrics import SegmentationCounts
from models.spec import Architecture, SegmenterSpec
from models.unet import build_network
from pipelines.confusion_picture import confusion_png
from pipelines.counting import Evaluation
from pipelines.data.mask_files import MaskFile
from pipelines.data.records import LabelledData, Record
from pipelines.examine import examine
from pipelines.model_card import ModelCard
from pipelines.pictures import Comparison, draw_edge_errors, error_sheet
from pipelines.report import Report
from pipelines.tracking import TrackedRun

LABELS = LabelSet.from_names(["background", "can", "jar|box"])
WHITE, ORANGE, BLUE = (255, 255, 255), (255, 120, 0), (60, 170, 255)


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> list[Record]:
    """Three photos of a white square on black, which is a can."""
    folder = tmp_path_factory.mktemp("photos")
    found = []
    for i in range(3):
        mask = np.zeros((40, 60), np.uint8)
        mask[10:30, 10:30] = 1
        Image.fromarray(np.stack([mask * 255] * 3, axis=-1)).save(folder / f"photo{i}.png")
        Image.fromarray(mask).save(folder / f"mask{i}.png")
        found.append(Record(folder / f"photo{i}.png", MaskFile(folder / f"mask{i}.png", len(LABELS))))
    return found


def predict(record: Record) -> np.ndarray:
    """Right for photo 0, a can shifted by two pixels in photo 1, nothing in photo 2."""
    shift = {"photo0": 0, "photo1": 2, "photo2": 100}[record.image_path.stem]
    return np.roll(np.pad(record.read()[1], ((0, 0), (0, 100))), shift, axis=1)[:, :60].copy()


@pytest.fixture(scope="module")
def report(records) -> Report:
    counts = [SegmentationCounts.of(record.read()[1], predict(record), 3) for record in records]
    return Report.of(Evaluation.of(counts, LABELS), records, LABELS)


def test_the_pages_are_written_and_the_worst_photo_comes_first(report, tmp_path):
    report.write(tmp_path, predict)
    assert {path.name for path in tmp_path.iterdir()} == {"evaluation.json", "per_class.csv", "confusion_matrix.png", "worst_images.jpg"}
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert written["images"][0]["miou"] == 1
    assert [each.title.split()[0] for each in report._worst(predict)] == ["photo2.png", "photo1.png", "photo0.png"]
    with Image.open(tmp_path / "worst_images.jpg") as picture:
        assert picture.height > picture.width / 2


def test_the_table_of_classes_has_photos_pixels_and_intervals_and_blanks_where_a_class_is_absent(report):
    background, can, jar = csv.DictReader(io.StringIO(report.as_csv()))
    assert (can["class"], can["images"], can["pixels"]) == ("can", "3", "1200")
    # Of 1,200 pixels 400 + 360 are found, and 40 claimed that are none.
    assert can["iou"] == f"{760 / 1240:.4f}"
    assert (float(can["iou_low"]), float(can["iou_high"])) == (0, 1)
    assert (jar["images"], jar["iou"], jar["boundary_iou_high"]) == ("0", "", "")
    assert float(background["iou"]) > 0.8


def test_a_trained_network_is_measured_as_it_arrives_in_another_process_and_its_pages_are_in_the_run(records, tmp_path):
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run_id = client.create_run(client.create_experiment("e", artifact_location=tmp_path.as_uri())).info.run_id
    spec = SegmenterSpec(Architecture(encoder="tu-test_resnet"), LABELS, (32, 32))
    data = LabelledData("masks:here", LABELS, {"train": records, "val": records}, [])
    sent = (build_network(spec.architecture, 3), spec, data, data.source, TrackedRun(f"sqlite:///{tmp_path / 'mlflow.db'}", run_id))
    found = cloudpickle.loads(cloudpickle.dumps(examine(*cloudpickle.loads(cloudpickle.dumps(sent)))))
    assert found.evaluation.total.confusion.sum() == found.evaluation.total.calibration.sum() == 3 * 40 * 60
    pages = {artifact.path for artifact in client.list_artifacts(run_id, "evaluation")}
    assert {"evaluation/confusion_matrix.png", "evaluation/per_class.csv", "evaluation/worst_images.jpg"} <= pages


def test_edges_are_white_where_found_orange_where_false_and_blue_where_missed():
    mask, predicted = np.zeros((2, 100, 200), np.uint8)
    mask[20:80, 20:60] = 1  # found, two pixels aside
    predicted[20:80, 22:62] = 1
    mask[20:80, 80:120] = 1  # missed
    predicted[20:80, 140:180] = 1  # false
    drawn = draw_edge_errors(Comparison("", np.zeros((100, 200, 3), np.uint8), mask, predicted), LABELS)
    assert tuple(drawn[50, 22]) == WHITE
    assert tuple(drawn[50, 80]) == BLUE
    assert tuple(drawn[50, 140]) == ORANGE
    assert tuple(drawn[50, 30]) == (0, 0, 0)
    assert {tuple(color) for color in drawn[:, :70].reshape(-1, 3).tolist()} == {WHITE, (0, 0, 0)}


def test_a_right_outline_of_the_wrong_class_is_both_missed_and_false():
    mask = np.zeros((100, 100), np.uint8)
    mask[20:80, 20:80] = 1
    drawn = draw_edge_errors(Comparison("", np.zeros((100, 100, 3), np.uint8), mask, mask * 2), LABELS)
    colors = {tuple(color) for color in drawn.reshape(-1, 3).tolist()}
    assert WHITE not in colors
    assert colors & {ORANGE, BLUE}


def test_a_photo_of_any_size_has_a_row_of_the_same_size():
    sizes = [(9, 4000), (4000, 9), (30, 40)]
    comparisons = [Comparison("name", np.zeros((*size, 3), np.uint8), *np.zeros((2, *size), np.uint8)) for size in sizes]
    rows = [error_sheet([each], LABELS).shape for each in comparisons]
    assert len(set(rows)) == 1


@pytest.mark.parametrize("num_classes", [2, 45])
def test_a_confusion_matrix_is_a_picture_for_few_classes_and_many(num_classes):
    label_set = LabelSet.from_names([f"class with a rather long name {i}" for i in range(num_classes)])
    counts = np.eye(num_classes, dtype=np.int64) * 5
    counts[0] = 0
    picture = cv2.imdecode(np.frombuffer(confusion_png(counts, label_set), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[0] > 300


def test_a_card_says_what_the_model_is_how_good_and_where_it_is_weak(report, records):
    spec = SegmenterSpec(Architecture(), LABELS, (96, 128))
    data = LabelledData("masks:here", LABELS, {"train": records, "val": records}, [])
    provenance = {"data": "masks:here", "data_digest": "d1e5", "run_id": "a1b2", "code_version": "c0de", "versions": {"torch": "2.14"}}
    provenance["start_from"] = "models:/shelf/2"
    card = ModelCard("cans", "3", spec, data, "val", report, provenance).markdown()
    found = report.intervals["boundary_iou"]
    for sentence in (
        "# cans, version 3",
        "one of 3 classes: background, can, jar|box",
        "96 x 128",
        f"| boundary_iou | {found.value:.4f} | {found.low:.4f} to {found.high:.4f} |",
        "| jar\\|box | 0 |  |  |  |  |",
        "fewer than 10 photos of `val`, so hardly measured: background, can, jar|box",
        "model_uri=models:/cans/3",
        "masks:here (3 train, 3 val), digest `d1e5`",
        "run: `a1b2`",
        "began with what models:/shelf/2 had learnt",
        "Licence",
    ):
        assert sentence in card
    assert "Confidence and accuracy" not in card  # it was not measured
