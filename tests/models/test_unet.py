import pytest
import torch

from models.spec import Architecture
from models.unet import InvalidArchitecture, UNet2015, build_network, check_input_size


def test_logits_have_the_images_size():
    network = build_network(Architecture(encoder="resnet18"), 5).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, 64, 96, dtype=torch.uint8)).shape == (2, 5, 64, 96)


@pytest.mark.parametrize("size", [(112, 112), (128, 150)])
def test_the_2015_network_gives_every_pixel_of_the_image_a_class(size):
    with torch.inference_mode():
        assert UNet2015(2, base_channels=2)(torch.zeros(1, 3, *size)).shape == (1, 2, *size)


def test_the_2015_network_has_the_papers_sizes():
    shapes = []
    with torch.device("meta"), torch.inference_mode():  # shapes without the arithmetic
        network = UNet2015(2)
        network.contracting[-1].register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape)))
        assert network(torch.zeros(1, 3, 388, 388)).shape == (1, 2, 388, 388)
    assert shapes == [(1, 1024, 28, 28)]  # figure 1 of the paper, for a tile of 572
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(31e6, rel=0.01)


def test_normalisation_travels_with_the_weights():
    network = build_network(Architecture(), 2)
    assert network.state_dict()["pixel_mean"].flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])


def test_refuses_what_cannot_be_built():
    with pytest.raises(InvalidArchitecture, match="'nonsense' is not known"):
        build_network(Architecture(encoder="nonsense"), 2)
    with pytest.raises(InvalidArchitecture, match="multiples of 32"):
        check_input_size(Architecture(), (250, 256))
    with pytest.raises(InvalidArchitecture, match="needs 112"):
        check_input_size(Architecture(network="unet2015"), (96, 96))


def test_a_narrower_decoder_is_halved_down_to_16_channels():
    network = build_network(Architecture(encoder="resnet18", decoder_channels=64), 2)
    assert [block.conv2[0].out_channels for block in network.network.decoder.blocks] == [64, 32, 16, 16, 16]


@pytest.mark.parametrize("network", ["unet", "unet2015"])
def test_an_instance_head_begins_silent_and_the_classes_do_not(network):
    architecture = Architecture(network, encoder="tu-test_resnet", base_channels=2, instances=True)
    outputs = build_network(architecture, 4).eval()(torch.randint(0, 255, (1, 3, 128, 128), dtype=torch.uint8))
    assert outputs.shape == (1, 7, 128, 128)
    assert (outputs[:, 4:] == 0).all() and outputs[:, :4].abs().amax(dim=(0, 2, 3)).min() > 0
