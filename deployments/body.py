"""An image from a request's body, raw or in a form, never more of it in memory than the limit allows."""

from __future__ import annotations

import asyncio

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from deployments.problems import BodyTooLarge, BodyTooSlow, InvalidRequest, UnsupportedMediaType

_FORM = "multipart/form-data"
# The last is what curl says of `--data-binary` where nobody says otherwise.
_UNDECLARED = ("", "application/octet-stream", "application/x-www-form-urlencoded")


async def read_image(request: Request, max_bytes: int, timeout_s: float) -> bytes:
    """The image file that the request carries. Raises the `InvalidRequest`s of `problems`."""
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type != _FORM and media_type not in _UNDECLARED and not media_type.startswith("image/"):
        raise UnsupportedMediaType(f"a body of type {media_type[:80]!r} is not read; send image/*, application/octet-stream or {_FORM}")
    body = await read_body(request, max_bytes, timeout_s)
    return _image_of_form(request.headers["content-type"], body) if media_type == _FORM else body


async def read_body(request: Request, max_bytes: int, timeout_s: float) -> bytes:
    """The whole body. Raises `BodyTooLarge`, `BodyTooSlow`."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _read_limited(request, max_bytes)
    except TimeoutError as error:
        raise BodyTooSlow(f"the body did not arrive within {timeout_s:g} s; send it faster, or a smaller image") from error


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


def _image_of_form(content_type: str, body: bytes) -> bytes:
    try:
        files = _files_of_form(content_type, body)
    except FormParserError as error:
        raise InvalidRequest(f"the form cannot be read: {str(error)[:120]}; send the image as one file of {_FORM}") from error
    if len(files) != 1:
        count = "more than one file" if files else "no complete file"
        raise InvalidRequest(f"the form holds {count}; send exactly one, in a field of any name")
    return files[0]


def _files_of_form(content_type: str, body: bytes) -> list[bytes]:
    """The contents of the form's complete files, other fields left out. Nothing touches the disk."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise FormParserError("its Content-Type names no boundary")
    files: list[bytes] = []
    header, disposition, content = bytearray(), bytearray(), bytearray()

    def end_part() -> None:
        if b"filename" in parse_options_header(bytes(disposition))[1]:
            files.append(bytes(content))

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
    }
    parser = MultipartParser(boundary, callbacks)
    parser.write(body)
    parser.finalize()
    return files
