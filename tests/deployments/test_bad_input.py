"""Whatever comes in, the answer is an image or a problem document; never a 500."""

from __future__ import annotations

import asyncio
import io
import struct
import zlib
from dataclasses import replace

import httpx
import numpy as np
import pytest
from PIL import Image, ImageOps
from starlette.testclient import TestClient

from deployments.api import create_app
from deployments.config import AppConfig
from deployments.graph import FusedGraph
from tests.deployments.conftest import MAX_BODY_BYTES, api_of, encode_photo
from tests.deployments.test_api import JPEG, problem_of


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("tenths", range(10))
def test_a_cut_jpeg_is_refused_by_name(client, photo, tenths):
    response = client.post("/v1/segment", content=photo[: len(photo) * tenths // 10], headers=JPEG)
    assert response.status_code == 400 and problem_of(response) == "invalid-image"


@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF", "BMP"])
def test_other_formats_whole_and_cut(client, pixels, format):
    data = encode_photo(pixels, format)
    assert client.post("/v1/segment?format=png", content=data).status_code == 200
    assert client.post("/v1/segment?format=png", content=data[: len(data) // 2]).status_code in (200, 400)


def test_noise_in_a_jpeg_is_an_answer_or_a_refusal(client, photo):
    generator = np.random.default_rng(0)
    for _ in range(30):
        damaged = bytearray(photo)
        for place in generator.integers(0, len(photo), 8):
            damaged[place] = generator.integers(256)
        response = client.post("/v1/segment?format=png", content=bytes(damaged))
        assert response.status_code == 200 or problem_of(response) in ("invalid-image", "image-too-large")


@pytest.mark.parametrize("size", [(50_000, 50_000), (1_000_001, 1), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_before_decoding(client, size):
    response = client.post("/v1/segment", content=png_header(*size))
    assert response.status_code == 413 and problem_of(response) == "image-too-large"


@pytest.mark.parametrize("content", [b"", b"\0", b"<svg/>", b"GIF89a", b"%PDF-1.7", b"\xff\xd8\xff", b"x" * 5000, png_header(0, 0)])
def test_no_image(client, content):
    response = client.post("/v1/segment", content=content)
    assert response.status_code == 400 and problem_of(response) == "invalid-image"


@pytest.mark.parametrize("media_type", ["application/json", "text/plain", "application/xml", "multipart/mixed; boundary=x"])
def test_other_media_types(client, photo, media_type):
    response = client.post("/v1/segment", content=photo, headers={"Content-Type": media_type})
    assert response.status_code == 415 and problem_of(response) == "unsupported-media-type"


@pytest.mark.parametrize(
    ("query", "accept", "status"),
    [
        ("format=gif", None, 400),
        ("format=", None, 400),
        ("fromat=png", None, 400),
        ("", "text/html", 406),
        ("", "image/png;q=0", 406),
        ("", ";;,q=", 406),
    ],
)
def test_unknown_forms_of_answer(client, photo, query, accept, status):
    response = client.post(f"/v1/segment?{query}", content=photo, headers={"Accept": accept} if accept else {})
    assert response.status_code == status and problem_of(response) in ("invalid-request", "not-acceptable")


def test_a_declared_length_over_the_limit_is_refused_unread(client):
    response = client.post("/v1/segment", content=b"", headers={"Content-Length": str(MAX_BODY_BYTES + 1)})
    assert response.status_code == 413 and problem_of(response) == "body-too-large"


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "multipart/form-data; boundary=x"}])
def test_a_stream_is_cut_at_the_limit(api, headers):
    num_sent = 0

    async def post() -> httpx.Response:
        async def endless():
            nonlocal num_sent
            while num_sent < 100 * MAX_BODY_BYTES:
                num_sent += 10_000
                yield b"x" * 10_000

        async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(api)), base_url="http://test") as client:
            return await client.post("/v1/segment", content=endless(), headers=headers)

    response = asyncio.run(post())
    assert response.status_code == 413 and problem_of(response) == "body-too-large"
    assert num_sent <= MAX_BODY_BYTES + 20_000


def test_a_body_that_never_ends_is_given_up(api):
    async def post() -> httpx.Response:
        async def stalled():
            yield b"\xff\xd8"
            await asyncio.sleep(60)

        async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(api)), base_url="http://test") as client:
            return await client.post("/v1/segment", content=stalled())

    response = asyncio.run(post())
    assert response.status_code == 408 and problem_of(response) == "body-too-slow"


@pytest.mark.parametrize(
    ("boundary", "body"),
    [
        ("", b""),
        ("; boundary=", b"--\r\n"),
        ("; boundary=x", b""),
        ("; boundary=x", b"--x--\r\n"),
        ("; boundary=x", b"no boundary at all"),
        ("; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\ntext\r\n--x--\r\n'),
        ("; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\nhalf'),
        ("; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\ntext\r\n--x--\r\n"),
        ("; boundary=x", b"--x\r\n" + b"A: " + b"b" * 20_000 + b"\r\n\r\n\r\n--x--\r\n"),
        ("; boundary=x", b"--x\r\n" + b"A: b\r\n" * 5_000 + b"\r\n\r\n--x--\r\n"),
        ("; boundary=x; charset=\xff", b"--x--\r\n"),
        ("; boundary=" + "b" * 5000, b"--x--\r\n"),
        ("; boundary=\xff\xff", b"--x--\r\n"),
    ],
)
def test_broken_forms(client, boundary, body):
    response = client.post("/v1/segment", content=body, headers={"Content-Type": b"multipart/form-data" + boundary.encode("latin-1")})
    assert response.status_code == 400 and problem_of(response) == "invalid-request"


def test_more_images_than_the_limit_are_refused(client, photo):
    response = client.post("/v1/segment", files=[("image", (f"{index}.jpg", photo[:50])) for index in range(65)])
    assert response.status_code == 400 and problem_of(response) == "invalid-request" and "64" in response.json()["detail"]


def test_good_ones_among_bad_ones_get_what_they_get_alone(api, pixels):
    good = [encode_photo(np.roll(pixels, 11 * index, axis=1)) for index in range(8)]
    bad = [b"", good[0][:500], png_header(50_000, 50_000), b"x" * (MAX_BODY_BYTES + 1), b"GIF89a", good[1][:1000], b"\xff\xd8", b"{}"]

    async def post(client: httpx.AsyncClient, content: bytes) -> httpx.Response:
        return await client.post("/v1/segment?format=png", content=content)

    async def main() -> tuple[list[httpx.Response], list[httpx.Response]]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(api)), base_url="http://test") as client:
            mixed = [each for pair in zip(good, bad) for each in pair]
            return [await post(client, each) for each in good], await asyncio.gather(*(post(client, each) for each in mixed))

    alone, together = asyncio.run(main())
    assert [each.content for each in together[::2]] == [each.content for each in alone]
    assert all(each.status_code in (400, 413) and problem_of(each) for each in together[1::2])
    assert max(int(each.headers["x-batch-size"]) for each in together[::2]) > 1


def test_photos_as_phones_make_them(served, real_data):
    config = AppConfig(model_uri=served.model.uri, codec_threads=2)
    with TestClient(create_app(api_of(replace(served, graph=FusedGraph(served.model, config)), config))) as client:
        for path in sorted((real_data / "photos").glob("*.jpg")):
            response = client.post("/v1/segment?format=png", content=path.read_bytes())
            with Image.open(path) as stored, Image.open(io.BytesIO(response.content)) as mask:
                assert mask.size == ImageOps.exif_transpose(stored).size, path
