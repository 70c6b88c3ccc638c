import math

import pytest
import torch

from models.losses import cross_entropy_loss, dice_loss, segmentation_loss


def logits_of(probabilities) -> torch.Tensor:
    return torch.tensor(probabilities).log().view(1, len(probabilities), 1, -1)


def test_cross_entropy_of_even_odds_is_the_log_of_two_and_ignores_the_rest():
    logits = logits_of([[0.5, 0.999], [0.5, 0.001]])
    assert cross_entropy_loss(logits, torch.tensor([[[0, 255]]])).item() == pytest.approx(math.log(2))


def test_dice_worked_by_hand():
    logits = logits_of([[0.75, 0.25], [0.25, 0.75]])
    # each class: overlap 0.75, sizes 1 + 1
    assert dice_loss(logits, torch.tensor([[[0, 1]]]), smooth=0.0).item() == pytest.approx(0.25)


def test_a_class_that_is_not_in_the_mask_does_not_count():
    logits = logits_of([[0.5, 0.5], [0.25, 0.25], [0.25, 0.25]])
    # class 0 alone: overlap 1.0, sizes 1 + 2
    assert dice_loss(logits, torch.tensor([[[0, 0]]]), smooth=0.0).item() == pytest.approx(1 / 3)


def test_a_batch_that_is_all_ignored_gives_zero_and_a_gradient():
    logits = torch.zeros(2, 3, 4, 4, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((2, 4, 4), 255))
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(logits.grad).all()
