"""The networks: U-Net on any encoder of segmentation-models-pytorch, and the U-Net of 2015. Both take uint8 images."""

from __future__ import annotations

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.spec import INSTANCE_CHANNELS, Architecture

_IMAGENET_MEAN = (123.675, 116.28, 103.53)  # in units of uint8
_IMAGENET_STD = (58.395, 57.12, 57.375)
_ENCODER_STRIDE = 32


class InvalidArchitecture(ValueError):
    """An architecture that cannot be built."""


def build_network(architecture: Architecture, num_classes: int, *, pretrained: bool = False) -> NormalizedNetwork:
    """The network with fresh weights, or with an encoder pretrained on ImageNet, which downloads them.

    Raises `InvalidArchitecture` for an unknown encoder, or where pretrained weights cannot be had.
    """
    extra = INSTANCE_CHANNELS if architecture.instances else 0
    if architecture.network == "unet2015":
        if pretrained:
            raise InvalidArchitecture("unet2015 has no pretrained weights; train it from scratch, or choose the architecture unet")
        network = UNet2015(num_classes + extra, architecture.base_channels)
        return NormalizedNetwork(_silence(network, network.head, extra), extra)
    try:
        weights = "imagenet" if pretrained else None
        channels = [max(16, architecture.decoder_channels >> level) for level in range(5)]
        network = smp.Unet(architecture.encoder, encoder_weights=weights, decoder_channels=channels, classes=num_classes + extra)
        return NormalizedNetwork(_silence(network, network.segmentation_head[0], extra), extra)
    except (KeyError, RuntimeError, ValueError, OSError) as error:
        raise InvalidArchitecture(_why_not(architecture.encoder, pretrained)) from error


def _silence(network: nn.Module, head: nn.Conv2d, num_channels: int) -> nn.Module:
    """The network, the last channels of whose head begin at 0: noise there would cost more than all classes and drown them."""
    with torch.no_grad():
        for parameter in (head.weight, head.bias):
            parameter[len(parameter) - num_channels :] = 0
    return network


def check_input_size(architecture: Architecture, input_size: tuple[int, int]) -> None:
    """Raises `InvalidArchitecture` where the network cannot take images of `input_size` (height, width)."""
    if architecture.network == "unet" and (any(side % _ENCODER_STRIDE for side in input_size) or min(input_size) <= 0):
        raise InvalidArchitecture(f"input size {input_size}; height and width must be multiples of {_ENCODER_STRIDE}, such as 256 256")
    if architecture.network == "unet2015" and min(input_size) < UNet2015.smallest_side:
        raise InvalidArchitecture(f"input size {input_size}; unet2015 mirrors the border and needs {UNet2015.smallest_side} or more a side")


class NormalizedNetwork(nn.Module):
    """Logits (B, K, H, W) float of images (B, 3, H, W) uint8, and behind them the instance head's channels, where it has one.

    Mean and deviation travel with the weights.
    """

    def __init__(self, network: nn.Module, instance_channels: int = 0) -> None:
        super().__init__()
        self.network = network
        self.instance_channels = instance_channels
        self.register_buffer("pixel_mean", torch.tensor(_IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("pixel_std", torch.tensor(_IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images - self.pixel_mean) / self.pixel_std)


class UNet2015(nn.Module):
    """The U-Net of the paper: unpadded 3x3 convolutions, 2x2 up-convolutions, cropped skips, a border made by mirroring.

    Shapes: images (B, 3, H, W) float, H and W at least `smallest_side`; logits (B, K, H, W) float.
    Source: Ronneberger, Fischer, Brox, "U-Net", 2015, figure 1 and section 3 (He initialisation, dropout at the end of the
    contracting path, mirrored borders).
    """

    smallest_side = 112
    _shrinkage = 184  # what the unpadded convolutions take from each side of 16 n + 12 pixels, both borders together

    def __init__(self, num_classes: int, base_channels: int = 64) -> None:
        super().__init__()
        widths = [base_channels * 2**level for level in range(5)]
        self.contracting = nn.ModuleList(_two_convolutions(c_in, c_out) for c_in, c_out in zip([3, *widths], widths))
        self.dropout = nn.Dropout2d(0.5)
        downwards = list(zip(widths[:0:-1], widths[-2::-1]))
        self.up = nn.ModuleList(nn.ConvTranspose2d(c_in, c_out, 2, stride=2) for c_in, c_out in downwards)
        self.expanding = nn.ModuleList(_two_convolutions(c_in, c_out) for c_in, c_out in downwards)
        self.head = nn.Conv2d(base_channels, num_classes, 1)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        h, w = images.shape[-2:]
        x = _mirror(images, *(_padded_side(side, self._shrinkage) for side in (h, w)))
        skips = []
        for level, block in enumerate(self.contracting):
            x = block(functional.max_pool2d(x, 2) if level else x)
            skips.append(x)
        x = self.dropout(skips.pop())
        for up, block in zip(self.up, self.expanding):
            x = up(x)
            x = block(torch.cat([_crop(skips.pop(), *x.shape[-2:]), x], dim=1))
        return _crop(self.head(x), h, w)


def _two_convolutions(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3), nn.ReLU(inplace=True), nn.Conv2d(c_out, c_out, 3), nn.ReLU(inplace=True))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(module.bias)


def _padded_side(side: int, shrinkage: int) -> int:
    """The smallest side of the form 16 n + 12, which pools evenly four times, that leaves at least `side`."""
    return -(-(side + shrinkage - 12) // 16) * 16 + 12


def _mirror(images: Tensor, height: int, width: int) -> Tensor:
    down, across = height - images.shape[-2], width - images.shape[-1]
    return functional.pad(images, (across // 2, across - across // 2, down // 2, down - down // 2), mode="reflect")


def _crop(x: Tensor, height: int, width: int) -> Tensor:
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width]


def _why_not(encoder: str, pretrained: bool) -> str:
    if pretrained and encoder in smp.encoders.get_encoder_names():
        return f"the ImageNet weights of {encoder} could not be had; connect to the network, or train from scratch without --pretrained"
    known = ", ".join(sorted(smp.encoders.get_encoder_names())[:8])
    return f"encoder {encoder!r} is not known; choose one of segmentation-models-pytorch ({known}, ...) or tu- and a timm model"
