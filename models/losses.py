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
    counted = (mask != IGNORE_INDEX).unsqueeze(1)
    target = functional.one_hot(mask.clamp(max=logits.shape[1] - 1), logits.shape[1]).movedim(-1, 1) * counted
    probabilities = logits.float().softmax(dim=1) * counted
    overlap = (probabilities * target).sum(dim=(0, 2, 3))
    size = probabilities.sum(dim=(0, 2, 3)) + target.sum(dim=(0, 2, 3))
    present = target.sum(dim=(0, 2, 3)) > 0
    loss = 1 - (2 * overlap + smooth) / (size + smooth)
    return (loss * present).sum() / present.sum().clamp(min=1)


def segmentation_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy plus Dice; shapes as theirs."""
    return cross_entropy_loss(logits, mask) + dice_loss(logits, mask)
