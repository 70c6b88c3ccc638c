"""From records to batches: the same preprocessing as serving's, then augmentation that a seed determines."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
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
from pipelines.example_cache import ExampleCache


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
        *,
        data_digest: str = "",
        cache_bytes: int | None = 0,
    ) -> None:
        """Files are decoded once where `cache_bytes` suffice (None: a part of the free memory); `data_digest` changes with the files."""
        self.records, self.spec, self.augmentation, self.loss = records, spec, augmentation, loss
        key = f"{data_digest} {spec.input_size} {spec.fit_rule} {spec.architecture.instances}"
        self._examples = ExampleCache(partial(_fitted_arrays, records, spec), len(records), key, cache_bytes)

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
        return Pixels(*self._examples[index])

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


def _fitted_arrays(records: list[Record], spec: SegmenterSpec, index: int) -> tuple[np.ndarray, ...]:
    pixels = fit_record(records[index], spec)
    return pixels.image, pixels.mask, pixels.instance_map


def read_example(record: Record, spec: SegmenterSpec) -> tuple[InputImage, np.ndarray]:
    """The image as the model takes it, and the class map (h, w) uint8 at native resolution."""
    data, class_map = record.read()
    return preprocess(data, spec.input_size, spec.fit_rule, NO_LIMITS), class_map


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


def training_batches(dataset: TrainingSet, sampler: ShardedBatchSampler, *, loader_processes: int, pin_memory: bool) -> Iterator[Example]:
    """The sampler's batches, each an `Example` of stacked tensors, made while the ones before are trained on.

    Processes make them, or with none of them a thread: where there is no GPU, they would take the network's cores.
    """
    loader = DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=loader_processes,
        pin_memory=pin_memory,
        # Ray's worker has threads; a forked child could inherit one of their locks.
        multiprocessing_context="forkserver" if loader_processes else None,
    )
    return iter(loader) if loader_processes else _one_ahead(loader)


def _one_ahead(loader: DataLoader) -> Iterator[Example]:
    batches = iter(loader)
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield batch
