import numpy as np
import pytest
import torch

from models.losses import LossOptions
from models.spec import Architecture, SegmenterSpec
from pipelines.data.scenes import write_scenes
from pipelines.data.sources import read_data
from pipelines.dataset import Sample, ShardedBatchSampler, TrainingSet, read_example, training_batches


def batches(rank=0, world_size=1, epoch=0, num_samples=10, global_batch_size=4, seed=0, first_step=0):
    return list(
        ShardedBatchSampler(
            num_samples,
            global_batch_size=global_batch_size,
            rank=rank,
            world_size=world_size,
            seed=seed,
            num_epochs=epoch + 1,
            first_epoch=epoch,
            first_step=first_step,
        )
    )


def test_every_sample_comes_once_an_epoch_and_no_batch_is_a_small_rest():
    sizes = [len(batch) for batch in batches()]
    assert sizes == [5, 5]
    assert sorted(sample.index for batch in batches() for sample in batch) == list(range(10))


@pytest.mark.parametrize("world_size", [2, 3])
def test_workers_share_the_same_global_batches_whatever_their_number(world_size):
    alone = [{(s.index, s.seed) for s in batch} for batch in batches()]
    shared = zip(*(batches(rank=rank, world_size=world_size) for rank in range(world_size)))
    assert [{(s.index, s.seed) for part in parts for s in part} for parts in shared] == alone


def test_all_workers_take_equally_many_steps_and_none_gets_an_empty_batch():
    for num_samples in range(4, 40):
        shards = [batches(rank=rank, world_size=4, num_samples=num_samples, global_batch_size=8) for rank in range(4)]
        assert len({len(shard) for shard in shards}) == 1
        assert min(len(batch) for shard in shards for batch in shard) >= 1


def test_order_depends_on_seed_and_epoch_alone():
    assert batches(epoch=3) == batches(epoch=3)
    assert batches(epoch=3) != batches(epoch=4)
    assert batches(seed=1) != batches(seed=2)


def test_a_run_that_goes_on_gets_the_batches_that_are_left_and_then_the_next_epochs():
    options = {"global_batch_size": 2, "rank": 1, "world_size": 2, "seed": 0, "num_epochs": 2}
    whole = list(ShardedBatchSampler(7, **options))
    rest = ShardedBatchSampler(7, **options, first_epoch=0, first_step=2)
    assert list(rest) == whole[2:]
    assert len(rest) == len(whole) - 2 == 4


def test_the_sampler_knows_how_large_each_global_batch_is():
    sampler = ShardedBatchSampler(11, global_batch_size=3, rank=0, world_size=1, seed=0)
    assert [len(batch) for batch in sampler] == [sampler.global_batch_size(step) for step in range(3)] == [4, 4, 3]


def test_more_workers_than_images_is_refused():
    with pytest.raises(ValueError, match="at most 2 workers"):
        ShardedBatchSampler(2, global_batch_size=8, rank=0, world_size=3, seed=0)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    data = read_data(f"coco:{write_scenes(tmp_path_factory.mktemp('data') / 'scenes', num_train=4, num_val=1)}")
    return TrainingSet(data.splits["train"], SegmenterSpec(Architecture(instances=True), data.label_set, (64, 96)))


def test_the_same_seed_gives_the_same_pixels_and_another_seed_others(scenes):
    first, again, other = (scenes[Sample(0, seed)] for seed in (5, 5, 6))
    assert all(torch.equal(*pair) for pair in zip(first, again))
    assert not torch.equal(first.image, other.image)


def test_without_a_seed_an_example_is_what_serving_sees(scenes):
    image, class_map = read_example(scenes.records[0], scenes.spec)
    example = scenes[Sample(0)]
    assert (example.image.permute(1, 2, 0).numpy() == image.pixels).all()
    assert (example.mask.numpy()[image.content.slices] == 255).sum() == 0
    assert set(np.unique(example.mask)) == {*np.unique(class_map), 255}


def test_objects_are_on_the_pixels_of_their_classes(scenes):
    for seed in range(8):  # some with objects of another photo on it
        example = scenes[Sample(0, seed)]
        assert ((example.instance_map > 0) == ((example.mask > 0) & (example.mask < 255))).all()
        for number in example.instance_map.unique()[1:]:
            assert len(example.mask[example.instance_map == number].unique()) == 1


def test_the_loader_stacks_bytes_and_indices(scenes):
    sampler = ShardedBatchSampler(4, global_batch_size=2, rank=0, world_size=1, seed=0)
    batch = next(training_batches(scenes, sampler, loader_processes=0, pin_memory=False))
    assert (batch.image.shape, batch.image.dtype) == ((2, 3, 64, 96), torch.uint8)
    assert (batch.mask.shape, batch.mask.dtype) == ((2, 64, 96), torch.int64)
    assert set(np.unique(batch.mask)) <= {0, 1, 2, 3, 4, 5, 255}
    assert batch.instance_map.max() > 0 and (batch.pixel_weights == 1).all()


def test_border_weights_are_made_of_objects_where_they_are_told_apart_and_else_of_regions(scenes):
    loss = LossOptions(border_weight=10)
    of_objects = TrainingSet(scenes.records, scenes.spec, loss=loss)[Sample(0)]
    semantic = SegmenterSpec(Architecture(), scenes.spec.label_set, scenes.spec.input_size)
    of_regions = TrainingSet(scenes.records, semantic, loss=loss)[Sample(0)]
    assert of_regions.instance_map.max() == 0
    for example in (of_objects, of_regions):
        assert example.pixel_weights.max() > 2 and (example.pixel_weights[(example.mask > 0) & (example.mask < 255)] == 1).all()
