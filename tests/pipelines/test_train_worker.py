"""The pieces of the training loop that need no cluster."""

import pytest
import torch

from models.spec import Architecture
from models.unet import build_network
from pipelines.config import OptimizationConfig
from pipelines.dataset import Example
from pipelines.progress import Progress
from pipelines.train_worker import EpochTotals, learning_rate_at, train_step


def test_the_learning_rate_rises_then_falls_to_almost_nothing():
    config = OptimizationConfig(learning_rate=1.0, warmup_share=0.1)
    rates = [learning_rate_at(step, 100, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] < 0.001
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_few_steps_learn_one_batch(precision):
    torch.manual_seed(0)
    network = build_network(Architecture(encoder="tu-test_resnet"), 2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    images = torch.randint(0, 255, (4, 3, 32, 32), dtype=torch.uint8)
    masks = (images[:, 0] > 127).long()
    batch = Example(images, masks, torch.zeros_like(masks), torch.ones(masks.shape))
    losses = [train_step(network, optimizer, batch, 2, OptimizationConfig(precision=precision)).item() for _ in range(15)]
    assert losses[-1] < 0.7 * losses[0]


def test_an_epochs_metrics_are_sums_divided_once():
    assert EpochTotals(torch.tensor(6.0), 4, 2.0).summary() == {"train_loss": 1.5, "samples_per_s": 2.0}


def test_progress_says_where_training_is_and_what_it_reached(capsys):
    progress = Progress(4, 10, first_epoch=2, silent=False)
    progress.epoch_done({"train_loss": 0.5, "samples_per_s": 31.25})
    progress.validated({"miou": 0.25, "iou/can": 0.1})
    said = capsys.readouterr().out
    assert "going on after epoch 2 of 4" in said
    assert "epoch 3/4  loss 0.500  31.2 images/s" in said
    assert "left" in said
    assert "validation  miou 0.2500" in said


def test_ranks_other_than_the_first_say_nothing(capsys):
    Progress(4, 10, first_epoch=2, silent=True).epoch_done({"train_loss": 0.5, "samples_per_s": 1.0})
    assert capsys.readouterr().out == ""
