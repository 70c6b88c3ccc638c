from __future__ import annotations

import asyncio
import pickle
from dataclasses import replace

import numpy as np
import pytest

from deployments.config import AppConfig
from deployments.formats import FORMATS, JSON, PNG
from deployments.graph import FusedGraph
from deployments.model_source import fetch_bundle
from deployments.model_stage import ModelStage
from deployments.query import Query
from deployments.stages import Postprocessor, Predicted, Preprocessor
from models.bundle import load_bundle
from models.fit import preprocess
from models.image import ImageLimits, ImageTooLarge, InvalidImage


@pytest.fixture(scope="module")
def segmenter(bundle_folder):
    return load_bundle(bundle_folder)


def test_the_preprocessor_is_the_models_own(segmenter, photo):
    prepared = Preprocessor(segmenter.spec, ImageLimits())(photo, Query(JSON))
    np.testing.assert_array_equal(prepared.image.pixels, preprocess(photo, (64, 64), segmenter.spec.fit_rule).pixels)
    assert prepared.times_s["decode"] > 0


def test_limits_and_damage_are_refused_before_the_model(segmenter, photo):
    with pytest.raises(ImageTooLarge):
        Preprocessor(segmenter.spec, ImageLimits(max_pixels=100))(photo, Query(JSON))
    with pytest.raises(InvalidImage):
        Preprocessor(segmenter.spec, ImageLimits())(photo[:200], Query(JSON))


def test_a_bad_item_fails_alone_in_its_batch(segmenter, photo):
    stage = ModelStage(segmenter, num_threads=1, max_batch_size=2)
    good = preprocess(photo, (64, 64), segmenter.spec.fit_rule)
    bad = replace(good, pixels=good.pixels[..., :2])  # two channels
    first, second, third = stage([good, bad, good])
    assert isinstance(second, Exception)
    for prediction in (first, third):
        np.testing.assert_array_equal(prediction.class_map, segmenter.predict([good])[0].class_map)


def test_an_answer_does_not_depend_on_its_batch(segmenter, pixels, photo):
    stage = ModelStage(segmenter, num_threads=1, max_batch_size=8)
    images = [preprocess(photo, (64, 64), rule) for rule in ("letterbox", "stretch")] * 4
    finish = Postprocessor(segmenter.spec, ImageLimits(), "v")
    together = [finish(Predicted(each, 8, {}), Query(PNG), None).body for each in stage(images)]
    alone = [finish(Predicted(stage([each])[0], 1, {}), Query(PNG), None).body for each in images]
    assert together == alone


def test_what_travels_between_deployments_is_small_and_pickles(segmenter, photo):
    prepared = Preprocessor(segmenter.spec, ImageLimits())(photo, Query(JSON))
    predicted = Predicted(ModelStage(segmenter, 1, 1)([prepared.image])[0], 1, prepared.times_s)
    finish = pickle.loads(pickle.dumps(Postprocessor(segmenter.spec, ImageLimits(), "v")))
    for answer_format in FORMATS:
        copy = pickle.loads(pickle.dumps((predicted, Query(answer_format))))
        assert finish(*copy, photo).body == finish(predicted, Query(answer_format), photo).body
    logits_bytes = 4 * len(segmenter.spec.label_set) * 64 * 64
    assert len(pickle.dumps(predicted)) < logits_bytes


def test_concurrent_requests_share_a_batch(bundle_folder, photo):
    config = AppConfig(model_uri=str(bundle_folder), codec_threads=2)
    graph = FusedGraph(fetch_bundle(config.model_uri), config)

    async def main():
        return await asyncio.gather(*(graph.segment(photo, Query(JSON)) for _ in range(16)))

    answers = asyncio.run(main())
    assert max(each.batch_size for each in answers) > 1
    assert len({each.body for each in answers}) == 1
