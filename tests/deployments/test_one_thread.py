"""All stages on one thread give what they give on several."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from deployments.admission import DeadlinePassed
from deployments.config import AppConfig
from deployments.formats import JSON, OVERLAY, PNG
from deployments.graph import FusedGraph
from deployments.model_source import fetch_bundle
from deployments.one_thread import OneThreadGraph
from deployments.query import Query
from models.image import InvalidImage
from tests.deployments.conftest import encode_photo


@pytest.fixture(scope="module")
def one_thread(config: AppConfig) -> OneThreadGraph:
    return OneThreadGraph(fetch_bundle(config.model_uri), config.model_copy(update={"codec_threads": 0}))


def answers(graph, *requests):
    async def main():
        return await asyncio.gather(*(graph.segment(image, query) for image, query in requests), return_exceptions=True)

    return asyncio.run(main())


@pytest.mark.parametrize("query", [Query(PNG), Query(JSON), Query(OVERLAY), Query(PNG, tiled=True)], ids=lambda each: each.format.name)
def test_the_answer_is_that_of_several_threads(one_thread: OneThreadGraph, graph: FusedGraph, pixels, query):
    photo = encode_photo(np.tile(pixels, (2, 2, 1)), "PNG")
    ((ours,), (theirs,)) = (answers(each, (photo, query)) for each in (one_thread, graph))
    assert (ours.body, ours.media_type, ours.size) == (theirs.body, theirs.media_type, theirs.size)


def test_what_waits_shares_a_pass_and_a_bad_one_fails_alone(one_thread, pixels):
    good = [encode_photo(np.roll(pixels, 11 * index, axis=1)) for index in range(4)]
    alone = [answers(one_thread, (photo, Query(PNG)))[0].body for photo in good]
    late = Query(PNG, deadline=1.0)  # in 1970
    mixed = [(photo, Query(PNG)) for photo in good] + [(b"no image", Query(PNG)), (good[0], late), (good[1], Query(PNG, tiled=True))]
    first, *together, bad, too_late, tiled = answers(one_thread, (good[0], Query(PNG)), *mixed)
    assert [each.body for each in together] == alone and first.body == alone[0]
    assert max(each.batch_size for each in together) > 1
    assert isinstance(bad, InvalidImage) and isinstance(too_late, DeadlinePassed) and tiled.size == (90, 120)


def test_its_parts_say_where_the_time_went(one_thread, photo):
    (answer,) = answers(one_thread, (photo, Query(PNG)))
    assert list(answer.times_s) == ["queue", "decode", "model", "restore", "encode", "neighbours"]
    assert min(answer.times_s.values()) >= 0
