"""Several images in one request."""

from __future__ import annotations

import asyncio
import base64
import json

import numpy as np

from tests.deployments.conftest import encode_photo
from tests.deployments.test_api import JPEG


def lines_of(response) -> list[dict]:
    assert response.status_code == 200 and response.headers["content-type"] == "application/x-ndjson"
    return sorted((json.loads(line) for line in response.text.splitlines()), key=lambda line: line["index"])


def test_each_image_gets_what_it_gets_alone_and_a_bad_one_its_error(client, pixels):
    photos = [encode_photo(np.roll(pixels, 9 * index, axis=1)) for index in range(7)]
    bodies = [*photos[:3], b"no image", *photos[3:]]
    lines = lines_of(client.post("/v1/segment", files=[("image", (f"{index}.jpg", body)) for index, body in enumerate(bodies)]))
    assert [line["name"] for line in lines] == [f"{index}.jpg" for index in range(8)]
    bad = lines.pop(3)
    assert bad["status"] == bad["problem"]["status"] == 400 and bad["problem"]["type"].endswith(":invalid-image")
    for line, photo in zip(lines, photos, strict=True):
        assert line["status"] == 200 and line["answer"] == client.post("/v1/segment", content=photo, headers=JPEG).json()


def test_pictures_come_in_base64(client, photo):
    alone = client.post("/v1/segment?format=png", content=photo, headers=JPEG)
    for line in lines_of(client.post("/v1/segment?format=png", files=[("a", ('ä".jpg', photo)), ("b", ("x", photo))])):
        assert line["media_type"] == "image/png" and base64.b64decode(line["body"]) == alone.content


def test_a_line_is_written_as_soon_as_its_image_is_done_and_a_refused_one_is_told():
    from deployments.body import ImageFile
    from deployments.several import answer_lines
    from deployments.stages import Answer
    from models.image import InvalidImage

    released = asyncio.Event()

    async def segment(data: bytes) -> Answer:
        if data == b"slow":
            await released.wait()
        if data == b"bad":
            raise InvalidImage("bad")
        return Answer(b"{}", "application/json", (1, 1), 1, {})

    refusals = []

    async def main() -> list[int]:
        order = []
        images = [ImageFile(b"slow"), ImageFile(b"bad")]
        async for line in answer_lines(images, segment, num_at_once=2, request_id=None, refused=lambda *what: refusals.append(what)):
            order.append(json.loads(line)["index"])
            released.set()
        return order

    assert asyncio.run(main()) == [1, 0]
    assert refusals == [("invalid-image", 400)]
