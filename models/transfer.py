"""A network that begins with what another one has learnt."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from models.unet import InvalidArchitecture, NormalizedNetwork

_LEAST_SHARE = 0.5


def copy_what_fits(weights: Mapping[str, Tensor], network: NormalizedNetwork) -> list[str]:
    """Copies each tensor that `network` has under the same name in the same shape; returns the names of the rest, which stays as it was.

    The head of other classes, for one. Raises `InvalidArchitecture` where less than half of the network's numbers fit.
    """
    own = network.state_dict()
    fitting = {name: tensor for name, tensor in weights.items() if name in own and own[name].shape == tensor.shape}
    share = sum(tensor.numel() for tensor in fitting.values()) / sum(tensor.numel() for tensor in own.values())
    if share < _LEAST_SHARE:
        raise InvalidArchitecture(
            f"{share:.0%} of the network could begin with these weights, and half is the least; "
            "give the --network, --encoder and --decoder-channels that they were trained with"
        )
    network.load_state_dict(own | fitting)
    return sorted(own.keys() - fitting.keys())
