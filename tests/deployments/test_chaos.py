"""Replicas die under load, and no caller notices more than a wait."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.chaos import Options, disturb
from benchmarks.service import server


@pytest.mark.ray
def test_dead_model_replicas_cost_no_request(bundle_folder):
    options = Options(seconds=8, every_s=3, kill="model", last=True, connections=3)
    with server(bundle_folder, "split", num_model_replicas=3) as port:  # so that one is left, however slowly the others come back
        tally, num_kills = asyncio.run(disturb(options, port))
    assert num_kills == 2
    assert tally.answered > 0
    assert (tally.wrong, tally.refused, tally.lost) == (0, 0, {})
