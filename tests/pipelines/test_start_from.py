"""What a network begins with."""

import pytest
import torch

from models.bundle import save_bundle
from models.label_set import LabelSet
from models.spec import Architecture, InvalidBundle, SegmenterSpec
from models.unet import InvalidArchitecture, build_network
from pipelines.config import ModelConfig, TrainConfig
from pipelines.learner import build_learner
from pipelines.timing import StepClock
from pipelines.train import weights_to_start_from
from pipelines.workers import Workers

TINY = Architecture(encoder="tu-test_resnet", decoder_channels=16)
SPEC = SegmenterSpec(TINY, LabelSet.from_names(["background", "can", "jar"]), (32, 32))


def config_of(start_from: object) -> TrainConfig:
    return TrainConfig("none", model=ModelConfig(start_from=start_from and str(start_from)))


def test_a_network_and_its_average_begin_with_another_bundles_weights(tmp_path, capsys):
    learnt = build_network(TINY, 2)
    bundle = save_bundle(tmp_path / "learnt", learnt, SegmenterSpec(TINY, LabelSet.from_names(["background", "pet"]), (64, 64)), {})
    config = config_of(bundle)
    start = weights_to_start_from(config, SPEC)
    heads = "network.segmentation_head.0.bias, network.segmentation_head.0.weight"
    assert f"begins with {bundle}; 2 tensors begin afresh: {heads}" in capsys.readouterr().out
    learner = build_learner(config, SPEC, Workers(), StepClock(), start)
    name = next(name for name, _ in learnt.named_parameters() if name.startswith("network.encoder") and name.endswith("weight"))
    assert torch.equal(learner.network.state_dict()[name], learnt.state_dict()[name])
    assert torch.equal(learner.served.state_dict()[name], learnt.state_dict()[name])
    assert learner.network.state_dict()["network.segmentation_head.0.weight"].shape[0] == 3


def test_where_nothing_is_said_it_begins_afresh():
    assert weights_to_start_from(config_of(None), SPEC) is None


def test_what_is_no_model_or_another_network_is_refused(tmp_path):
    with pytest.raises(InvalidBundle):
        weights_to_start_from(config_of(tmp_path), SPEC)
    other = Architecture(encoder="mobilenet_v2", decoder_channels=16)
    bundle = save_bundle(tmp_path / "other", build_network(other, 3), SegmenterSpec(other, SPEC.label_set, (32, 32)), {})
    with pytest.raises(InvalidArchitecture, match="give the --network, --encoder"):
        weights_to_start_from(config_of(bundle), SPEC)
