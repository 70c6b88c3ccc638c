"""What a run needs to go on: weights, their average, optimiser and place, as safetensors and JSON; nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from pipelines.learner import Learner

_SERVED, _TRAINED, _OPTIMIZER = "weights.safetensors", "trained.safetensors", "optimizer.safetensors"
STATE = "state.json"


class DamagedCheckpoint(ValueError):
    """A checkpoint that is not what was written: half of it, or changed since."""


@dataclass(frozen=True)
class TrainState:
    """Where a run stands: `step` steps of `epoch` are done, both counted from 0; after the last one its validation comes."""

    epoch: int = 0
    step: int = 0
    sums: list[list[float]] = field(default_factory=list)
    """Of the epoch's steps so far, one entry for each worker (`EpochSums`)."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Those of the last validation."""


@dataclass(frozen=True)
class Snapshot:
    """A learner at one moment, in memory of its own, so that it can be written while training goes on."""

    tensors: dict[str, dict[str, Tensor]]
    """By file name, then by the tensor's."""
    state: TrainState

    @classmethod
    def of(cls, learner: Learner, state: TrainState) -> Snapshot:
        """The learner as it is now."""
        moments = {f"{i}.{name}": value for i, entry in learner.optimizer.state_dict()["state"].items() for name, value in entry.items()}
        files = {_SERVED: learner.served.state_dict(), _OPTIMIZER: moments}
        if learner.average is not None:
            files[_TRAINED] = learner.network.state_dict()
        return cls({name: _copied(tensors) for name, tensors in files.items()}, state)

    def write(self, folder: Path) -> None:
        """Writes the files into `folder`, which exists; the last one holds the digests of all."""
        digests = {}
        for name, tensors in self.tensors.items():
            content = save(tensors)
            (folder / name).write_bytes(content)
            digests[name] = _digest(content)
        state = asdict(self.state)
        (folder / STATE).write_text(json.dumps({"state": state, "sha256": digests | {"state": _state_digest(state)}}))


def read_state(text: str) -> tuple[TrainState, dict[str, str]]:
    """What state.json says, and the digest of each file beside it. Raises `DamagedCheckpoint`."""
    try:
        content = json.loads(text)
        state, digests = content["state"], content["sha256"]
        if digests.pop("state") != _state_digest(state):
            raise DamagedCheckpoint(f"{STATE} was changed since it was written")
        return TrainState(**state), digests
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpoint(f"{STATE} cannot be read ({error})") from error


def load_checkpoint(folder: Path, learner: Learner) -> TrainState:
    """The state that was saved; weights and moments go into the learner, whose optimiser keeps its own options.

    Raises `DamagedCheckpoint` before anything is changed.
    """
    files, state = _read_verified(folder)
    if (_TRAINED in files) != (learner.average is not None):
        raise DamagedCheckpoint(f"{folder.name} was made {'with' if _TRAINED in files else 'without'} an average of the weights")
    learner.served.load_state_dict(files[_SERVED])
    if learner.average is not None:
        learner.network.load_state_dict(files[_TRAINED])
    _load_moments(learner.optimizer, files[_OPTIMIZER])
    return state


def load_weights(folder: Path, network: nn.Module) -> None:
    """Puts the checkpoint's weights, as they were validated, into `network`. Raises `DamagedCheckpoint`."""
    network.load_state_dict(_read_verified(folder)[0][_SERVED])


def verify_checkpoint(folder: Path) -> None:
    """Raises `DamagedCheckpoint` where a file is not as it was written."""
    _read_verified(folder)


def _load_moments(optimizer: torch.optim.Optimizer, moments: dict[str, Tensor]) -> None:
    groups = optimizer.state_dict()["param_groups"]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in moments.items():
        index, _, name = key.partition(".")
        parameter = parameters[int(index)]
        # In the parameter's memory format: the fused optimiser pairs their values by their place in memory.
        entry = torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value
        entries.setdefault(int(index), {})[name] = entry
    optimizer.load_state_dict({"state": entries, "param_groups": groups})


def _read_verified(folder: Path) -> tuple[dict[str, dict[str, Tensor]], TrainState]:
    try:
        state, digests = read_state((folder / STATE).read_text())
        return {name: load(_verified(folder / name, digest)) for name, digest in digests.items()}, state
    except (OSError, UnicodeDecodeError, SafetensorError) as error:
        raise DamagedCheckpoint(f"{folder.name} is incomplete ({error})") from error


def _verified(path: Path, digest: str) -> bytes:
    content = path.read_bytes()
    if _digest(content) != digest:
        raise DamagedCheckpoint(f"{path.name} in {path.parent.name} was changed since it was written")
    return content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _state_digest(state: dict) -> str:
    return _digest(json.dumps(state, sort_keys=True).encode())


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
