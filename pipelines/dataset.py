"""From records to batches: the same preprocessing as serving's, then augmentation that a seed determines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import tv_tensors
from torchvision.transforms import v2

from models.fit import PAD_COLOR, InputImage, fit_mask, preprocess
from models.image import NO_LIMITS
from models.label_set import IGNORE_INDEX
from models.spec import SegmenterSpec
from pipelines.data.records import Record
from pipelines.example_cache import ExampleCache


@dataclass(frozen=True)
class Sample:
    """Which record to read, and the seed of what augmentation does to it (None: nothing)."""

    index: int
    seed: int | None = None


class TrainingSet(Dataset):
    """Images (3, H, W) uint8 with their masks (H, W) int64, by `Sample`.

    Each file is decoded once where `cache_bytes` of disk and memory suffice (None: a part of the free memory; 0: no cache);
    `data_digest` must change with the files.
    """

    def __init__(self, records: list[Record], spec: SegmenterSpec, *, data_digest: str = "", cache_bytes: int | None = 0) -> None:
        self.spec = spec
        key = f"{data_digest} {spec.input_size} {spec.fit_rule}"
        self.examples = ExampleCache(partial(fitted_example, records, spec), len(records), key, cache_bytes)
        self.augment = augmentation(spec.input_size)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, sample: Sample) -> tuple[Tensor, Tensor]:
        pixels, mask = self.examples[sample.index]
        image = tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1))
        mask = tv_tensors.Mask(torch.from_numpy(mask))
        if sample.seed is not None:
            with torch.random.fork_rng(devices=[]), _one_thread():
                torch.manual_seed(sample.seed)
                image, mask = self.augment(image, mask)
        return image.as_subclass(Tensor), mask.as_subclass(Tensor).long()


@contextmanager
def _one_thread() -> Iterator[None]:
    """For small tensors: threads wait for each other longer than they compute, the more so on a busy machine."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def read_example(record: Record, spec: SegmenterSpec) -> tuple[InputImage, np.ndarray]:
    """The image as the model takes it, and the class map (h, w) uint8 at native resolution."""
    data, class_map = record.read()
    return preprocess(data, spec.input_size, spec.fit_rule, NO_LIMITS), class_map


def fitted_example(records: list[Record], spec: SegmenterSpec, index: int) -> tuple[np.ndarray, np.ndarray]:
    """The image (H, W, 3) uint8 and the mask (H, W) uint8 at the model's input size, before any augmentation."""
    fitted, class_map = read_example(records[index], spec)
    return fitted.pixels, fit_mask(class_map, spec.input_size, spec.fit_rule)


def augmentation(input_size: tuple[int, int]) -> v2.Transform:
    """Mirroring, turning, scaling, shifting and colour, for a pair of `tv_tensors` Image and Mask."""
    fill = {tv_tensors.Image: list(PAD_COLOR), tv_tensors.Mask: IGNORE_INDEX}
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(
                degrees=20, translate=(0.1, 0.1), scale=(0.7, 1.6), shear=8, interpolation=v2.InterpolationMode.BILINEAR, fill=fill
            ),
            v2.RandomPhotometricDistort(brightness=(0.7, 1.3), contrast=(0.7, 1.3), saturation=(0.6, 1.5), hue=(-0.05, 0.05)),
            v2.RandomGrayscale(0.05),
        ]
    )


class ShardedBatchSampler(Sampler[list[Sample]]):
    """One rank's share of every global batch from `first_epoch` and `first_step` on; a function of seed, epoch and step alone.

    Every sample comes once an epoch. A remainder is spread over the batches, so none is much smaller than
    `global_batch_size`, and a global batch has the same samples whatever the number of workers.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        global_batch_size: int,
        rank: int,
        world_size: int,
        seed: int,
        num_epochs: int = 1,
        first_epoch: int = 0,
        first_step: int = 0,
    ) -> None:
        if min(num_samples, global_batch_size) < world_size:
            raise ValueError(
                f"{num_samples} training images in batches of {global_batch_size} for {world_size} workers; "
                f"use at most {min(num_samples, global_batch_size)} workers, or raise --global-batch-size"
            )
        self.num_samples = num_samples
        self.steps_per_epoch = max(1, num_samples // global_batch_size)
        self.rank, self.world_size, self.seed = rank, world_size, seed
        self.num_epochs, self.first_epoch, self.first_step = num_epochs, first_epoch, first_step

    def __len__(self) -> int:
        return (self.num_epochs - self.first_epoch) * self.steps_per_epoch - self.first_step

    def global_batch_size(self, step: int) -> int:
        """How many samples all workers together see in a step of an epoch."""
        smallest, larger = divmod(self.num_samples, self.steps_per_epoch)
        return smallest + (step < larger)

    def __iter__(self) -> Iterator[list[Sample]]:
        # All epochs in one pass: the next one's first batches are read while this one is validated.
        for epoch in range(self.first_epoch, self.num_epochs):
            random = np.random.default_rng([self.seed, epoch])
            order = random.permutation(self.num_samples)
            seeds = random.integers(2**62, size=self.num_samples)
            first_step = self.first_step if epoch == self.first_epoch else 0
            for batch in np.array_split(order, self.steps_per_epoch)[first_step:]:
                yield [Sample(int(index), int(seeds[index])) for index in batch[self.rank :: self.world_size]]


def training_loader(dataset: TrainingSet, sampler: ShardedBatchSampler, *, loader_processes: int, pin_memory: bool) -> DataLoader:
    """Batches of images (B, 3, H, W) uint8 and masks (B, H, W) int64, of all epochs that the sampler has."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=loader_processes,
        pin_memory=pin_memory,
        # Ray's worker has threads; a forked child could inherit one of their locks.
        multiprocessing_context="forkserver" if loader_processes else None,
    )
