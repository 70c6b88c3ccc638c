"""What training minimises. Pixels of `IGNORE_INDEX` count nowhere."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from models.instance_targets import instance_targets
from models.label_set import IGNORE_INDEX


@dataclass(frozen=True)
class LossOptions:
    """What counts how much beside the classes of pixels."""

    border_weight: float = 0.0
    """How much more a pixel counts in the narrowest gaps between regions: U-Net's weight map, 10 in the paper."""
    border_sigma: float = 5.0
    """How wide gaps may be to count more, in pixels of the model's input."""
    centre_weight: float = 20.0
    """Of the mean squared error of the centres of objects, with --instances."""
    offset_weight: float = 1.0
    """Of the mean absolute error of the way to the centre, with --instances."""

    def __post_init__(self) -> None:
        for name in ("border_weight", "centre_weight", "offset_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if self.border_sigma <= 0:
            raise ValueError(f"border_sigma is {self.border_sigma}; it must be above 0")


def cross_entropy_loss(logits: Tensor, mask: Tensor, pixel_weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over the pixels that are not ignored, each with its weight; a scalar, 0 where all are.

    Shapes: logits (B, K, H, W) float; mask (B, H, W) int64, values 0..K-1 and `IGNORE_INDEX`; pixel_weights (B, H, W) float32,
    1 everywhere by default. The sum is divided by the number of pixels, so that a weight of 2 counts as two pixels would.
    """
    if pixel_weights is None:
        total = functional.cross_entropy(logits, mask, ignore_index=IGNORE_INDEX, reduction="sum")
    else:
        total = (functional.cross_entropy(logits, mask, ignore_index=IGNORE_INDEX, reduction="none") * pixel_weights).sum()
    return total / (mask != IGNORE_INDEX).sum().clamp(min=1)


def dice_loss(logits: Tensor, mask: Tensor, *, smooth: float = 1.0) -> Tensor:
    """Soft Dice loss averaged over the classes present in the batch; a scalar in [0, 1].

    Shapes: logits (B, K, H, W) float; mask (B, H, W) int64, values 0..K-1 and `IGNORE_INDEX`.
    A class with no pixel in `mask` is left out; an empty selection gives 0.
    Source: Milletari, Navab, Ahmadi, "V-Net", 2016, section 3, with the sums over the whole batch.
    """
    counted = mask != IGNORE_INDEX
    target = mask.where(counted, 0)
    probabilities = logits.float().softmax(dim=1) * counted.unsqueeze(1)
    of_target = probabilities.gather(1, target.unsqueeze(1))
    # Summed by index: a one-hot target would be as large as the logits, K times the mask.
    overlap = _sum_by_class(of_target, target, logits.shape[1])
    true_size = _sum_by_class(counted.to(probabilities.dtype), target, logits.shape[1])
    size = probabilities.sum(dim=(0, 2, 3)) + true_size
    loss = 1 - (2 * overlap + smooth) / (size + smooth)
    present = true_size > 0
    return (loss * present).sum() / present.sum().clamp(min=1)


def _sum_by_class(values: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """The sum of `values` over the pixels of each class in `target` (B, H, W): (K,)."""
    return values.new_zeros(num_classes).scatter_add(0, target.flatten(), values.flatten())


def segmentation_loss(logits: Tensor, mask: Tensor, pixel_weights: Tensor | None = None) -> Tensor:
    """Cross-entropy plus Dice; shapes as theirs."""
    return cross_entropy_loss(logits, mask, pixel_weights) + dice_loss(logits, mask)


def instance_loss(outputs: Tensor, instance_map: Tensor, mask: Tensor, options: LossOptions) -> Tensor:
    """The weighted errors of the centres, over all pixels that are not ignored, and of the offsets, over those of objects; a scalar.

    Shapes: outputs (B, 3, H, W) float: centre, way down, way to the right; instance_map (B, H, W) as `instance_targets` takes it;
    mask (B, H, W) int64, of which only `IGNORE_INDEX` matters.
    """
    targets = instance_targets(instance_map)
    counted = mask != IGNORE_INDEX
    off_centre = ((outputs[:, 0] - targets.centre) ** 2 * counted).sum() / counted.sum().clamp(min=1)
    astray = ((outputs[:, 1:] - targets.offsets).abs().sum(dim=1) * targets.is_object).sum() / targets.is_object.sum().clamp(min=1)
    return options.centre_weight * off_centre + options.offset_weight * astray


def training_loss(
    outputs: Tensor, mask: Tensor, instance_map: Tensor, pixel_weights: Tensor, num_classes: int, options: LossOptions
) -> Tensor:
    """All that training minimises, of the network's `outputs` (B, K, H, W), or (B, K + 3, H, W) with an instance head; a scalar."""
    outputs = outputs.float()
    loss = segmentation_loss(outputs[:, :num_classes], mask, pixel_weights if options.border_weight else None)
    if outputs.shape[1] > num_classes:
        loss = loss + instance_loss(outputs[:, num_classes:], instance_map, mask, options)
    return loss
