import numpy as np
import pytest

from models.bundle import load_bundle
from models.fit import fit_image
from models.restore import restore_class_map


@pytest.fixture(scope="module")
def segmenter(bundle_folder):
    return load_bundle(bundle_folder)


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(0)
    sizes = [(40, 60), (64, 64), (90, 33), (120, 200), (64, 20), (10, 10), (77, 78), (200, 100)]
    return [fit_image(random.integers(0, 255, (*size, 3), dtype=np.uint8), (64, 64), "letterbox") for size in sizes]


def test_a_prediction_shows_the_image_and_no_padding(segmenter, images):
    prediction = segmenter.predict(images[:1])[0]
    assert prediction.class_map.shape == (43, 64)
    assert restore_class_map(prediction).shape == (40, 60)


def test_the_compact_form_holds_the_probabilities_of_the_borders(segmenter, images):
    prediction = segmenter.predict(images[:1])[0]
    whole = segmenter.engine.compute(images[0].pixels[None])[0][:, *images[0].content.slices].numpy()
    assert (prediction.class_map == whole.argmax(0)).all()
    assert 0 < len(prediction.border_cells) < prediction.class_map.size
    assert (prediction.border_probabilities == whole.reshape(3, -1)[:, prediction.border_cells].T).all()


def test_an_image_gives_the_same_mask_alone_and_in_any_batch(segmenter, images):
    together = segmenter.predict(images)
    for image, from_batch in zip(images, together):
        alone = segmenter.predict([image])[0]
        assert (restore_class_map(alone) == restore_class_map(from_batch)).mean() >= 0.9999


def test_nothing_in_nothing_out(segmenter):
    assert segmenter.predict([]) == []
