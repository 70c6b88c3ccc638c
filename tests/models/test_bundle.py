import json
import shutil

import numpy as np
import pytest

from models.bundle import load_bundle, save_bundle
from models.fit import fit_image
from models.spec import InvalidBundle, read_card


@pytest.fixture
def copy(bundle_folder, tmp_path):
    return shutil.copytree(bundle_folder, tmp_path / "bundle")


def test_loads_with_no_other_argument_and_predicts_the_same(bundle_folder, tmp_path):
    first = load_bundle(bundle_folder)
    second = load_bundle(save_bundle(tmp_path / "again", first.network, first.spec, {"run_id": "1"}))
    image = fit_image(np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8), first.spec.input_size, first.spec.fit_rule)
    assert second.spec == first.spec
    pixels = image.pixels[np.newaxis]
    assert (first.engine.compute(pixels) == second.engine.compute(pixels)).all()
    assert read_card(tmp_path / "again")["provenance"] == {"run_id": "1"}


def test_holds_two_files_and_no_pickle(bundle_folder):
    assert sorted(path.name for path in bundle_folder.iterdir()) == ["model.json", "weights.safetensors"]


def test_refuses_damaged_weights(copy):
    weights = bytearray((copy / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "weights.safetensors").write_bytes(weights)
    with pytest.raises(InvalidBundle, match="copy the bundle again"):
        load_bundle(copy)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"format": 2}, "not format 1"), ({"head": "panoptic"}, "a head of semantic or"), ({"input_size": None}, "lacks what a segmenter")],
)
def test_refuses_a_card_it_does_not_understand(copy, change, reason):
    card = json.loads((copy / "model.json").read_text())
    (copy / "model.json").write_text(json.dumps(card | change))
    with pytest.raises(InvalidBundle, match=reason):
        load_bundle(copy)


def test_refuses_a_folder_that_is_no_bundle(tmp_path):
    with pytest.raises(InvalidBundle, match="is no bundle"):
        load_bundle(tmp_path)


def test_a_bundle_replaces_the_one_before(copy, bundle_folder):
    segmenter = load_bundle(bundle_folder)
    save_bundle(copy, segmenter.network, segmenter.spec, {"second": True})
    assert read_card(copy)["provenance"] == {"second": True}
    assert [path.name for path in copy.parent.iterdir()] == ["bundle"]
