import pytest
import torch

from models.spec import Architecture
from models.transfer import copy_what_fits
from models.unet import InvalidArchitecture, build_network

TINY = Architecture(encoder="tu-test_resnet", decoder_channels=16)


def test_all_but_the_head_of_other_classes_is_copied():
    learnt, network = build_network(TINY, 3), build_network(TINY, 5)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fresh = copy_what_fits(learnt.state_dict(), network)
    is_head = {name: "segmentation_head" in name for name in before}
    assert fresh == [name for name in sorted(before) if is_head[name]] and len(fresh) == 2  # weights and biases
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name] if is_head[name] else learnt.state_dict()[name])


def test_a_network_of_the_same_shape_becomes_the_other_one():
    learnt, network = build_network(TINY, 3), build_network(TINY, 3)
    assert copy_what_fits(learnt.state_dict(), network) == []
    assert all(torch.equal(a, b) for a, b in zip(learnt.state_dict().values(), network.state_dict().values(), strict=True))


def test_weights_of_another_encoder_are_refused():
    other = build_network(Architecture(encoder="mobilenet_v2", decoder_channels=16), 3)
    with pytest.raises(InvalidArchitecture, match="give the --network, --encoder"):
        copy_what_fits(other.state_dict(), build_network(TINY, 3))
