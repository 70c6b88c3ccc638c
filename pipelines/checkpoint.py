"""What a run needs to go on: weights, optimiser and place, as safetensors and JSON; nothing is unpickled."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

_WEIGHTS, _OPTIMIZER, _STATE = "weights.safetensors", "optimizer.safetensors", "state.json"


@dataclass(frozen=True)
class TrainState:
    """Where a run stands: epochs and steps done, and the metrics of the last validation."""

    epochs_done: int = 0
    steps_done: int = 0
    metrics: dict[str, float] = field(default_factory=dict)


def save_checkpoint(folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, state: TrainState) -> None:
    """Writes the three files into `folder`, which exists. Called by one rank."""
    save_file(_on_cpu(network.state_dict()), folder / _WEIGHTS)
    moments = {f"{i}.{name}": value for i, entry in optimizer.state_dict()["state"].items() for name, value in entry.items()}
    save_file(_on_cpu(moments), folder / _OPTIMIZER)
    (folder / _STATE).write_text(json.dumps(asdict(state)))


def load_checkpoint(folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> TrainState:
    """The state that was saved; weights and moments go into `network` and `optimizer`, which keeps its own options."""
    load_weights(folder, network)
    entries: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in load_file(folder / _OPTIMIZER).items():
        index, _, name = key.partition(".")
        entries.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})
    return TrainState(**json.loads((folder / _STATE).read_text()))


def load_weights(folder: Path, network: nn.Module) -> None:
    """Puts the checkpoint's weights into `network`."""
    network.load_state_dict(load_file(folder / _WEIGHTS))


def _on_cpu(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
