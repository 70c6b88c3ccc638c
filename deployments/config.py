"""What `serve run deployments.app:build_app` and the config file can set."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.engines import EngineName
from models.image import ImageLimits


class ModelEntry(BaseModel):
    """One more model of the service; limits that are not given are those of the application."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model_uri: str
    max_waiting: int | None = Field(None, ge=1)
    max_body_bytes: int | None = Field(None, ge=1)
    max_pixels: int | None = Field(None, ge=1)


class AppConfig(BaseModel):
    """The application's arguments; only `model_uri` has no default."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model_uri: str = Field(description="A bundle's path, runs:/<id>/<name>, models:/<name>@<alias> or models:/<name>/<version>.")
    tracking_uri: str | None = Field(
        None, description="MLflow's address; where unset, MLFLOW_TRACKING_URI or the file that training writes to."
    )
    models: dict[str, ModelEntry] = Field(
        {},
        description="More models by name, for /v1/models/<name>/segment, each with a model_uri and limits of its own (max_waiting, "
        "max_body_bytes, max_pixels). They are loaded when first asked for.",
    )
    model_memory_bytes: int | None = Field(
        None,
        ge=1,
        description="The most bytes of weights that a replica holds. Beyond it the model that was not asked for longest makes room, "
        "except that of `model_uri` and those at work. Unset: no limit.",
    )
    follow_every_s: float = Field(
        3,
        gt=0,
        description="How often each replica asks MLflow where the alias of `model_uri` stands. Where it moved, the version is loaded, "
        "tried on its golden pictures, and serves from then on, with no restart.",
    )
    keep_previous_s: float = Field(
        45,
        ge=0,
        description="How long a version stays in memory after another took over, so that it is back at once; later it comes from disk.",
    )
    max_slowdown: float = Field(
        2, ge=1, description="A version whose forward pass takes more than so many times the served one's does not come to serve."
    )
    shadow_uri: str | None = Field(
        None,
        description="The challenger of the model of `model_uri`, models:/<name>@<alias> or models:/<name>/<version>: it sees a share of the "
        "requests while nobody waits, answers none, and is compared. For `fused` only.",
    )
    shadow_share: float = Field(0.1, gt=0, le=1, description="The share of requests that the challenger may see.")
    shadow_pictures: bool = Field(False, description="Whether the photos on which the two differ most are kept, small, in MLflow.")
    placement: Literal["fused", "split"] = Field(
        "fused", description="`fused`: all stages in each ingress replica. `split`: a deployment for each stage."
    )
    num_replicas: int = Field(1, ge=1, description="Replicas of the fused ingress; in `split` of ingress, preprocess and postprocess.")
    num_model_replicas: int = Field(1, ge=1, description="Replicas of the model deployment in `split`.")
    num_gpus: float = Field(0, ge=0, description="GPUs for each replica that holds a model; 0 computes on the CPU.")
    engine: EngineName = Field(
        "torch",
        description="What computes the network: `torch`; `torch_bf16`, in bfloat16 where the hardware has it; `torch_compile`, compiled at "
        "start; `onnx`, ONNX Runtime on the CPU, exported before by deployments.export.",
    )
    min_parity: float = Field(
        0.999, ge=0, le=1, description="The least share of pixels that an engine must give the class that `torch` gives them."
    )
    model_threads: int = Field(1, ge=1, description="CPU threads that one forward pass uses.")
    codec_threads: int | None = Field(
        None,
        ge=0,
        description="Threads of one replica that decode and encode images beside the model. 0, for `fused` only: all stages take turns on "
        "one thread, which spares hand-overs where each replica has a core to itself. Unset: 0 for `fused` on the CPU, else 2.",
    )
    max_batch_size: int = Field(8, ge=1, description="The most images in one forward pass.")
    batch_wait_s: float = Field(
        0, ge=0, le=1, description="How long an idle model waits for a fuller batch; while it is busy, batches fill without waiting."
    )
    max_body_bytes: int = Field(20 * 2**20, ge=1, description="The longest request body.")
    max_pixels: int = Field(64_000_000, ge=1, description="The most pixels of an image, read from its header before it is decoded.")
    max_waiting: int = Field(
        64,
        ge=1,
        description="The most interactive requests inside the graph for each ingress replica; bulk ones may take half as many places.",
    )
    max_images: int = Field(64, ge=1, description="The most images in one request.")
    max_tiles: int = Field(16, ge=1, description="The most tiles that an image is cut into where a request asks for tiling.")
    deadline_s: float = Field(30, gt=0, description="How long an answer may take; a request can ask for less, never for more.")
    body_timeout_s: float = Field(10, gt=0, description="How long a body may take to arrive.")
    api_keys_file: str | None = Field(
        None, description="Absolute path, on every node, of the lines that `python -m deployments.access` prints; unset, all may call."
    )
    cors_origins: tuple[str, ...] = Field((), description="Origins whose web pages may call from a browser; none unless given.")

    @model_validator(mode="after")
    def _engine_fits_device(self) -> Self:
        if self.engine == "onnx" and self.num_gpus:
            raise ValueError(f"engine onnx computes on the CPU and num_gpus is {self.num_gpus}; set num_gpus=0, or engine=torch")
        return self

    @model_validator(mode="after")
    def _codec_threads_fit_placement(self) -> Self:
        if self.codec_threads == 0 and self.placement != "fused":
            raise ValueError(f"codec_threads is 0 and placement {self.placement}; set codec_threads to 1 or more, or placement=fused")
        return self

    @model_validator(mode="after")
    def _shadow_fits(self) -> Self:
        if self.shadow_uri and self.placement != "fused":
            raise ValueError(f"shadow_uri is set and placement {self.placement}; leave it out, or set placement=fused")
        if self.shadow_uri and not self.shadow_uri.startswith("models:/"):
            raise ValueError(f"shadow_uri {self.shadow_uri!r} is not in a registry; use models:/<name>@<alias> or models:/<name>/<version>")
        return self

    @model_validator(mode="after")
    def _names_fit_a_path(self) -> Self:
        for name in self.models:
            if not re.fullmatch(r"[\w.@ -]{1,80}", name):
                raise ValueError(f"models has the name {name[:80]!r}; use up to 80 letters, digits and . _ @ - so that it fits a URL")
        return self

    def of_model(self, entry: ModelEntry) -> AppConfig:
        """The configuration for one of `models`."""
        return self.model_copy(update=entry.model_dump(exclude_none=True))

    @property
    def num_codec_threads(self) -> int:
        if self.codec_threads is not None:
            return self.codec_threads
        return 0 if self.placement == "fused" and not self.num_gpus else 2

    @property
    def image_limits(self) -> ImageLimits:
        return ImageLimits(max_bytes=self.max_body_bytes, max_pixels=self.max_pixels)

    @property
    def max_ongoing_requests(self) -> int:
        """Of every deployment. Admission decides who is let in; Serve's own bound only has to stay out of its way, so it leaves
        room for bodies that are still on their way and for refusals."""
        return 4 * self.max_waiting
