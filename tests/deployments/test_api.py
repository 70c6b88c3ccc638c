"""What callers send and get, over HTTP but with no server between."""

from __future__ import annotations

import io

import numpy as np
import pytest
from faster_coco_eval import mask as coco_mask
from PIL import Image

from deployments.formats import FORMATS
from tests.deployments.conftest import MAX_BODY_BYTES, encode_photo

JPEG = {"Content-Type": "image/jpeg"}


def open_png(body: bytes) -> Image.Image:
    return Image.open(io.BytesIO(body), formats=["PNG"])


def problem_of(response) -> str:
    """The problem's name, once its form is checked."""
    document = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert document["status"] == response.status_code
    assert "Traceback" not in response.text and "/models/" not in response.text
    return document["type"].removeprefix("urn:maskworks:problem:")


def test_index_png_has_the_photos_size_and_the_labels_palette(client, photo, pet_labels):
    response = client.post("/v1/segment?format=png", content=photo, headers=JPEG)
    assert response.status_code == 200 and response.headers["content-type"] == "image/png"
    image = open_png(response.content)
    assert image.mode == "P" and image.size == (120, 90)
    assert image.getpalette()[:9] == [value for label in pet_labels.labels for value in label.color]
    assert set(np.unique(image)) <= {0, 1, 2}


def test_json_objects_and_shares_agree_with_the_index_png(client, photo, pet_labels):
    mask = np.asarray(open_png(client.post("/v1/segment?format=png", content=photo, headers=JPEG).content))
    answer = client.post("/v1/segment", content=photo, headers=JPEG).json()
    assert answer["size"] == [90, 120]
    drawn = np.full(mask.shape, pet_labels.background)
    for each in answer["objects"]:
        region = coco_mask.decode(each["segmentation"]).astype(bool)
        ys, xs = np.nonzero(region)
        assert each["box"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
        assert each["area"] == region.sum() and 0 < each["score"] <= 1
        assert each["class"] == pet_labels.names[each["class_index"]]
        drawn[region] = each["class_index"]
    np.testing.assert_array_equal(drawn, mask)
    shares = [each["share"] for each in answer["classes"]]
    np.testing.assert_allclose(shares, np.bincount(mask.ravel(), minlength=3) / mask.size, atol=1e-6)


def test_overlay_is_the_photo_in_colour(client, photo):
    response = client.post("/v1/segment?format=overlay", content=photo, headers=JPEG)
    image = open_png(response.content)
    assert response.headers["content-type"] == "image/png" and image.mode == "RGB" and image.size == (120, 90)


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("image/png", "image/png"),
        ("image/*, application/json;q=0.5", "image/png"),
        ("text/html, application/json", "application/json"),
        ("image/jpeg", "image/jpeg"),
        ("application/geo+json", "application/geo+json"),
    ],
)
def test_accept_chooses_the_form(client, photo, accept, media_type):
    response = client.post("/v1/segment", content=photo, headers=JPEG | ({"Accept": accept} if accept else {}))
    assert response.headers["content-type"] == media_type


def test_a_form_gives_the_bytes_that_the_raw_body_gives(client, photo):
    raw = client.post("/v1/segment?format=png", content=photo, headers=JPEG)
    form = client.post("/v1/segment?format=png", files={"any_name": ("x.jpg", photo, "image/jpeg")}, data={"note": "ignored"})
    undeclared = client.post("/v1/segment?format=png", content=photo)
    assert raw.content == form.content == undeclared.content


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_gives_the_mask_of_the_upright_one(client, pixels, orientation):
    # Stored so that turning by the tag gives `pixels` again.
    stored = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.swapaxes(0, 1),
        6: np.rot90(pixels),
        7: pixels.swapaxes(0, 1)[::-1, ::-1],
        8: np.rot90(pixels, 3),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = encode_photo(pixels, "PNG")
    turned = encode_photo(np.ascontiguousarray(stored), "PNG", exif=exif)
    for answer_format in ("png", "overlay", "json"):
        answers = [client.post(f"/v1/segment?format={answer_format}", content=each).content for each in (upright, turned)]
        assert answers[0] == answers[1]


def test_answers_say_which_model_how_many_shared_and_where_the_time_went(client, photo):
    headers = client.post("/v1/segment", content=photo, headers=JPEG).headers
    assert headers["x-model-version"].startswith("bundle@") and headers["x-batch-size"] == "1"
    times = {name: float(duration) for name, duration in (part.split(";dur=") for part in headers["server-timing"].split(", "))}
    assert list(times) == [
        "receive",
        "decode",
        "decode_wait",
        "queue",
        "model",
        "restore",
        "encode",
        "restore_wait",
        "total",
    ]
    assert times["model"] > 0 and sum(times.values()) - times["total"] <= times["total"] + 0.1  # the header rounds


def test_model_lists_labels_in_the_order_of_their_index(client, pet_labels):
    model = client.get("/v1/model").json()
    assert [(each["index"], each["name"], tuple(each["color"])) for each in model["labels"]] == [
        (label.index, label.name, label.color) for label in pet_labels.labels
    ]
    assert model["limits"] == {"max_body_bytes": MAX_BODY_BYTES, "max_pixels": 1_000_000}
    assert model["instances"] is False  # the network has no head for them
    assert model["input_size"] == [64, 64] and [each["name"] for each in model["formats"]] == [each.name for each in FORMATS]


def test_health_docs_and_home(client):
    assert client.get("/healthz").json() == client.get("/readyz").json() == {"status": "ok"}
    assert client.head("/healthz").status_code == 200
    assert client.get("/").url.path == "/docs"
    page = client.get("/docs").text
    assert "http" not in page.replace("https://swagger", "")  # nothing from elsewhere
    assert client.get("/docs/swagger-ui.css").status_code == client.get("/docs/swagger-ui-bundle.js").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("GET", "/docs/..%2Fapi.py", 404),
        ("PUT", "/v1/segment", 405),
        ("HEAD", "/v1/segment", 405),
        ("POST", "/v1/model", 405),
    ],
)
def test_what_is_not_there_is_a_problem_too(client, method, path, status):
    response = client.request(method, path)
    assert response.status_code == status
    if method != "HEAD":
        problem_of(response)


def test_not_ready_where_a_stage_fails(graph, monkeypatch, client):
    async def fail():
        raise RuntimeError("secret")

    monkeypatch.setattr(graph, "check", fail)
    response = client.get("/readyz")
    assert response.status_code == 503 and problem_of(response) == "not-ready" and "secret" not in response.text


def test_an_unknown_error_tells_the_log_and_not_the_caller(graph, monkeypatch, client, photo, caplog):
    async def fail(*_):
        raise RuntimeError("secret")

    monkeypatch.setattr(graph, "segment", fail)
    response = client.post("/v1/segment", content=photo, headers={"X-Request-Id": "abc"})
    assert response.status_code == 500 and problem_of(response) == "internal" and "secret" not in response.text
    assert response.json()["request_id"] == "abc"
    assert "abc" in caplog.text and "secret" in caplog.text


def test_a_tiled_answer_has_the_photos_size_and_one_that_fits_is_the_same(client, pixels):
    large = np.tile(pixels, (3, 3, 1))
    response = client.post("/v1/segment?format=png&tiling=auto", content=encode_photo(large, "PNG"))
    assert response.status_code == 200 and open_png(response.content).size == (360, 270)
    assert "blend;dur=" in response.headers["server-timing"] and int(response.headers["x-batch-size"]) > 1
    small = encode_photo(pixels[:60, :60], "PNG")
    plain, tiled = (client.post(f"/v1/segment?format=png&tiling={tiling}", content=small).content for tiling in ("off", "auto"))
    assert plain == tiled
