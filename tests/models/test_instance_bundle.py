"""A bundle with an instance head, from its file to single objects, on every engine."""

import json

import numpy as np
import pytest
import torch

from models.bundle import load_bundle, save_bundle
from models.engines.eager import EagerEngine
from models.engines.onnx import OnnxEngine, export_graph
from models.engines.parity import compare, drawn_images
from models.fit import fit_image
from models.instance_restore import restore_instances
from models.restore import restore_class_map
from models.spec import Architecture, InvalidBundle, SegmenterSpec, read_card
from models.tiling import blend_tiles, cut_tiles, plan_tiles
from models.unet import build_network


@pytest.fixture(scope="module", params=["unet", "unet2015"])
def bundle(request, tmp_path_factory, pet_labels):
    torch.manual_seed(0)
    architecture = Architecture(request.param, encoder="tu-test_resnet", base_channels=2, instances=True)
    spec = SegmenterSpec(architecture, pet_labels, (128, 128))
    return save_bundle(tmp_path_factory.mktemp("model") / "bundle", build_network(architecture, 3), spec, {})


def test_it_says_what_its_head_is_and_predicts_objects_of_one_class_each(bundle):
    assert read_card(bundle)["head"] == "semantic+centre_offset"
    segmenter = load_bundle(bundle)
    (prediction,) = segmenter.predict([fit_image(drawn_images((90, 120), 1)[0], (128, 128), "letterbox")])
    instances = prediction.instances
    assert instances.instance_map.shape == prediction.class_map.shape == (96, 128)
    assert ((instances.instance_map > 0) == (prediction.class_map != 1)).all()  # class 1 is background
    assert instances.instance_map.max() == len(instances.certainty) > 0
    class_map = restore_class_map(prediction)
    assert ((restore_instances(prediction, class_map) > 0) == (class_map != 1)).all()


def test_the_head_changes_nothing_in_classes_and_confidence(bundle):
    segmenter = load_bundle(bundle)
    pixels = drawn_images((128, 128), 2)
    outputs = segmenter.engine.compute(pixels)
    assert outputs.shape == (2, 6, 128, 128) and outputs.dtype == torch.float16
    with torch.inference_mode():
        raw = segmenter.network(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    torch.testing.assert_close(outputs[:, :3].float(), raw[:, :3].softmax(dim=1), atol=1e-3, rtol=0)
    torch.testing.assert_close(outputs[:, 3:].float(), raw[:, 3:], atol=1e-2, rtol=1e-2)


def test_onnx_computes_the_head_too(bundle, tmp_path):
    segmenter = load_bundle(bundle)
    export_graph(segmenter.network, (128, 128), tmp_path / "model.onnx")
    engine = OnnxEngine((tmp_path / "model.onnx").read_bytes())
    parity = compare(EagerEngine(segmenter.network), engine, drawn_images((128, 128), 3), num_classes=3)
    assert parity.pixel_agreement > 0.999 and parity.largest_difference < 0.05 and len(parity.class_iou) == 3


def test_tiles_are_blended_to_objects(bundle):
    segmenter = load_bundle(bundle)
    plan = plan_tiles((128, 200), (128, 128), max_tiles=4)
    tiled = cut_tiles(drawn_images((128, 200), 1)[0], plan, (128, 128))
    prediction = blend_tiles(plan, segmenter.predict(tiled.tiles), tiled.original_size, segmenter.spec.label_set)
    assert prediction.instances.instance_map.shape == (128, 200)
    assert prediction.border_probabilities.shape[1] == 3


def test_a_card_whose_head_is_not_its_networks_is_refused(bundle, tmp_path):
    card = json.loads((bundle / "model.json").read_text()) | {"head": "semantic"}
    (tmp_path / "model.json").write_text(json.dumps(card))
    with pytest.raises(InvalidBundle, match="head"):
        load_bundle(tmp_path)


def test_a_bundle_from_before_there_were_instance_heads_loads(bundle_folder, tmp_path):
    card = json.loads((bundle_folder / "model.json").read_text())
    del card["architecture"]["instances"]
    (tmp_path / "model.json").write_text(json.dumps(card))
    (tmp_path / "weights.safetensors").write_bytes((bundle_folder / "weights.safetensors").read_bytes())
    image = fit_image(np.zeros((20, 30, 3), np.uint8), (64, 64), "letterbox")
    assert load_bundle(tmp_path).predict([image])[0].instances is None
