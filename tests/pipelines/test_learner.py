"""One step of training, and what it is made of."""

import pytest
import torch

from models.label_set import LabelSet
from models.spec import Architecture, SegmenterSpec
from pipelines.config import OptimizationConfig, ScaleConfig, TrainConfig
from pipelines.dataset import Example
from pipelines.learner import build_learner, learning_rate_at, seed_step, set_learning_rate, train_step, update_average
from pipelines.timing import StepClock
from pipelines.workers import Workers

SPEC = SegmenterSpec(Architecture(encoder="tu-test_resnet"), LabelSet.from_names(["background", "thing"]), (32, 32))


def test_the_learning_rate_rises_then_falls_to_almost_nothing():
    rates = [learning_rate_at(step, 100, 1.0, 0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] < 0.001
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize(
    ("optimization", "scale"),
    [(OptimizationConfig(precision="fp32"), ScaleConfig()), (OptimizationConfig(precision="bf16"), ScaleConfig(micro_batch_size=2))],
)
def test_a_few_steps_learn_one_batch(optimization, scale):
    config = TrainConfig("none", optimization=optimization, scale=scale)
    learner = build_learner(config, SPEC, Workers(), StepClock())
    set_learning_rate(learner.optimizer, 1e-3)
    images = torch.randint(0, 255, (4, 3, 32, 32), dtype=torch.uint8)
    masks = (images[:, 0] > 127).long()
    batch = Example(images, masks, torch.zeros_like(masks), torch.ones(masks.shape))
    losses = [train_step(learner, batch, config, Workers(), StepClock(), global_batch_size=4).loss.item() for _ in range(15)]
    assert losses[-1] < 0.7 * losses[0]


def test_the_average_begins_as_the_network_and_then_follows_slowly():
    average, network = torch.nn.BatchNorm1d(1), torch.nn.BatchNorm1d(1)
    with torch.no_grad():
        network.weight.fill_(11.0)
        network.num_batches_tracked.fill_(7)
    update_average(average, network, 0, decay=0.99)  # (1 + 0) / (10 + 0) stays of 1.0
    assert average.weight.item() == pytest.approx(0.1 * 1 + 0.9 * 11)
    assert average.num_batches_tracked.item() == 7
    update_average(average, network, 10**6, decay=0.99)
    assert average.weight.item() == pytest.approx(0.99 * 10 + 0.01 * 11)


def test_what_a_step_draws_depends_on_seed_step_and_rank():
    def drawn(*key):
        seed_step(*key)
        return torch.rand(1).item()

    assert drawn(1, 2, 3) == drawn(1, 2, 3)
    assert len({drawn(*key) for key in [(1, 2, 3), (0, 2, 3), (1, 0, 3), (1, 2, 0), (2, 1, 3)]}) == 5
