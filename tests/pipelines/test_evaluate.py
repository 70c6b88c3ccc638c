import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from models.bundle import load_bundle
from models.fit import preprocess
from models.mask_png import encode_mask_png
from models.metrics import SegmentationCounts
from models.restore import restore_class_map, restore_confidence
from models.segmenter import Segmenter
from pipelines.counting import Evaluation, count_images
from pipelines.data.records import InvalidData
from pipelines.data.sources import read_data
from pipelines.evaluate import EvaluateConfig, main, metrics_table
from pipelines.report import Report
from pipelines.served_masks import MeasuredService, ServiceFailed


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """As evaluation computes: with more, a convolution may differ in last bits."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


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


@pytest.fixture(scope="module")
def segmenter(bundle_folder):
    return load_bundle(bundle_folder)


@pytest.fixture(scope="module")
def counted(segmenter, records) -> list[SegmentationCounts]:
    """The counts of each record."""
    return list(count_images(segmenter, records))


def total(counts) -> SegmentationCounts:
    return sum(counts, SegmentationCounts.zeros(3))


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_counts_are_the_same_integers_for_1_2_and_4_workers(segmenter, records, counted, num_workers):
    shards = [total(count_images(segmenter, records[rank::num_workers])) for rank in range(num_workers)]
    assert (sum(shard.vector for shard in shards) == total(counted).vector).all()


@pytest.mark.parametrize("num_threads", [1, 3])
def test_on_a_cpu_each_photo_is_computed_alone_on_one_thread_so_that_not_a_bit_depends_on_others(segmenter, records, num_threads):
    asked = []

    class Watched(Segmenter):
        def predict(self, images):
            asked.append((len(images), torch.get_num_threads()))
            return super().predict(images)

    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        list(count_images(Watched(segmenter.network, segmenter.spec), records))
        assert torch.get_num_threads() == num_threads
    finally:
        torch.set_num_threads(before)
    assert asked == [(1, 1)] * len(records)


def test_each_photo_is_counted_by_itself_in_the_records_order_and_every_pixel_once(records, counted, pet_labels):
    sizes = [record.read()[1].size for record in records]
    assert [each.confusion.sum() for each in counted] == [each.calibration.sum() for each in counted] == sizes
    evaluation = Evaluation.of(counted, pet_labels)
    assert (evaluation.images.regions == [each.outcomes.regions for each in counted]).all()
    assert (evaluation.total.vector == total(counted).vector).all()


def test_no_record_has_no_counts(segmenter):
    assert list(count_images(segmenter, [])) == []


@pytest.fixture
def service(segmenter):
    """The two endpoints that evaluation asks, over the same functions as the real service's. The first two photos find it busy."""

    class Handler(BaseHTTPRequestHandler):
        busy, asked, retry_after = [503, 429], [], "0"

        def do_GET(self):
            self.answer(200, json.dumps({"labels": [{"name": name} for name in segmenter.spec.label_set.names]}).encode())

        def do_POST(self):
            photo = self.rfile.read(int(self.headers["content-length"]))
            (format,) = parse_qs(urlsplit(self.path).query)["format"]
            self.asked.append(format)
            if self.busy:
                self.answer(self.busy.pop(), b"")
                return
            prediction = segmenter.predict([preprocess(photo, segmenter.spec.input_size, segmenter.spec.fit_rule)])[0]
            if format == "png":
                self.answer(200, encode_mask_png(restore_class_map(prediction), segmenter.spec.label_set))
            else:
                self.answer(200, cv2.imencode(".png", restore_confidence(prediction))[1].tobytes())

        def answer(self, status, body):
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            if status in (429, 503):
                self.send_header("retry-after", self.retry_after)
            self.send_header("x-model-version", self.version())
            self.end_headers()
            self.wfile.write(body)

        def version(self):
            return "pets/1"

        def log_message(self, *arguments):
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    server.address = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def ask(service, records, **options):
    # One connection: the test's model is to be called from one thread at a time.
    return list(MeasuredService(service.address, connections=1).count(records, 3, **options))


def test_a_service_is_counted_like_the_bundle_that_it_serves_and_asked_again_while_busy(service, records, counted):
    found = ask(service, records, with_confidence=True)
    assert (total(found).vector == total(counted).vector).all()
    assert service.RequestHandlerClass.asked == ["png", "png"] + ["png", "confidence"] * 5


def test_without_confidence_a_service_is_asked_once_for_each_photo_and_calibration_is_not_counted(service, records, counted):
    service.RequestHandlerClass.busy.clear()
    (found,) = ask(service, records[:1], with_confidence=False)
    assert (found.confusion == counted[0].confusion).all()
    assert found.calibration.sum() == 0


def test_a_service_that_changes_its_model_meanwhile_is_no_single_measurement(service, records, monkeypatch):
    service.RequestHandlerClass.busy.clear()
    versions = iter(["pets/1", "pets/2"])
    monkeypatch.setattr(service.RequestHandlerClass, "version", lambda self: next(versions))
    with pytest.raises(ServiceFailed, match="changed its model meanwhile \\(pets/1, pets/2\\)"):
        ask(service, records[:2], with_confidence=False)


def test_a_photo_that_the_service_refuses_is_named(service, records):
    service.RequestHandlerClass.busy[:] = [413]
    with pytest.raises(ServiceFailed, match=rf"refused {records[0].image_path.name} with 413"):
        ask(service, records, with_confidence=False)


def test_a_busy_service_that_does_not_say_when_in_words_of_http_is_refused_in_a_sentence(service, records, monkeypatch):
    monkeypatch.setattr(service.RequestHandlerClass, "retry_after", "soon")
    with pytest.raises(ServiceFailed, match="does not answer \\(InvalidHeader\\)"):
        ask(service, records[:1], with_confidence=False)


def test_a_service_that_is_not_there_is_said_so():
    with pytest.raises(ServiceFailed, match="does not answer .* check the address"):
        MeasuredService("http://127.0.0.1:1").class_names()


def test_the_command_prints_metrics_with_intervals_and_rules_and_writes_json(pets, bundle_folder, tmp_path, capsys):
    main(EvaluateConfig(data=pets, split="train", model=str(bundle_folder), device="cpu", json_file=tmp_path / "metrics.json"))
    said = capsys.readouterr().out
    assert "native" not in said
    assert "masks are compared at the photo's own size" in said
    written = json.loads((tmp_path / "metrics.json").read_text())
    confusion = np.array(written["counts"]["confusion"])
    assert written["metrics"]["pixel_accuracy"] == pytest.approx(np.trace(confusion) / confusion.sum())
    low, high = written["intervals"]["miou"]
    assert low <= written["metrics"]["miou"] <= high
    assert f"{written['metrics']['miou']:.4f}   {low:.4f} to {high:.4f}" in said
    assert [image["file"].endswith(".png") for image in written["images"]] == [True] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_a_repair_counts_photos_whose_masks_can_only_be_read_with_it(tmp_path):
    random = np.random.default_rng(0)
    for name in ("images", "masks", "predicted"):
        (tmp_path / name).mkdir()
    for i in range(5):
        Image.fromarray(random.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(tmp_path / f"images/{i}.png")
        mask = random.integers(0, 2, (40, 50), dtype=np.uint8)
        Image.fromarray(255 * mask).save(tmp_path / f"masks/{i}.png")
        Image.fromarray(mask).save(tmp_path / f"predicted/{i}.png")
    (tmp_path / "labels.txt").write_text("background\ncell\n")
    command = {"data": f"masks:{tmp_path}", "split": "train", "predictions": tmp_path / "predicted"}
    main(EvaluateConfig(**command, repair=True, json_file=tmp_path / "metrics.json"))
    assert json.loads((tmp_path / "metrics.json").read_text())["metrics"]["miou"] == 1
    with pytest.raises(InvalidData):
        main(EvaluateConfig(**command))


def test_a_table_shows_each_metric_with_its_interval_and_each_class(records, pet_labels):
    counts = SegmentationCounts.of(np.array([[0, 0, 1, 1]], np.uint8), np.array([[0, 1, 1, 1]], np.uint8), 3)
    report = Report.of(Evaluation.of([counts], pet_labels), records[:1], pet_labels)
    lines = [line.split() for line in metrics_table(report).splitlines()]
    assert lines[1] == ["miou", "0.5833", "0.5833", "to", "0.5833"]
    assert ["pet", "1", "2", "0.6667", "0.5000", "0.5000", "to", "0.5000", "0.5000", "0.5000", "to", "0.5000"] in lines
    assert ["border", "0", "0", "-", "-", "-"] in lines


@pytest.fixture(scope="module")
def written_masks(segmenter, pets, tmp_path_factory):
    """A folder of what the segmenter says of the `train` images."""
    folder = tmp_path_factory.mktemp("predictions")
    for record in read_data(pets).splits["train"]:
        prediction = segmenter.predict([preprocess(record.read()[0], segmenter.spec.input_size, segmenter.spec.fit_rule)])[0]
        path = folder / record.image_path.with_suffix(".png").name
        path.write_bytes(encode_mask_png(restore_class_map(prediction), segmenter.spec.label_set))
    return folder


@pytest.fixture
def predictions(written_masks, tmp_path):
    return shutil.copytree(written_masks, tmp_path / "predictions")


def measure_folder(pets, predictions, tmp_path) -> dict:
    main(EvaluateConfig(data=pets, split="train", predictions=predictions, json_file=tmp_path / "metrics.json"))
    return json.loads((tmp_path / "metrics.json").read_text())


def test_a_folder_of_masks_is_counted_like_the_bundle_that_wrote_them(pets, records, counted, predictions, tmp_path):
    written = measure_folder(pets, predictions, tmp_path)
    assert written["counts"]["confusion"] == total(counted[:4]).confusion.tolist()
    assert written["counts"]["boundary"] == total(counted[:4]).boundary.tolist()
    assert "calibration_error" not in written["metrics"]


def test_masks_of_the_datas_other_splits_may_be_in_the_folder(pets, predictions, tmp_path):
    (other,) = read_data(pets).splits["val"]
    (predictions / other.image_path.name).write_bytes(b"not read")
    assert len(measure_folder(pets, predictions, tmp_path)["images"]) == 4


def save_mask(path, values):
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


def fill_mask(path, value):
    with Image.open(path) as mask:
        size = mask.size
    Image.new("L", size, value).save(path)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda mask: mask.unlink(), r"lacks 1 of 4 masks: \d.png; predict every image"),
        (
            lambda mask: save_mask(mask.with_name("cat.png"), [[0]]),
            r"1 masks of no image in the data: cat.png; name them like their images",
        ),
        (lambda mask: save_mask(mask, [[0, 1]]), r"\d.png is 2 x 1, its image \d+ x \d+"),
        (lambda mask: fill_mask(mask, 3), r"\d.png holds the values \[3\]; classes are 0 to 2"),
        (lambda mask: fill_mask(mask, 255), r"\d.png holds 255, which is no class"),
        (lambda mask: mask.write_bytes(b"no picture"), r"\d.png cannot be read as PNG"),
    ],
)
def test_a_folder_that_does_not_fit_the_split_is_refused_with_the_files_name(pets, predictions, tmp_path, spoil, reason):
    spoil(min(predictions.iterdir()))
    with pytest.raises(InvalidData, match=reason):
        measure_folder(pets, predictions, tmp_path)


def test_a_folder_that_is_not_there_is_refused(pets, tmp_path):
    with pytest.raises(InvalidData, match="is no folder"):
        measure_folder(pets, tmp_path / "none", tmp_path)


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


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({}, "nothing is to be measured; give one of"),
        ({"model": "a", "service": "http://b"}, "model and service is to be measured; give one of"),
        ({"model": "a", "connections": 0}, "connections is 0"),
        ({"model": "a", "json_file": "none/metrics.json"}, "does not exist"),
    ],
)
def test_a_command_that_cannot_be_carried_out_is_refused_before_anything_is_read(tmp_path, wrong, reason):
    if "json_file" in wrong:
        wrong = wrong | {"json_file": tmp_path / wrong["json_file"]}
    with pytest.raises(ValueError, match=reason):
        EvaluateConfig(data="scenes", **wrong)
