"""Every form of an answer, decoded as its readers decode it, is the class map that the index PNG holds."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from faster_coco_eval import mask as coco_mask
from PIL import Image

from deployments.encoders import ENCODERS, Content, annotation_tools, encode, pictures
from deployments.formats import FORMATS, choose_format
from deployments.problems import InvalidRequest
from deployments.query import Query
from models.instance_decoder import Instances
from models.instance_metrics import masks_of_answer, masks_of_prediction
from models.label_set import IGNORE_INDEX, LabelSet
from models.prediction import Prediction
from tests.models.test_outlines import fill

NAMES = ["background", 'can <&> "box"', "böx", "bag\x07"]
LABELS = LabelSet.from_names(NAMES)
NO_BACKGROUND = LabelSet.from_names(NAMES[1:])


def content_of(class_map: np.ndarray, label_set: LabelSet = LABELS, confidence: np.ndarray | None = None) -> Content:
    """An answer whose cells are the photo's pixels, so that nothing is restored."""
    class_map = np.asarray(class_map, np.uint8)
    confidence = np.full(class_map.shape, 255, np.uint8) if confidence is None else np.asarray(confidence, np.uint8)
    nothing = np.zeros(0, np.int32), np.zeros((0, len(label_set)), np.float16)
    photo = np.full((*class_map.shape, 3), 100, np.uint8)
    return Content(class_map, Prediction(class_map, confidence, *nothing, class_map.shape), label_set, "v", photo)


def answer(format_name: str, content: Content, **wishes) -> bytes:
    return encode(Query(choose_format(format_name, None), **wishes), content)


def picture(body: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(body)))


def read_npy(body: bytes, background: int) -> np.ndarray:
    return np.load(io.BytesIO(body), allow_pickle=False)


def read_json(body: bytes, background: int) -> np.ndarray:
    document = json.loads(body)
    class_map = np.full(document["size"], background, np.uint8)
    for each in document["objects"]:
        class_map[coco_mask.decode(each["segmentation"]).astype(bool)] = each["class_index"]
    return class_map


def read_polygons(body: bytes, background: int) -> np.ndarray:
    document = json.loads(body)
    class_map = np.full(document["size"], background, np.uint8)
    for each in document["objects"]:
        class_map[fill(each["segmentation"], class_map.shape)] = each["class_index"]
    return class_map


def read_geojson(body: bytes, background: int) -> np.ndarray:
    document = json.loads(body)
    class_map = np.full(document["size"], background, np.uint8)
    for number, feature in enumerate(document["features"], 1):
        coordinates = feature["geometry"]["coordinates"]
        polygons = [coordinates] if feature["geometry"]["type"] == "Polygon" else coordinates
        assert all(ring[0] == ring[-1] and len(ring) > 4 for polygon in polygons for ring in polygon)
        region = fill([[ring[:-1] for ring in polygon] for polygon in polygons], class_map.shape)
        assert feature["properties"]["area"] == region.sum() and feature["id"] == feature["properties"]["id"] == number
        class_map[region] = feature["properties"]["class_index"]
    return class_map


def read_labelme(body: bytes, background: int, names: list[str]) -> np.ndarray:
    document = json.loads(body)
    class_map = np.full((document["imageHeight"], document["imageWidth"]), background, np.uint8)
    for shape in document["shapes"]:
        (left, top), (right, bottom) = shape["points"]
        mask = picture(base64.b64decode(shape["mask"])).astype(bool)
        class_map[top : bottom + 1, left : right + 1][mask] = names.index(shape["label"])
    return class_map


def read_label_studio(body: bytes, background: int, names: list[str], shape: tuple[int, int]) -> np.ndarray:
    (task,) = json.loads(body)
    class_map = np.full(shape, background, np.uint8)
    for result in task["predictions"][0]["result"]:
        assert (result["original_height"], result["original_width"]) == shape
        rgba = decode_brush(bytes(result["value"]["rle"])).reshape(*shape, 4)
        assert (rgba == rgba[..., :1]).all()
        class_map[rgba[..., 3] == 255] = names.index(result["value"]["brushlabels"][0])
    return class_map


def decode_brush(data: bytes) -> np.ndarray:
    """The bytes that Label Studio's run lengths stand for, as its own reader (thi.ng/umbrella, rle-pack) finds them."""
    bits, place = "".join(f"{byte:08b}" for byte in data), 0

    def read(width: int) -> int:
        nonlocal place
        place += width
        return int(bits[place - width : place], 2)

    decoded = np.zeros(read(32), np.uint8)
    value_width = read(5) + 1
    widths = [read(4) + 1 for _ in range(4)]
    start = 0
    while start < len(decoded):
        is_run = read(1)
        stop = start + 1 + read(widths[read(2)])
        decoded[start:stop] = read(value_width) if is_run else [read(value_width) for _ in range(start, stop)]
        start = stop
    assert len(bits) - place < 8
    return decoded


def read_cvat(body: bytes, background: int, names: list[str]) -> np.ndarray:
    image = ElementTree.fromstring(body).find("image")
    class_map = np.full((int(image.get("height")), int(image.get("width"))), background, np.uint8)
    for element in image.iter("mask"):
        left, top, width, height = (int(element.get(key)) for key in ("left", "top", "width", "height"))
        counts = [int(count) for count in element.get("rle").split(",")]
        assert all(counts[1:])
        mask = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)
        class_map[top : top + height, left : left + width][mask] = names.index(element.get("label"))
    return class_map


def check_all(content: Content, **wishes) -> np.ndarray:
    """The class map of the index PNG, once all other formats were found to say the same."""
    expected, names = picture(answer("png", content, **wishes)), content.label_set.names
    rest = IGNORE_INDEX if content.label_set.background is None else content.label_set.background
    found = {
        "npy": read_npy(answer("npy", content, **wishes), rest),
        "json": read_json(answer("json", content, **wishes), rest),
        "polygons": read_polygons(answer("polygons", content, **wishes), rest),
        "geojson": read_geojson(answer("geojson", content, **wishes), rest),
        "labelme": read_labelme(answer("labelme", content, **wishes), rest, names),
        "label_studio": read_label_studio(answer("label_studio", content, **wishes), rest, names, expected.shape),
        "cvat": read_cvat(answer("cvat", content, **wishes), rest, [name.replace("\x07", "\ufffd") for name in names]),
    }
    for class_map in found.values():
        np.testing.assert_array_equal(class_map, expected)
    return expected


@pytest.mark.parametrize(
    "class_map",
    [
        [[1]],
        [[0]],
        [[1, 0, 2, 2, 0, 3, 1]],
        [[1], [1], [0], [2]],
        np.full((4, 5), 2),
        [[1, 1, 1], [1, 0, 1], [1, 1, 1]],
        [[1, 2, 1], [2, 1, 2], [1, 2, 1]],
    ],
)
def test_small_maps_in_all_formats(class_map):
    np.testing.assert_array_equal(check_all(content_of(class_map)), class_map)


@pytest.mark.parametrize("label_set", [LABELS, NO_BACKGROUND])
def test_random_maps_in_all_formats_with_and_without_filters(label_set):
    random = np.random.default_rng(0)
    for _ in range(4):
        shape = random.integers(1, 20, 2)
        content = content_of(random.integers(0, len(label_set), shape), label_set, random.integers(0, 256, shape))
        np.testing.assert_array_equal(check_all(content), content.class_map)
        check_all(content, classes=(1, 2), min_score=0.5)


def test_long_runs_of_a_large_map_in_all_formats():
    class_map = np.zeros((300, 400), np.uint8)
    class_map[20:250, 30:330] = 1
    class_map[100:110, 50:60] = 2
    check_all(content_of(class_map))


def test_the_classes_that_are_asked_for():
    content = content_of([[1, 2, 0], [3, 2, 0]])
    assert check_all(content, classes=(2, 3)).tolist() == [[0, 2, 0], [3, 2, 0]]
    shares = [each["share"] for each in json.loads(answer("json", content, classes=(2, 3)))["classes"]]
    assert shares == [0.5, 0, 0.333333, 0.166667]


def test_objects_below_the_score_are_left_out():
    content = content_of([[1, 0, 1, 1]], confidence=[[51, 255, 255, 102]])  # scores 0.2 and 0.7
    assert check_all(content, min_score=0.7).tolist() == [[0, 0, 1, 1]]
    assert check_all(content, min_score=0.71).tolist() == [[0, 0, 0, 0]]


def test_without_background_what_is_left_out_is_ignored_and_black():
    content = content_of([[0, 1, 2]], NO_BACKGROUND)
    assert check_all(content, classes=(1,)).tolist() == [[IGNORE_INDEX, 1, IGNORE_INDEX]]
    body = answer("png", content, classes=(1,))
    assert body[24] == 8  # bits
    assert Image.open(io.BytesIO(body)).convert("RGB").getpixel((0, 0)) == (0, 0, 0)
    assert answer("png", content)[24] == 2
    assert (picture(answer("overlay", content, classes=())) == 100).all()


def test_confidence_is_a_grey_picture_and_0_where_the_winner_was_left_out():
    content = content_of([[1, 0, 2]], confidence=[[200, 100, 50]])
    assert picture(answer("confidence", content)).tolist() == [[200, 100, 50]]
    assert picture(answer("confidence", content, classes=(2,))).tolist() == [[0, 100, 50]]


@pytest.mark.parametrize(("name", "kind"), [("overlay", "PNG"), ("overlay_jpeg", "JPEG"), ("overlay_webp", "WEBP")])
def test_overlays_show_the_same_picture(name, kind):
    class_map = np.zeros((60, 80), np.uint8)
    class_map[20:40, 20:40] = 2
    image = Image.open(io.BytesIO(answer(name, content_of(class_map))))
    assert image.format == kind and image.mode == "RGB" and image.size == (80, 60)
    exact = picture(answer("overlay", content_of(class_map)))
    assert np.abs(np.asarray(image).astype(int) - exact).mean() < 4
    assert (exact[:15] == 100).all() and (exact[25, 25] != 100).any()


def test_a_photo_that_is_too_long_for_a_format_is_refused(monkeypatch):
    monkeypatch.setitem(pictures._LONGEST_SIDE, "WEBP", 10)
    with pytest.raises(InvalidRequest, match=r"11 pixels on a side, WEBP holds at most 10; ask for format=overlay"):
        answer("overlay_webp", content_of(np.zeros((1, 11))))


@pytest.mark.parametrize(("name", "limit"), [("labelme", "_MAX_PIXELS"), ("label_studio", "_MAX_RUN_PIXELS")])
def test_masks_that_would_be_many_times_the_photo_are_refused(monkeypatch, name, limit):
    monkeypatch.setattr(annotation_tools, limit, 5)
    with pytest.raises(InvalidRequest, match=r"6 pixels together, this format's limit is 5; narrow the answer"):
        answer(name, content_of([[1, 1, 1], [1, 1, 1]]))


def test_the_photos_name_stands_in_what_annotation_tools_read():
    content, name = content_of([[1]]), 'a "b" <c>.jpg'
    assert json.loads(answer("labelme", content, name=name))["imagePath"] == name
    assert json.loads(answer("label_studio", content, name=name))[0]["data"] == {"image": name}
    assert ElementTree.fromstring(answer("cvat", content, name=name)).find("image").get("name") == name


def test_every_format_has_its_encoder():
    assert list(ENCODERS) == [each.name for each in FORMATS]


def test_json_of_a_real_mask_is_small(real_data):
    for path in sorted((real_data / "oxford_pets/annotations/trimaps").glob("[!.]*.png"))[:20]:
        trimap = np.array(Image.open(path).resize((512, 512), Image.Resampling.NEAREST)) - 1
        labels = LabelSet.from_names(["pet", "background", "border"])
        assert len(answer("json", replace(content_of(trimap), label_set=labels))) <= 20_000


def test_touching_objects_of_one_class_are_single_ones_in_every_list():
    class_map = np.array([[0, 1, 1, 1, 1], [0, 1, 1, 1, 1]])
    content = content_of(class_map)
    instances = Instances(np.array([[0, 1, 1, 2, 2], [0, 1, 1, 2, 2]], np.uint8), np.array([0.5, 0.75]))
    content = replace(content, prediction=replace(content.prediction, instances=instances))
    listed = json.loads(answer("json", content))["objects"]
    assert [(each["box"], each["area"], each["score"]) for each in listed] == [([1, 0, 2, 2], 4, 0.7071), ([3, 0, 2, 2], 4, 0.866)]
    assert len(json.loads(answer("geojson", content))["features"]) == len(json.loads(answer("labelme", content))["shapes"]) == 2
    assert [len(each["segmentation"]) for each in json.loads(answer("polygons", content))["objects"]] == [1, 1]
    assert np.array_equal(read_json(answer("json", content), 0), class_map)
    assert np.array_equal(read_polygons(answer("polygons", content), 0), class_map)
    assert masks_of_answer({"objects": listed}) == masks_of_prediction(content.prediction, LABELS)  # evaluation sees the same either way
    sure = json.loads(answer("json", content, min_score=0.8))["objects"]
    assert [each["box"] for each in sure] == [[3, 0, 2, 2]]
    assert picture(answer("png", content, min_score=0.8)).tolist() == [[0, 0, 0, 1, 1]] * 2
