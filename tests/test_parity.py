"""One preprocessing and one way back, whoever uses them: compared bit for bit."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from deployments.formats import PNG
from deployments.query import Query
from deployments.stages import Postprocessor, Predicted, Preprocessor
from models.bundle import load_bundle
from models.image import DEFAULT_LIMITS, decode_image
from models.restore import restore_class_map
from pipelines.data.mask_files import MaskFile
from pipelines.data.records import Record
from pipelines.dataset import Sample, TrainingSet, read_example


@pytest.fixture(scope="module", params=["photo.jpg", "turned.jpg", "transparent.png", "grey.png", "real"])
def record(request, tmp_path_factory):
    """A labelled image of each kind; the real one is a phone's photo that EXIF turns."""
    folder, random = tmp_path_factory.mktemp("photo"), np.random.default_rng(0)
    if request.param == "real":
        path = request.getfixturevalue("real_data") / "photos" / "010017.jpg"
    else:
        path = folder / request.param
        modes = {"transparent.png": "RGBA", "grey.png": "L"}
        tags = Image.Exif()
        tags[0x0112] = 6 if request.param == "turned.jpg" else 1
        noise = random.integers(0, 255, (50, 90, 4), dtype=np.uint8)
        Image.fromarray(noise, "RGBA").convert(modes.get(request.param, "RGB")).save(path, exif=tags)
    h, w = decode_image(path.read_bytes()).shape[:2]
    Image.fromarray(random.integers(0, 3, (h, w), dtype=np.uint8)).save(folder / "mask.png")
    return Record(path, MaskFile(folder / "mask.png", 3))


@pytest.fixture(scope="module")
def segmenter(bundle_folder):
    return load_bundle(bundle_folder)


def test_training_evaluation_and_serving_see_the_same_pixels(record, segmenter):
    trained_on = TrainingSet([record], segmenter.spec)[Sample(0)].image
    evaluated, _ = read_example(record, segmenter.spec)
    served = Preprocessor(segmenter.spec, DEFAULT_LIMITS)(record.image_path.read_bytes(), Query(PNG)).image
    assert torch.equal(trained_on.permute(1, 2, 0), torch.from_numpy(served.pixels))
    assert (evaluated.pixels == served.pixels).all()
    assert evaluated.content == served.content
    assert evaluated.original_size == served.original_size


def test_the_served_mask_is_the_evaluated_mask_at_the_size_that_a_person_sees(record, segmenter):
    data = record.image_path.read_bytes()
    evaluated = restore_class_map(segmenter.predict([read_example(record, segmenter.spec)[0]])[0])
    prepared = Preprocessor(segmenter.spec, DEFAULT_LIMITS)(data, Query(PNG))
    predicted = Predicted(segmenter.predict([prepared.image])[0], 1, {})
    answer = Postprocessor(segmenter.spec, DEFAULT_LIMITS, "1")(predicted, Query(PNG), None)
    served = np.array(Image.open(BytesIO(answer.body)))
    assert (served == evaluated).all()
    assert served.shape == decode_image(data).shape[:2]
