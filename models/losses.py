"""What training minimises. Pixels of `IGNORE_INDEX` count nowhere."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from models.label_set import IGNORE_INDEX


def cross_entropy_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean cross-entropy over the pixels that are not ignored; a scalar, 0 where all are.

    Shapes: logits (B, K, H, W) float; mask (B, H, W) int64, values 0..K-1 and `IGNORE_INDEX`.
    """
    total = functional.cross_entropy(logits, mask, ignore_index=IGNORE_INDEX, reduction="sum")
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


def segmentation_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy plus Dice; shapes as theirs."""
    return cross_entropy_loss(logits, mask) + dice_loss(logits, mask)
