"""Files made to hurt: an answer or a refusal each, and the next good request is answered."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from deployments.api import create_app
from models.image import decode_image
from tests.deployments.conftest import api_of, encode_photo
from tests.deployments.image_files import (
    bmp_of_size,
    compressed_text,
    gif_of_size,
    jpeg_of_size,
    jpeg_with_exif,
    png,
    png_chunk,
    png_of,
    saved,
    tiff_notes,
    webp_of_size,
)
from tests.deployments.test_api import open_png, problem_of

BOMBS = {
    "png": png(60_000, 60_000, b"\0" * 1000),
    "gif screen": gif_of_size((65_535, 65_535), (1, 1)),
    "gif frame": gif_of_size((1, 1), (65_535, 65_535)),
    "webp": webp_of_size(16_383, 16_383),
    "webp, the longest": webp_of_size(2**24, 255),
    "jpeg": jpeg_of_size(65_500, 65_500),
    "bmp": bmp_of_size(60_000, 60_000),
    "bmp, bottom up": bmp_of_size(60_000, -60_000),
}
NOT_READ = {
    "tiff": saved(Image.new("RGB", (8, 8)), "TIFF"),
    "ico": saved(Image.new("RGB", (16, 16)), "ICO"),
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100),
    "psd": b"8BPS\0\x01" + bytes(6) + struct.pack(">HIIHH", 3, 8, 8, 8, 3) + bytes(100),
    "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "html": b"<!doctype html><script>alert(1)</script>",
}
ORIENTATIONS = {
    "0": tiff_notes(3, 1, b"\0\0\0\0"),
    "9": tiff_notes(3, 1, b"\x09\0\0\0"),
    "65535": tiff_notes(3, 1, b"\xff\xff\0\0"),
    "text": tiff_notes(2, 2, b"6\0\0\0"),
    "a ratio out of the file": tiff_notes(5, 1, b"\xff\xff\xff\x7f"),
    "65,535 of them": tiff_notes(3, 65_535, b"\x08\0\0\0"),
    "4,294,967,295 of them": tiff_notes(3, 2**32 - 1, b"\x08\0\0\0"),
    "of no known kind": tiff_notes(99, 1, b"\x06\0\0\0"),
    "directories in a circle": tiff_notes(3, 1, b"\x01\0\0\0", next_directory=8),
    "cut": tiff_notes(3, 1, b"\x06\0\0\0")[:13],
    "a directory out of the file": b"II*\0\xff\xff\xff\xff",
    "junk": bytes(range(256)) * 250,
    "nothing": b"",
}


@pytest.fixture(autouse=True)
def good_request_afterwards(client: TestClient, photo: bytes) -> Iterator[None]:
    yield
    assert client.post("/v1/segment?format=png", content=photo).status_code == 200


def post(client: TestClient, data: bytes, answer_format: str = "png", **options):
    return client.post(f"/v1/segment?format={answer_format}", content=data, **options)


def mask_size(response) -> tuple[int, int]:
    """(height, width) of an answer that must be a mask."""
    assert response.status_code == 200, response.text
    return open_png(response.content).size[::-1]


def peak_bytes() -> int:
    """The most memory that this process has held since `forget_peak`."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


@pytest.mark.parametrize(("format", "options"), [("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("GIF", {}), ("BMP", {})])
def test_a_file_cut_at_any_tenth_is_refused_by_name(client, pixels, format, options):
    data = encode_photo(pixels, format, **options)
    for tenths in range(10):
        response = post(client, data[: len(data) * tenths // 10])
        assert response.status_code == 400 and problem_of(response) == "invalid-image"


@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF", "BMP"])
def test_the_files_bytes_decide_and_not_its_declared_type(client, pixels, format):
    assert mask_size(post(client, encode_photo(pixels, format), headers={"Content-Type": "image/jpeg"})) == (90, 120)


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_takes_no_memory(client, name):
    forget_peak()
    before = peak_bytes()
    response = post(client, BOMBS[name])
    assert response.status_code == 413 and problem_of(response) == "image-too-large"
    assert peak_bytes() - before < 60 * 2**20


@pytest.mark.parametrize("name", NOT_READ)
def test_what_is_not_read_is_refused_by_name(client, name):
    for response in (
        post(client, NOT_READ[name]),
        client.post("/v1/segment", files={"image": ("photo.jpg", NOT_READ[name], "image/jpeg")}),
    ):
        assert response.status_code == 400 and problem_of(response) == "invalid-image"


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")  # Pillow says so of EXIF, and goes on
@pytest.mark.parametrize("name", ORIENTATIONS)
def test_broken_exif_does_not_spoil_a_photo(client, pixels, photo, name):
    notes = ORIENTATIONS[name]
    assert mask_size(post(client, jpeg_with_exif(photo, notes))) == (90, 120)
    np.testing.assert_array_equal(decode_image(jpeg_with_exif(photo, notes)), decode_image(photo))
    np.testing.assert_array_equal(decode_image(png_of(pixels, png_chunk(b"eXIf", notes))), pixels)
    np.testing.assert_array_equal(decode_image(encode_photo(pixels, "WEBP", exif=notes, lossless=True)), pixels)


def test_exif_that_the_length_cuts_is_an_answer_or_a_refusal(client, photo):
    for length in (0, 1, 2, 9, 60_000):
        response = post(client, photo[:2] + b"\xff\xe1" + struct.pack(">H", length) + b"Exif\0\0II*\0" + photo[2:])
        assert response.status_code == 200 or problem_of(response) == "invalid-image"


@pytest.mark.parametrize("profile", [b"no profile", bytes(4000), b"\xff" * 150_000])
def test_a_broken_colour_profile_does_not_spoil_a_photo(client, pixels, profile):
    for format in ("JPEG", "PNG", "WEBP"):
        assert mask_size(post(client, encode_photo(pixels, format, icc_profile=profile))) == (90, 120)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
@pytest.mark.parametrize(("num_bytes", "count", "status"), [(100_000, 1, 200), (50_000_000, 1, 400), (1_000_000, 70, 400)])
def test_packed_text_in_a_png_is_bounded(client, pixels, kind, num_bytes, count, status):
    data = png_of(pixels, compressed_text(kind, num_bytes) * count)
    forget_peak()
    before = peak_bytes()
    response = post(client, data)
    assert response.status_code == status or (kind == b"iCCP" and count > 1), response.text
    assert peak_bytes() - before < 200 * 2**20
    assert status == 200 or response.status_code == 200 or problem_of(response) == "invalid-image"


def test_a_form_of_a_thousand_parts(client, photo):
    fields = [(f"field{index}", (None, b"text")) for index in range(1000)]
    assert mask_size(client.post("/v1/segment?format=png", files=[*fields, ("image", ("x.jpg", photo))])) == (90, 120)
    response = client.post("/v1/segment", files=[("image", (f"{index}.jpg", b"x")) for index in range(1000)])
    assert response.status_code == 400 and problem_of(response) == "invalid-request"


def test_a_form_without_an_end_is_refused(client, photo):
    body = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n' + photo + b"\r\n--x\r\n" * 3
    response = client.post("/v1/segment", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert response.status_code == 400 and problem_of(response) == "invalid-request"


def test_a_body_that_trickles_is_given_up(served, config, photo):
    config = config.model_copy(update={"body_timeout_s": 0.2})

    async def trickle():
        for byte in photo:
            yield bytes([byte])
            await asyncio.sleep(0.02)

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(api_of(served, config)))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/v1/segment", content=trickle())

    response = asyncio.run(send())
    assert response.status_code == 408 and problem_of(response) == "body-too-slow"


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "deflate, gzip", "x" * 5000])
def test_a_packed_body_is_refused_with_the_reason(client, photo, coding):
    response = post(client, photo, headers={"Content-Encoding": coding})
    assert response.status_code == 415 and problem_of(response) == "unsupported-media-type"
    assert "Content-Encoding" in response.json()["detail"] and len(response.json()["detail"]) < 300
    assert post(client, photo, headers={"Content-Encoding": "identity"}).status_code == 200


def test_an_image_of_no_pixels_is_refused(client):
    for data in (png(0, 5, b""), gif_of_size((0, 0), (0, 0)), jpeg_of_size(0, 16), jpeg_of_size(16, 0), bmp_of_size(0, 0)):
        response = post(client, data)
        assert response.status_code == 400 and problem_of(response) == "invalid-image"
