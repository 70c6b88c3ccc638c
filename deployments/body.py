"""The images of a request's body, raw or in a form, never more of it in memory than the limit allows."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from deployments.problems import BodyTooLarge, BodyTooSlow, InvalidRequest, UnsupportedMediaType

T = TypeVar("T")
_FORM = "multipart/form-data"
# The last is what curl says of `--data-binary` where nobody says otherwise.
_UNDECLARED = ("", "application/octet-stream", "application/x-www-form-urlencoded")


@dataclass(frozen=True)
class ImageFile:
    """An image as it was sent; `name` is what the sender calls it, for the sender's eyes only."""

    data: bytes
    name: str = ""


async def read_images(request: Request, max_bytes: int, max_images: int, timeout_s: float) -> list[ImageFile]:
    """The image files that the request carries, at least one. Raises the `InvalidRequest`s of `problems`."""
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type != _FORM and media_type not in _UNDECLARED and not media_type.startswith("image/"):
        raise UnsupportedMediaType(f"a body of type {media_type[:80]!r} is not read; send image/*, application/octet-stream or {_FORM}")
    body = await read_body(request, max_bytes, timeout_s)
    return _images_of_form(request.headers["content-type"], body, max_images) if media_type == _FORM else [ImageFile(body)]


async def read_body(request: Request, max_bytes: int, timeout_s: float) -> bytes:
    """The whole body. Raises `UnsupportedMediaType` for a packed one, `BodyTooLarge`, `BodyTooSlow`."""
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):  # unpacked, a small body could be of any size
        raise UnsupportedMediaType(f"a body packed with Content-Encoding {coding[:80]!r} is not read; send it as it is")
    try:
        async with asyncio.timeout(timeout_s):
            return await _read_limited(request, max_bytes)
    except TimeoutError as error:
        raise BodyTooSlow(f"the body did not arrive within {timeout_s:g} s; send it faster, or a smaller image") from error


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns; where the caller leaves before, `work` is cancelled. To be called once the body has been read."""
    task, gone = asyncio.create_task(work), asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _read_limited(request: Request, max_bytes: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > max_bytes:
        raise BodyTooLarge(f"the body has {declared[:20]} bytes, the limit is {max_bytes}; send a smaller image")
    chunks, num_bytes = [], 0
    async for chunk in request.stream():
        num_bytes += len(chunk)
        if num_bytes > max_bytes:
            raise BodyTooLarge(f"the body is longer than the limit of {max_bytes} bytes; send a smaller image")
        chunks.append(chunk)
    return b"".join(chunks)


def _images_of_form(content_type: str, body: bytes, max_images: int) -> list[ImageFile]:
    try:
        files = _files_of_form(content_type, body, max_images)
    except FormParserError as error:
        raise InvalidRequest(f"the form cannot be read: {str(error)[:120]}; send each image as a file of {_FORM}") from error
    if not files:
        raise InvalidRequest("the form holds no complete file; send one or more, in fields of any name")
    return files


def _files_of_form(content_type: str, body: bytes, max_images: int) -> list[ImageFile]:
    """The form's complete files, other fields left out. Nothing touches the disk."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise FormParserError("its Content-Type names no boundary")
    files: list[ImageFile] = []
    header, disposition, content = bytearray(), bytearray(), bytearray()
    ends: list[bool] = []

    def end_part() -> None:
        name = parse_options_header(bytes(disposition))[1].get(b"filename")
        if name is None:
            return
        if len(files) == max_images:
            raise InvalidRequest(f"the form holds more than the {max_images} images of the limit; send the rest in another request")
        files.append(ImageFile(bytes(content), name.decode("utf-8", "replace")[:200]))

    def header_value(data: bytes, start: int, end: int) -> None:
        if header.lower() == b"content-disposition":
            disposition.extend(data[start:end])

    callbacks = {
        "on_part_begin": lambda: (disposition.clear(), content.clear()),
        "on_header_begin": header.clear,
        "on_header_field": lambda data, start, end: header.extend(data[start:end]),
        "on_header_value": header_value,
        "on_part_data": lambda data, start, end: content.extend(data[start:end]),
        "on_part_end": end_part,
        "on_end": lambda: ends.append(True),
    }
    parser = MultipartParser(boundary, callbacks)
    parser.write(body)
    if not ends:
        raise FormParserError("it stops before its last boundary")
    return files
