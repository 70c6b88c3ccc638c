"""From records to batches: the same preprocessing as serving's, then augmentation that a seed determines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Sample:
    """Which record to read, and the seed of what augmentation does to it (None: nothing)."""

    index: int
    seed: int | None = None


class TrainingSet(Dataset):
    """Images (3, H, W) uint8 with their masks (H, W) int64, by `Sample`."""

    def __init__(self, records: list[Record], spec: SegmenterSpec) -> None:
        self.records = records
        self.spec = spec
        self.augment = augmentation(spec.input_size)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, sample: Sample) -> tuple[Tensor, Tensor]:
        fitted, class_map = read_example(self.records[sample.index], self.spec)
        mask = fit_mask(class_map, self.spec.input_size, self.spec.fit_rule)
        image = tv_tensors.Image(torch.from_numpy(fitted.pixels).permute(2, 0, 1))
        mask = tv_tensors.Mask(torch.from_numpy(mask))
        if sample.seed is not None:
            with torch.random.fork_rng(devices=[]), one_thread():
                torch.manual_seed(sample.seed)
                image, mask = self.augment(image, mask)
        return image.as_subclass(Tensor), mask.as_subclass(Tensor).long()


@contextmanager
def one_thread() -> Iterator[None]:
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
    """One rank's share of each global batch of one epoch; order and augmentation depend on seed and epoch alone.

    Every sample comes once an epoch. A remainder is spread over the batches, so none is much smaller than
    `global_batch_size`, and a global batch has the same samples whatever the number of workers.
    """

    def __init__(self, num_samples: int, *, global_batch_size: int, rank: int, world_size: int, seed: int) -> None:
        if num_samples < world_size:
            raise ValueError(f"{num_samples} training images for {world_size} workers; use at most {num_samples} workers")
        self.num_samples = num_samples
        self.num_batches = max(1, num_samples // max(global_batch_size, world_size))
        self.rank, self.world_size, self.seed = rank, world_size, seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[list[Sample]]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(self.num_samples)
        seeds = random.integers(2**62, size=self.num_samples)
        for batch in np.array_split(order, self.num_batches):
            yield [Sample(int(index), int(seeds[index])) for index in batch[self.rank :: self.world_size]]


def training_loader(dataset: TrainingSet, sampler: ShardedBatchSampler, *, loader_processes: int, pin_memory: bool) -> DataLoader:
    """Batches of images (B, 3, H, W) uint8 and masks (B, H, W) int64; set `sampler.epoch` before each pass."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=loader_processes,
        persistent_workers=loader_processes > 0,
        pin_memory=pin_memory,
        # Ray's worker has threads; a forked child could inherit one of their locks.
        multiprocessing_context="forkserver" if loader_processes else None,
    )
