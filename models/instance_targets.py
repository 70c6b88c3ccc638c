"""What the instance head is to learn: where each object's centre is, and which way each pixel has to go there.

Source: Cheng et al., "Panoptic-DeepLab", 2020, section 3.2; the size of the Gaussians goes with the objects', as in Zhou et al.,
"Objects as Points", 2019, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.spec import OFFSET_UNIT

_SPREAD = 0.125  # a Gaussian's deviation as a part of the side of a square as large as the object
_NARROWEST, _WIDEST = 1.5, 8.0  # deviations, in pixels
_REACH = 3  # deviations


@dataclass(frozen=True)
class InstanceTargets:
    """Shapes: centre (B, H, W) float32 in [0, 1], a Gaussian on each object's centre of mass, the highest where several overlap;
    offsets (B, 2, H, W) float32, from each object's pixel to that centre, [down, right] in units of `OFFSET_UNIT` pixels;
    is_object (B, H, W) bool, where offsets are known."""

    centre: Tensor
    offsets: Tensor
    is_object: Tensor


def instance_targets(instance_map: Tensor) -> InstanceTargets:
    """The targets of `instance_map` (B, H, W), integers: 0 where no object is, objects numbered from 1, perhaps with gaps.

    Computed where `instance_map` is, with no loop over pixels or objects.
    """
    num_images, height, width = instance_map.shape
    device = instance_map.device
    stride = int(instance_map.max()) + 1 if instance_map.numel() else 1
    owner = instance_map.long() + stride * torch.arange(num_images, device=device).view(-1, 1, 1)
    y = torch.arange(height, device=device).view(1, -1, 1).expand_as(owner)
    x = torch.arange(width, device=device).view(1, 1, -1).expand_as(owner)
    area, sum_y, sum_x = (_sums(owner, values, stride * num_images) for values in (torch.ones_like(owner), y, x))
    centres = torch.stack([sum_y, sum_x]).float() / area.clamp(min=1)
    is_object = instance_map > 0
    offsets = (centres[:, owner] - torch.stack([y, x])) / OFFSET_UNIT
    found = torch.nonzero((area > 0) & (torch.arange(len(area), device=device) % stride > 0)).squeeze(1)
    centre = _gaussians(centres[:, found], area[found], found // stride, instance_map.shape)
    return InstanceTargets(centre, (offsets * is_object).transpose(0, 1), is_object)


def _sums(owner: Tensor, values: Tensor, num_owners: int) -> Tensor:
    """(num_owners,) int64: whole numbers, so that a GPU's order of adding does not matter."""
    return torch.zeros(num_owners, dtype=torch.int64, device=owner.device).scatter_add(0, owner.flatten(), values.flatten())


def _gaussians(centres: Tensor, area: Tensor, image: Tensor, shape: torch.Size) -> Tensor:
    """The map (B, H, W) of Gaussians around `centres` (2, N), each in the square that it reaches; `area`, `image` are (N,)."""
    _, height, width = shape
    deviation = (_SPREAD * area.float().sqrt()).clamp(_NARROWEST, _WIDEST).view(-1, 1, 1)
    reach = int(_REACH * _WIDEST)
    near = torch.arange(-reach, reach + 1, device=centres.device)
    y, x = centres.round().long()
    y, x = y.view(-1, 1, 1) + near.view(1, -1, 1), x.view(-1, 1, 1) + near.view(1, 1, -1)
    squared = (y - centres[0].view(-1, 1, 1)) ** 2 + (x - centres[1].view(-1, 1, 1)) ** 2
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width) & (squared <= (_REACH * deviation) ** 2)
    values = torch.exp(-squared / (2 * deviation**2)) * inside
    place = (image.view(-1, 1, 1) * height + y.clamp(0, height - 1)) * width + x.clamp(0, width - 1)
    flat = torch.zeros(shape.numel(), device=centres.device)
    return flat.scatter_reduce(0, place.flatten(), values.flatten(), "amax").view(shape)
