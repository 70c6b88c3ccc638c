"""From records to batches: the same preprocessing as serving's, then augmentation that a seed determines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from models.border_weights import border_weights, weight_regions
from models.fit import InputImage, fit_mask, preprocess
from models.image import NO_LIMITS
from models.losses import LossOptions
from models.spec import SegmenterSpec
from pipelines.augmentation import AugmentationConfig, Pixels, augment, paste_objects
from pipelines.data.records import Record


@dataclass(frozen=True)
class Sample:
    """Which record to read, and the seed of what augmentation does to it (None: nothing)."""

    index: int
    seed: int | None = None


class Example(NamedTuple):
    """What a step learns from, as tensors of one example; the loader stacks them.

    Shapes: image (3, H, W) uint8; mask (H, W) int64, class indices and `IGNORE_INDEX`; instance_map (H, W) int64, 0 where no object
    is; pixel_weights (H, W) float32.
    """

    image: Tensor
    mask: Tensor
    instance_map: Tensor
    pixel_weights: Tensor


class TrainingSet(Dataset):
    """Examples by `Sample`."""

    def __init__(
        self,
        records: list[Record],
        spec: SegmenterSpec,
        augmentation: AugmentationConfig = AugmentationConfig(),  # noqa: B008, frozen
        loss: LossOptions = LossOptions(),  # noqa: B008, frozen
    ) -> None:
        self.records, self.spec, self.augmentation, self.loss = records, spec, augmentation, loss

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, sample: Sample) -> Example:
        cv2.setNumThreads(1)  # for small pictures: threads wait for each other longer than they compute
        pixels = self.read(sample.index)
        if sample.seed is not None:
            pixels = self._augment(pixels, np.random.default_rng(sample.seed))
        # NumPy's conversions, for torch's would wake all its threads for each small array
        arrays = pixels.image, pixels.mask.astype(np.int64), pixels.instance_map.astype(np.int64), self._weigh(pixels)
        image, *maps = map(torch.from_numpy, arrays)
        return Example(image.permute(2, 0, 1), *maps)

    def read(self, index: int) -> Pixels:
        """The record at the model's input size, not augmented."""
        return fit_record(self.records[index], self.spec)

    def _augment(self, pixels: Pixels, random: np.random.Generator) -> Pixels:
        pixels = augment(pixels, self.augmentation, random)
        if self.spec.architecture.instances and random.random() < self.augmentation.copy_paste:
            donor = self.read(int(random.integers(len(self.records))))
            pixels = paste_objects(pixels, augment(donor, self.augmentation, random), random)
        return pixels

    def _weigh(self, pixels: Pixels) -> np.ndarray:
        if not self.loss.border_weight:
            return np.ones(pixels.mask.shape, np.float32)
        has_objects = pixels.instance_map.any()
        regions = pixels.instance_map.astype(np.int32) if has_objects else weight_regions(pixels.mask, self.spec.label_set)
        return border_weights(regions, strength=self.loss.border_weight, sigma=self.loss.border_sigma)


def fit_record(record: Record, spec: SegmenterSpec) -> Pixels:
    """The record at the model's input size. Where it does not tell objects apart, or nobody asked for them, there are none."""
    data, class_map = record.read()
    image = preprocess(data, spec.input_size, spec.fit_rule, NO_LIMITS).pixels
    mask = fit_mask(class_map, spec.input_size, spec.fit_rule)
    instance_map = record.annotation.instance_map(data) if spec.architecture.instances else None
    if instance_map is None:
        return Pixels(image, mask, np.zeros(spec.input_size, np.int16))
    return Pixels(image, mask, fit_mask(instance_map.astype(np.int16), spec.input_size, spec.fit_rule, padding=0))


def read_example(record: Record, spec: SegmenterSpec) -> tuple[InputImage, np.ndarray]:
    """The image as the model takes it, and the class map (h, w) uint8 at native resolution."""
    data, class_map = record.read()
    return preprocess(data, spec.input_size, spec.fit_rule, NO_LIMITS), class_map


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
    """Batches, each an `Example` of stacked tensors; set `sampler.epoch` before each pass."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=loader_processes,
        persistent_workers=loader_processes > 0,
        pin_memory=pin_memory,
        # Ray's worker has threads; a forked child could inherit one of their locks.
        multiprocessing_context="forkserver" if loader_processes else None,
    )
