"""The loop without Ray: what goes on from a checkpoint equals what never stopped, to the last bit."""

import multiprocessing

import pytest
import torch
import torch.distributed
import torch.multiprocessing

from models.spec import Architecture, SegmenterSpec
from pipelines.checkpoint import Snapshot, TrainState, load_checkpoint
from pipelines.config import OptimizationConfig, ScaleConfig, TrainConfig
from pipelines.data.scenes import write_scenes
from pipelines.data.sources import read_data
from pipelines.dataset import Example, Sample, TrainingSet
from pipelines.epoch_sums import DivergedTraining
from pipelines.learner import build_learner, train_step
from pipelines.progress import Progress
from pipelines.timing import StepClock
from pipelines.training_loop import training_loop
from pipelines.workers import Workers

SMALL = Architecture(encoder="tu-test_resnet", decoder_channels=16)
WITH_DROPOUT = Architecture(network="unet2015", base_channels=2)


class Folder:
    """Checkpoints in a folder; asks to save after the steps in `at`, and ends the training there where `stop` says so."""

    def __init__(self, path, at=(), stop=False):
        self.path, self.at, self.stop, self.steps, self.saved = path, at, stop, 0, []

    def due(self):
        self.steps += 1
        return self.steps in self.at

    def save(self, learner, state, score=None):
        self.saved.append(state)
        if score is None:
            Snapshot.of(learner, state).write(self.path)
            if self.stop:
                raise InterruptedError


def make_config(**optimization) -> TrainConfig:
    return TrainConfig(
        "none",
        optimization=OptimizationConfig(epochs=2, global_batch_size=3, precision="fp32", **optimization),
        scale=ScaleConfig(micro_batch_size=2),
    )


def train(dataset, checkpoints, workers=None, resume=False, config=None):
    """The learner and all that was validated."""
    config, workers, clock, seen = config or make_config(), workers or Workers(), StepClock(), []

    def validate(epoch, metrics):
        seen.append((epoch, metrics["train_loss"]))
        return metrics

    learner = build_learner(config, dataset.spec, workers, clock)
    state = load_checkpoint(checkpoints.path, learner) if resume else TrainState()
    training_loop(
        learner,
        state,
        dataset,
        config,
        workers,
        clock,
        loader_processes=0,
        validate=validate,
        checkpoints=checkpoints,
        progress=Progress(2, silent=True),
    )
    return learner, seen


def same_bits(one, other) -> bool:
    first, second = Snapshot.of(one, TrainState()).tensors, Snapshot.of(other, TrainState()).tensors
    return all(torch.equal(value, second[file][name]) for file, values in first.items() for name, value in values.items())


def open_dataset(folder, architecture, size) -> TrainingSet:
    data = read_data(f"coco:{folder}")
    return TrainingSet(data.splits["train"], SegmenterSpec(architecture, data.label_set, size))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("data") / "scenes", num_train=10, num_val=1)


@pytest.mark.parametrize(("architecture", "size"), [(SMALL, (64, 64)), (WITH_DROPOUT, (112, 112))])
@pytest.mark.parametrize("stop_at", [2, 5])  # steps; an epoch has 3
def test_a_run_that_goes_on_in_mid_epoch_equals_one_that_never_stopped(scenes, tmp_path, architecture, size, stop_at):
    dataset = open_dataset(scenes, architecture, size)
    whole, whole_seen = train(dataset, Folder(tmp_path))
    with pytest.raises(InterruptedError):
        train(dataset, Folder(tmp_path, at={stop_at}, stop=True))
    resumed, resumed_seen = train(dataset, Folder(tmp_path), resume=True)
    same = same_bits(whole, resumed)
    assert same
    assert resumed_seen == whole_seen[stop_at // 3 :]


def test_training_does_not_depend_on_when_it_is_saved_nor_on_an_average_of_the_weights(scenes, tmp_path):
    dataset = open_dataset(scenes, SMALL, (64, 64))
    learner, _ = train(dataset, Folder(tmp_path))
    often = Folder(tmp_path, at={1, 2, 3, 4})
    same = same_bits(learner, train(dataset, often)[0])
    assert same
    assert [(state.epoch, state.step) for state in often.saved] == [(0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (2, 0)]
    plain, _ = train(dataset, Folder(tmp_path), config=make_config(ema_decay=0.0))
    assert plain.served is plain.network
    assert all(torch.equal(value, learner.network.state_dict()[name]) for name, value in plain.network.state_dict().items())


def test_after_the_last_step_of_an_epoch_only_its_validation_is_left(scenes, tmp_path):
    dataset = open_dataset(scenes, SMALL, (64, 64))
    with pytest.raises(InterruptedError):
        train(dataset, Folder(tmp_path, at={3}, stop=True))
    _, seen = train(dataset, Folder(tmp_path), resume=True)
    assert [epoch for epoch, _ in seen] == [1, 2]


def test_weights_that_are_no_numbers_are_never_saved(scenes, tmp_path):
    dataset = open_dataset(scenes, SMALL, (64, 64))
    checkpoints = Folder(tmp_path, at={1, 2})
    with pytest.raises(DivergedTraining, match="the loss of epoch 1 is not a number any more; lower --learning-rate from 1e\\+38"):
        train(dataset, checkpoints, config=make_config(learning_rate=1e38, warmup_share=0.0))
    assert [state.step for state in checkpoints.saved] == [1]  # the first step's loss was still sound


@pytest.mark.slow
def test_three_workers_with_unequal_shares_go_on_to_the_same_bits(scenes, tmp_path):
    world_size = 3
    multiprocessing.set_forkserver_preload(["torch", "torchvision", "pipelines.training_loop"])  # imported once
    torch.multiprocessing.start_processes(_worker, (world_size, scenes, tmp_path), nprocs=world_size, start_method="forkserver")
    results = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(world_size)]
    assert all(result["same_bits"] and result["same_losses"] and result["weighted"] for result in results)
    for name, weights in results[0]["weights"].items():
        assert all(torch.equal(weights, other["weights"][name]) for other in results[1:]), name


def samples_weigh_the_same(dataset, workers) -> bool:
    """Whether the workers' gradient is the mean over all samples, made here of each worker's own."""
    config = TrainConfig("none", optimization=OptimizationConfig(precision="fp32", max_gradient_norm=1e9))
    examples = [dataset[Sample(index)] for index in range(5)[workers.rank :: workers.world_size]]
    batch = Example(*map(torch.stack, zip(*examples)))
    shared, alone = (build_learner(config, dataset.spec, which, StepClock()) for which in (workers, Workers()))
    train_step(shared, batch, config, workers, StepClock(), global_batch_size=5)
    train_step(alone, batch, config, Workers(), StepClock(), global_batch_size=5)
    for parameter in alone.network.parameters():
        torch.distributed.all_reduce(parameter.grad)
    pairs = zip(shared.network.parameters(), alone.network.parameters())
    return all(torch.allclose(ours.grad, summed.grad, rtol=1e-3, atol=1e-5) for ours, summed in pairs)


def _worker(rank, world_size, scenes, folder):
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / "store"), world_size)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=world_size)
    workers = Workers(rank, world_size)
    dataset = open_dataset(scenes, SMALL, (64, 64))
    config = TrainConfig("none", optimization=OptimizationConfig(epochs=2, global_batch_size=5, precision="fp32"))  # shares of 2, 2, 1
    path = folder / f"checkpoint{rank}"
    path.mkdir()
    whole, whole_seen = train(dataset, Folder(path), workers, config=config)
    try:
        train(dataset, Folder(path, at={3}, stop=True), workers, config=config)
    except InterruptedError:
        torch.distributed.barrier()
    resumed, resumed_seen = train(dataset, Folder(path), workers, resume=True, config=config)
    result = {
        "same_bits": same_bits(whole, resumed),
        "weighted": samples_weigh_the_same(dataset, workers),
        "same_losses": resumed_seen == whole_seen[1:],
        "weights": dict(whole.network.named_parameters()),
    }
    torch.save(result, folder / f"rank{rank}.pt")
    torch.distributed.destroy_process_group()
