import json

import pytest
import torch

from models.label_set import LabelSet
from models.spec import Architecture, SegmenterSpec
from models.unet import build_network
from pipelines.checkpoint import DamagedCheckpoint, Snapshot, TrainState, load_checkpoint, load_weights
from pipelines.config import OptimizationConfig, TrainConfig
from pipelines.dataset import Example
from pipelines.learner import build_learner, train_step
from pipelines.timing import StepClock
from pipelines.workers import Workers

SPEC = SegmenterSpec(Architecture(encoder="tu-test_resnet"), LabelSet.from_names(["background", "thing"]), (32, 32))
STATE = TrainState(2, 5, [[1.5, 0.1, 8.0, 2.0]], {"miou": 0.5})


def make_learner(ema_decay=0.9):
    config = TrainConfig("none", optimization=OptimizationConfig(ema_decay=ema_decay))
    learner = build_learner(config, SPEC, Workers(), StepClock())
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    masks = images[:, 0].long()
    train_step(learner, Example(images, masks, masks, torch.ones(masks.shape)), config, Workers(), StepClock(), global_batch_size=2)
    return learner


@pytest.fixture
def saved(tmp_path):
    Snapshot.of(make_learner(), STATE).write(tmp_path)
    return tmp_path


def test_nothing_in_a_checkpoint_is_a_pickle(saved):
    assert sorted(path.suffix for path in saved.iterdir()) == [".json", ".safetensors", ".safetensors", ".safetensors"]


def test_a_snapshot_does_not_change_while_training_goes_on():
    learner = make_learner()
    snapshot = Snapshot.of(learner, STATE)
    before = {name: value.clone() for name, value in snapshot.tensors["trained.safetensors"].items()}
    with torch.no_grad():
        for parameter in learner.network.parameters():
            parameter.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in snapshot.tensors["trained.safetensors"].items())


def test_moments_lie_in_memory_as_their_weights_do(saved):
    learner = make_learner()
    load_checkpoint(saved, learner)
    for parameter, entry in learner.optimizer.state.items():
        assert entry["exp_avg"].stride() == parameter.stride()


def test_what_is_served_is_the_average(saved):
    learner = make_learner()
    assert load_checkpoint(saved, learner) == STATE
    network = build_network(SPEC.architecture, 2)
    load_weights(saved, network)
    for name, value in network.state_dict().items():
        assert torch.equal(value, learner.average.state_dict()[name])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["weights.safetensors", "trained.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", [flip_a_bit, lambda path: path.write_bytes(path.read_bytes()[:100]), lambda path: path.unlink()])
def test_a_damaged_checkpoint_changes_nothing_and_says_which_file(saved, file, damage):
    damage(saved / file)
    learner = make_learner()
    before = Snapshot.of(learner, STATE).tensors
    with pytest.raises(DamagedCheckpoint, match=file if file != "state.json" else "safetensors|state.json"):
        load_checkpoint(saved, learner)
    after = Snapshot.of(learner, STATE).tensors
    assert all(torch.equal(value, after[name][key]) for name, values in before.items() for key, value in values.items())


def test_metrics_that_were_edited_are_noticed(saved):
    content = json.loads((saved / "state.json").read_text())
    content["state"]["metrics"]["miou"] = 0.99
    (saved / "state.json").write_text(json.dumps(content))
    with pytest.raises(DamagedCheckpoint, match="state.json was changed"):
        load_checkpoint(saved, make_learner())


def test_a_checkpoint_with_an_average_is_not_for_a_training_without_one(saved):
    with pytest.raises(DamagedCheckpoint, match="made with an average"):
        load_checkpoint(saved, make_learner(ema_decay=0.0))
