"""The Open Inference Protocol, as Triton's own client speaks it and as broken ones do."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
import tritonclient.http as triton
from starlette.testclient import TestClient
from tritonclient.utils import InferenceServerException

from deployments.api import create_app
from deployments.config import AppConfig
from deployments.graph import FusedGraph
from deployments.model_source import name_and_number
from deployments.tensors import HEADER_LENGTH
from models.image import decode_image
from tests.deployments.conftest import api_of, encode_photo, serving
from tests.deployments.test_api import JPEG, open_png
from tests.deployments.test_bad_input import png_header

INFER = "/v2/models/bundle/infer"


@pytest.fixture
def mask(client, photo) -> np.ndarray:
    """What /v1/segment answers for the photo."""
    return np.asarray(open_png(client.post("/v1/segment?format=png", content=photo, headers=JPEG).content))


@pytest.fixture
def triton_client(address):
    with triton.InferenceServerClient(address.removeprefix("http://")) as client:
        yield client


def image_input(*files: bytes) -> triton.InferInput:
    tensor = triton.InferInput("image", [len(files)], "BYTES")
    return tensor.set_data_from_numpy(np.array(files, object))


def pixels_input(pixels: np.ndarray, binary: bool = True) -> triton.InferInput:
    return triton.InferInput("pixels", list(pixels.shape), "UINT8").set_data_from_numpy(pixels, binary_data=binary)


def error_of(response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json" and list(response.json()) == ["error"]
    return response.json()["error"]


def in_json(**tensor) -> dict:
    return {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], **tensor}]}


def with_raw(raw: bytes, **tensor) -> dict:
    """Content and headers of a request whose one input came as raw bytes."""
    head = json.dumps(in_json(parameters={"binary_data_size": len(raw)}, **tensor)).encode()
    return {"content": head + raw, "headers": {HEADER_LENGTH: str(len(head))}}


def test_tritons_client_finds_the_server_and_the_model(triton_client, served):
    name, version = name_and_number(served.version)
    assert triton_client.is_server_live() and triton_client.is_server_ready()
    assert triton_client.is_model_ready(name) and triton_client.is_model_ready(name, version)
    assert not triton_client.is_model_ready("other") and not triton_client.is_model_ready(name, "9")
    assert "binary_tensor_data" in triton_client.get_server_metadata()["extensions"]
    metadata = triton_client.get_model_metadata(name)
    assert (metadata["name"], metadata["versions"]) == (name, [version])
    config = triton_client.get_model_config(name, version)
    for described, configured in ((metadata["inputs"], config["input"]), (metadata["outputs"], config["output"])):
        assert [(each["name"], each["shape"]) for each in described] == [(each["name"], each["dims"]) for each in configured]


def test_a_file_and_its_decoded_pixels_give_the_mask_of_v1(triton_client, photo, mask):
    pixels = decode_image(photo)
    for tensor in (image_input(photo), pixels_input(pixels), pixels_input(pixels[None]), pixels_input(pixels, binary=False)):
        for outputs in (None, [triton.InferRequestedOutput("mask")], [triton.InferRequestedOutput("mask", binary_data=False)]):
            result = triton_client.infer("bundle", [tensor], outputs=outputs, request_id="7")
            np.testing.assert_array_equal(result.as_numpy("mask"), mask[None])
            assert result.get_response()["id"] == "7" and result.as_numpy("confidence") is None


def test_mask_and_confidence_of_several_images(triton_client, pixels, client):
    files = [encode_photo(np.roll(pixels, 11 * index, axis=1)) for index in range(3)]
    outputs = [triton.InferRequestedOutput("confidence"), triton.InferRequestedOutput("mask")]
    result = triton_client.infer("bundle", [image_input(*files)], outputs=outputs)
    assert result.as_numpy("mask").any()
    for format, name in (("png", "mask"), ("confidence", "confidence")):
        alone = [np.asarray(open_png(client.post(f"/v1/segment?format={format}", content=each).content)) for each in files]
        np.testing.assert_array_equal(result.as_numpy(name), np.stack(alone))


def test_tritons_client_is_told_what_is_wrong(triton_client, photo):
    for tensor, words in ((image_input(photo[:500]), "image 0: "), (image_input(), "N from 1 to 64")):
        with pytest.raises(InferenceServerException, match=words) as caught:
            triton_client.infer("bundle", [tensor])
        assert caught.value.status() == "400"
    with pytest.raises(InferenceServerException, match="version '9' of model 'bundle' is not served; ask for version"):
        triton_client.infer("bundle", [image_input(photo)], model_version="9")
    with pytest.raises(InferenceServerException, match="not found"):
        triton_client.get_model_repository_index()
    with pytest.raises(InferenceServerException, match="packed with Content-Encoding 'gzip'"):
        triton_client.infer("bundle", [image_input(photo)], request_compression_algorithm="gzip")


def test_json_alone_serves_as_well(client, photo, mask, served):
    response = client.post(INFER, json=in_json(data=[base64.b64encode(photo).decode()]))
    name, version = name_and_number(served.version)
    expected = {"name": "mask", "datatype": "UINT8", "shape": [1, 90, 120], "data": mask.ravel().tolist()}
    assert response.json() == {"model_name": name, "model_version": version, "outputs": [expected]}


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        ({"data": ["no base64!"]}, "base64"),
        ({"data": [5]}, "base64"),
        ({"data": ["a" * 8] * 2}, "let the shape be their number"),
        ({"data": ["AAAA"]}, "no image in a known format"),
        ({}, "needs either data or binary_data_size"),
        ({"data": ["AAAA"], "shape": [-1]}, "inputs.0.shape.0"),
        ({"data": ["AAAA"], "shape": [1] * 9}, "inputs.0.shape"),
        ({"data": ["AAAA"] * 65, "shape": [65]}, "N from 1 to 64"),
        ({"data": ["AAAA"], "datatype": "FP32"}, "send image files as BYTES"),
        ({"data": ["AAAA"], "name": "photo"}, "send either image or pixels"),
        ({"parameters": {"shared_memory_region": "r"}}, "shared_memory_region"),
        ({"parameters": {"binary_data_size": 4}}, "add up to 4 bytes, and 0 follow"),
        ({"name": "pixels", "data": [1, 2, 3]}, "as UINT8 of shape"),
        ({"name": "pixels", "datatype": "UINT8", "shape": [1, 1, 3], "data": [1, 2]}, "has 2 values"),
        ({"name": "pixels", "datatype": "UINT8", "shape": [1, 1, 3], "data": [1, 2, 256]}, "from 0 to 255"),
        ({"name": "pixels", "datatype": "UINT8", "shape": [1, 1, 3], "data": [1, 2, 0.5]}, "from 0 to 255"),
        ({"name": "pixels", "datatype": "UINT8", "shape": [1, 1, 3], "data": [[[1, 2], 3]]}, "from 0 to 255"),
        ({"name": "pixels", "datatype": "UINT8", "shape": [0, 1, 3], "data": []}, "as UINT8 of shape"),
        ({"name": "pixels", "datatype": "UINT8", "shape": [2, 1, 1, 3], "data": [0] * 6}, "as UINT8 of shape"),
        ({"name": "pixels", "datatype": "UINT8", "shape": [2**31 - 1, 2**31 - 1, 3], "data": [0]}, "has 1 values"),
    ],
)
def test_tensors_that_are_not_read(client, tensor, words):
    assert words in error_of(client.post(INFER, json=in_json(**tensor)), 400)


@pytest.mark.parametrize(
    "raw",
    [b"", b"\1", b"\0\0\0\1", b"\xff\xff\xff\xffabc", b"\1\0\0\0ab", b"\1\0\0\0a" * 2],
)
def test_elements_whose_lengths_do_not_add_up(client, raw):
    error_of(client.post(INFER, **with_raw(raw)), 400)


@pytest.mark.parametrize("length", ["", "-1", "1e3", "0", "7", "100000", "9" * 5000, "²"])
def test_header_lengths_that_are_not_the_documents(client, photo, length):
    content = with_raw(len(photo).to_bytes(4, "little") + photo)["content"]
    error_of(client.post(INFER, content=content, headers={HEADER_LENGTH: length.encode()}), 400)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"inputs": []}', b'{"inputs": 1}', b"[" * 100_000, b"\xff", b'{"inputs": [{"name": 1' + b"0" * 5000],
)
def test_documents_that_are_none_of_the_protocol(client, content):
    error_of(client.post(INFER, content=content), 400)


def test_unknown_outputs_wishes_and_paths(client, photo):
    data = {"data": [base64.b64encode(photo).decode()]}
    assert "mask, confidence" in error_of(client.post(INFER, json=in_json(**data) | {"outputs": [{"name": "logits"}]}), 400)
    assert "GET /v1/model lists" in error_of(client.post(INFER, json=in_json(**data) | {"parameters": {"classes": "unicorn"}}), 400)
    assert "tiling" in error_of(client.post(INFER, json=in_json(**data) | {"parameters": {"tiling": ["x"]}}), 400)
    assert "X-Deadline-Ms" in error_of(client.post(INFER, json=in_json(**data), headers={"X-Deadline-Ms": "soon"}), 400)
    assert "'other'" in error_of(client.post("/v2/models/other/infer", json=in_json(**data)), 404)
    error_of(client.get("/v2/repository/index"), 404)
    error_of(client.get(INFER), 405)


def test_limits_hold_before_work(client, api, served, config, pixels):
    bombs = [png_header(50_000, 50_000), *[png_header(800, 800)] * 2]  # the limit is 1,000,000 pixels, one by one and together
    for files, words in ((bombs[:1], "image 0: "), (bombs[1:], "the images have 1280000 pixels together")):
        raw = b"".join(len(each).to_bytes(4, "little") + each for each in files)
        assert words in error_of(client.post(INFER, **with_raw(raw, shape=[len(files)])), 413)
    too_long = str(api.config.max_body_bytes + 1)
    assert "limit" in error_of(client.post(INFER, content=b"{}", headers={"Content-Length": too_long}), 413)
    with TestClient(create_app(api_of(served, config.model_copy(update={"max_body_bytes": 10_000_000})))) as generous:
        many = generous.post(INFER, content=b'{"inputs": [' + b"[]," * 2**20 + b"[]]}")
        assert "binary data" in error_of(many, 400)


def test_images_of_two_sizes_do_not_fit_one_tensor(client, pixels):
    files = [base64.b64encode(encode_photo(each)).decode() for each in (pixels, pixels[:80])]
    words = error_of(client.post(INFER, json=in_json(data=files, shape=[2])), 400)
    assert words == "images of (90, 120) and (80, 120) pixels do not fit one tensor; send each size in its own request"


def test_not_ready_where_a_stage_fails(client, graph, monkeypatch):
    async def fail():
        raise RuntimeError("secret")

    monkeypatch.setattr(graph, "check", fail)
    for path in ("/v2/health/ready", "/v2/models/bundle/ready"):
        assert "secret" not in error_of(client.get(path), 503)
        assert client.get(path).headers["retry-after"] == "1"


def test_a_full_server_says_when_to_come_back(served, config, photo):
    with TestClient(create_app(api_of(served, config, num_places=0))) as full:
        response = full.post(INFER, json=in_json(data=[base64.b64encode(photo).decode()]))
    assert "which is the most" in error_of(response, 503) and response.headers["retry-after"] == "1"


def test_a_failure_of_the_graph_tells_nothing(client, graph, monkeypatch, photo):
    async def fail(*_):
        raise RuntimeError("secret")

    monkeypatch.setattr(graph, "segment", fail)
    files = [base64.b64encode(photo).decode()] * 2
    assert "secret" not in error_of(client.post(INFER, json=in_json(data=files, shape=[2])), 500)


@pytest.mark.parametrize(
    ("model_version", "expected"),
    [
        ("scenes/3", ("scenes", "3")),
        ("my.bundle@0f3a", ("my.bundle", "0f3a")),
        ("a@b@0f3a", ("a@b", "0f3a")),
        ("8c1d/model", ("8c1d", "model")),
    ],
)
def test_name_and_version_of_what_is_served(model_version, expected):
    assert name_and_number(model_version) == expected


def test_real_photos_as_files_and_as_pixels(served, real_data):
    config = AppConfig(model_uri=served.model.uri, codec_threads=2)
    roomy = api_of(replace(served, graph=FusedGraph(served.model, config)), config)
    with serving(create_app(roomy)) as address, triton.InferenceServerClient(address.removeprefix("http://")) as triton_client:
        for name in ("dog.jpg", "pet3.jpg", "010017.jpg"):
            data = (real_data / "photos" / name).read_bytes()
            masks = [
                triton_client.infer("bundle", [tensor]).as_numpy("mask") for tensor in (image_input(data), pixels_input(decode_image(data)))
            ]
            np.testing.assert_array_equal(*masks)
