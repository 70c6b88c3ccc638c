import math

import pytest
import torch

from models.instance_targets import instance_targets
from models.losses import LossOptions, cross_entropy_loss, dice_loss, instance_loss, segmentation_loss, training_loss


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


def test_a_pixel_of_weight_three_adds_three_times_its_cross_entropy():
    logits = logits_of([[0.5, 0.25], [0.5, 0.75]])
    loss = cross_entropy_loss(logits, torch.tensor([[[0, 0]]]), torch.tensor([[[3.0, 1.0]]]))
    assert loss.item() == pytest.approx((3 * math.log(2) + math.log(4)) / 2)


def test_right_centres_and_offsets_cost_nothing_and_wrong_ones_their_error():
    mask, instance_map = torch.ones(1, 1, 3, dtype=torch.int64), torch.tensor([[[5, 5, 5]]])
    targets = instance_targets(instance_map)
    right = torch.cat([targets.centre.unsqueeze(1), targets.offsets], dim=1)
    options = LossOptions(centre_weight=10, offset_weight=2)
    assert instance_loss(right, instance_map, mask, options).item() == 0
    wrong = right + torch.tensor([0.1, 0.25, -0.25]).view(1, 3, 1, 1)
    assert instance_loss(wrong, instance_map, mask, options).item() == pytest.approx(10 * 0.01 + 2 * 0.5)
    ignored = torch.full((1, 1, 3), 255)
    assert instance_loss(wrong, torch.zeros_like(instance_map), ignored, options).item() == 0


def test_the_instance_head_learns_beside_the_classes():
    outputs = torch.zeros(1, 5, 8, 8, requires_grad=True)
    mask = torch.zeros(1, 8, 8, dtype=torch.int64)
    mask[:, 2:6, 2:6] = 1
    training_loss(outputs, mask, mask, torch.ones(1, 8, 8), 2, LossOptions()).backward()
    assert (outputs.grad.abs().amax(dim=(0, 2, 3)) > 0).tolist() == [True, True, True, True, True]
