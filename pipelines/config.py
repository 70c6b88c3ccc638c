"""All that a training run can be told. Frozen dataclasses; the command line is made from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import tyro

from models.fit import FitRule
from models.losses import LossOptions
from models.spec import Architecture
from pipelines.augmentation import AugmentationConfig


@dataclass(frozen=True)
class ModelConfig:
    """What is trained."""

    architecture: tyro.conf.OmitArgPrefixes[Architecture] = field(default_factory=Architecture)
    input_size: tuple[int, int] = (256, 256)
    """Height and width that the model sees."""
    fit_rule: FitRule = "letterbox"
    """How a photo fits that size: keep its shape and pad, or stretch."""
    pretrained: bool = False
    """Begin with an encoder pretrained on ImageNet; downloads its weights."""
    start_from: str | None = None
    """Begin with what this model has learnt, as far as it fits: a bundle's folder, runs:/<id>/model, models:/<name>/<version> or
    models:/<name>@<alias>."""

    def __post_init__(self) -> None:
        if self.pretrained and self.start_from:
            raise ValueError(f"pretrained is set and start_from is {self.start_from}; a network begins with one of them")


@dataclass(frozen=True)
class OptimizationConfig:
    """How it is trained."""

    epochs: int = 40
    global_batch_size: int = 16
    """Images in a step of the optimiser, on all workers together: more workers compute the same steps faster."""
    learning_rate: float = 1e-3
    """The highest, after the warm-up; a cosine then leads to zero."""
    warmup_share: float = 0.05
    """The part of all steps in which the learning rate rises."""
    weight_decay: float = 1e-2
    max_gradient_norm: float = 1.0
    ema_decay: float = 0.999
    """How slowly the moving average of the weights follows them; it is what is validated and registered. 0: no average."""
    validate_every: int = 1
    """Epochs between two validations; each writes a checkpoint. The last epoch always does."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 where the GPU or CPU has instructions for it."""
    seed: int = 0
    loss: tyro.conf.OmitArgPrefixes[LossOptions] = field(default_factory=LossOptions)
    augmentation: tyro.conf.OmitArgPrefixes[AugmentationConfig] = field(default_factory=AugmentationConfig)

    def __post_init__(self) -> None:
        for name in ("epochs", "global_batch_size", "learning_rate", "validate_every"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}; it must be at least 0 and below 1")


@dataclass(frozen=True)
class ScaleConfig:
    """Where it is trained."""

    num_workers: int | tuple[int, int] = 1
    """How many, or the least and the most: training then goes on with fewer where nodes are lost, and with more where they come."""
    use_gpu: bool = False
    """One GPU for each worker."""
    micro_batch_size: int | None = None
    """The most images that a worker computes at once; a larger share of a batch is done in parts, with the same result but for
    batch norm. Default: all of its share. Lower it where memory ends."""
    compile: bool = False
    """Compile the network with torch.compile; takes minutes, and a C++ compiler, before the first step."""
    checkpoint_every_s: float = 600
    """The longest time between two checkpoints, in mid-epoch too."""
    cpus_per_worker: int | None = None
    """Default: an equal share of the CPUs that are free now."""
    loader_processes: int | None = None
    """Processes that read and augment for each worker. Default: none on CPUs, all of the worker's CPUs but one with a GPU."""
    cache_bytes: int | None = None
    """Of decoded images that each machine keeps in a file, mapped into memory. Default: a quarter of the free memory; 0: none."""
    max_failures: int = 3
    """How often lost workers are started again from the last checkpoint; a node that its owner takes away does not count."""
    stall_timeout_s: int = 1800
    """How long workers wait for one that does not come, before all are started again."""
    wait_for_nodes: bool = False
    """Wait for an autoscaler to bring the missing CPUs or GPUs, instead of refusing to start."""

    def __post_init__(self) -> None:
        if not 0 < self.min_workers <= self.max_workers or (self.cpus_per_worker or 1) <= 0:
            raise ValueError(
                f"num_workers is {self.num_workers}, cpus_per_worker {self.cpus_per_worker}; all must be above 0, and min before max"
            )
        for name in ("micro_batch_size", "checkpoint_every_s", "stall_timeout_s"):
            if (getattr(self, name) or 1) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")

    @property
    def min_workers(self) -> int:
        """The least workers to train with."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[0]

    @property
    def max_workers(self) -> int:
        """The most workers to train with."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[1]


@dataclass(frozen=True)
class TrackingConfig:
    """Where the run is recorded."""

    run_name: str | None = None
    """Default: the kind of data and the time."""
    resume: bool = False
    """Go on with the run of that name even if another machine began it. Without this, the same command goes on with its unfinished run
    of this machine."""
    experiment: str = "maskworks"
    tracking_uri: str | None = None
    """MLflow's address. Default: MLFLOW_TRACKING_URI, else a file under ~/.maskworks (or MASKWORKS_HOME)."""
    storage: str | None = None
    """Where checkpoints live: a path or URI that all nodes reach. Default: under ~/.maskworks."""
    register: str | None = None
    """Register the model under this name. Default: the kind of data."""
    alias: str | None = None
    """Give the new version this alias, such as champion."""


@dataclass(frozen=True)
class TrainConfig:
    """Train a U-Net on labelled photos, record the run in MLflow and register the model."""

    data: str
    """oxford_pets:PATH, coco:PATH, masks:PATH or scenes."""
    repair: bool = False
    """Apply the doctor's safe remedies to what is read; no file is changed."""
    accept: tuple[str, ...] = ()
    """Errors that the doctor may find, by name; the files in question are left out. Others stop the training before it begins."""
    model: tyro.conf.OmitArgPrefixes[ModelConfig] = field(default_factory=ModelConfig)
    optimization: tyro.conf.OmitArgPrefixes[OptimizationConfig] = field(default_factory=OptimizationConfig)
    scale: tyro.conf.OmitArgPrefixes[ScaleConfig] = field(default_factory=ScaleConfig)
    tracking: tyro.conf.OmitArgPrefixes[TrackingConfig] = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        if self.scale.max_workers > self.optimization.global_batch_size:
            raise ValueError(
                f"num_workers is {self.scale.num_workers} and global_batch_size {self.optimization.global_batch_size}; "
                "each worker needs an image, so raise --global-batch-size"
            )
