"""Several images in one request: one line of JSON for each, written as soon as it is done, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from deployments.body import ImageFile
from deployments.problems import name_of, problem_document
from deployments.stages import Answer

MEDIA_TYPE = "application/x-ndjson"


async def answer_lines(
    files: Sequence[ImageFile],
    segment: Callable[[bytes], Awaitable[Answer]],
    *,
    num_at_once: int,
    request_id: str | None,
    refused: Callable[[str, int], None],
) -> AsyncIterator[bytes]:
    """A line for each file in the order in which they are done: `index` and `name` of the file, `status`, and then `answer`
    (a JSON document), `body` with `media_type` (any other format, in base64) or `problem`, whose name and status `refused` gets too.
    """
    room = asyncio.Semaphore(num_at_once)

    async def line(index: int, file: ImageFile) -> bytes:
        async with room:
            try:
                return _line(index, file, 200, _content(await segment(file.data)))
            except Exception as error:
                problem = problem_document(error, request_id)
                refused(name_of(problem), problem["status"])
                return _line(index, file, problem["status"], f'"problem":{json.dumps(problem)}'.encode())

    tasks = [asyncio.create_task(line(index, file)) for index, file in enumerate(files)]
    try:
        for done in asyncio.as_completed(tasks):
            yield await done
    finally:  # the caller may have left
        for task in tasks:
            task.cancel()


def _line(index: int, file: ImageFile, status: int, content: bytes) -> bytes:
    head = json.dumps({"index": index, "name": file.name, "status": status}, ensure_ascii=False, separators=(",", ":"))
    return head[:-1].encode() + b"," + content + b"}\n"


def _content(answer: Answer) -> bytes:
    """As it is where it is JSON already, which all of ours is on one line."""
    if answer.media_type.endswith("json"):
        return b'"answer":' + answer.body
    return f'"media_type":"{answer.media_type}","body":"'.encode() + base64.b64encode(answer.body) + b'"'
