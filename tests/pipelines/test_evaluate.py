import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from models.bundle import load_bundle
from models.fit import preprocess
from models.mask_png import encode_mask_png
from models.metrics import SegmentationCounts
from models.restore import restore_class_map
from pipelines.counting import Evaluation, count_images
from pipelines.data.records import InvalidData
from pipelines.data.sources import read_data
from pipelines.evaluate import EvaluateConfig, count_answers, main, metrics_table


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """A folder of five noisy images of different sizes with random masks of the pets' classes."""
    root, random = tmp_path_factory.mktemp("pets"), np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir()
    for i in range(5):
        size = (50 + 10 * i, 90 - 5 * i)
        Image.fromarray(random.integers(0, 255, (*size, 3), dtype=np.uint8)).save(root / f"images/{i}.png")
        Image.fromarray(random.integers(0, 3, size, dtype=np.uint8)).save(root / f"masks/{i}.png")
    (root / "labels.txt").write_text("pet\nbackground\nborder\n")
    return f"masks:{root}"


@pytest.fixture(scope="module")
def records(pets):
    data = read_data(pets)
    return data.splits["train"] + data.splits["val"]


def total(counts) -> SegmentationCounts:
    return sum(counts, SegmentationCounts.zeros(3))


def test_counts_are_the_same_integers_for_1_2_and_4_workers_and_any_batch_size(bundle_folder, records):
    segmenter = load_bundle(bundle_folder)
    whole = total(count_images(segmenter, records))
    assert whole.confusion.sum() == whole.calibration.sum() == sum(record.read()[1].size for record in records)
    for num_workers in (2, 4):
        shards = [total(count_images(segmenter, records[rank::num_workers])) for rank in range(num_workers)]
        assert (sum(shard.vector for shard in shards) == whole.vector).all()
    for batch_size in (1, 3):
        assert (total(count_images(segmenter, records, batch_size=batch_size)).vector == whole.vector).all()


def test_each_photo_is_counted_by_itself_in_the_records_order(bundle_folder, records, pet_labels):
    segmenter = load_bundle(bundle_folder)
    evaluation = Evaluation.of(count_images(segmenter, records, batch_size=2), pet_labels)
    for index, record in enumerate(records):
        alone = total(count_images(segmenter, [record])).outcomes
        assert (evaluation.images.regions[index] == alone.regions).all()
        assert (evaluation.images.boundary[index] == alone.boundary).all()
    assert (evaluation.images.regions.sum(axis=0) == evaluation.total.outcomes.regions).all()


def test_no_record_has_no_counts(bundle_folder):
    assert list(count_images(load_bundle(bundle_folder), [])) == []


@pytest.fixture
def service(bundle_folder):
    """The two endpoints that evaluation asks, over the same functions as the real service's."""
    segmenter = load_bundle(bundle_folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.answer(json.dumps({"labels": [{"name": name} for name in segmenter.spec.label_set.names]}).encode())

        def do_POST(self):
            photo = self.rfile.read(int(self.headers["content-length"]))
            prediction = segmenter.predict([preprocess(photo, segmenter.spec.input_size, segmenter.spec.fit_rule)])[0]
            self.answer(encode_mask_png(restore_class_map(prediction), segmenter.spec.label_set))

        def answer(self, body):
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_service_is_counted_like_the_bundle_that_it_serves(service, bundle_folder, records):
    served, bundled = total(count_answers(service, records, 3)), total(count_images(load_bundle(bundle_folder), records))
    assert (served.confusion == bundled.confusion).all()
    assert (served.boundary == bundled.boundary).all()


def test_the_command_prints_the_metrics_with_their_rules_and_writes_json(pets, bundle_folder, tmp_path, capsys):
    main(EvaluateConfig(data=pets, split="train", model=str(bundle_folder), json_file=tmp_path / "metrics.json"))
    said = capsys.readouterr().out
    assert "iou/pet" in said
    assert "native resolution" in said
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["metrics"]["pixel_accuracy"] == pytest.approx(np.trace(written["counts"]) / np.sum(written["counts"]))


def test_other_classes_than_the_datas_are_refused(pets, bundle_folder, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for i in range(2):
        Image.new("L", (4, 4)).save(tmp_path / f"images/{i}.png")
        Image.new("L", (4, 4)).save(tmp_path / f"masks/{i}.png")
    (tmp_path / "labels.txt").write_text("cell\nmembrane\n")
    with pytest.raises(InvalidData, match="same classes in the same order"):
        main(EvaluateConfig(data=f"masks:{tmp_path}", model=str(bundle_folder)))
    with pytest.raises(InvalidData, match="no split 'test'; choose one of train, val"):
        main(EvaluateConfig(data=pets, split="test", model=str(bundle_folder)))


def test_a_table_has_a_line_for_each_metric():
    assert metrics_table({"miou": 0.5, "iou/can": 0.25}).splitlines()[:2] == ["miou     0.5000", "iou/can  0.2500"]
