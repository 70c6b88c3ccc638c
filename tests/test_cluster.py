"""cluster.yaml against the schema that ships in Ray, and what it must not hold."""

import copy
import dataclasses
import json
from pathlib import Path

import jsonschema
import ray
import yaml

from pipelines.config import ModelConfig, OptimizationConfig

CLUSTER = yaml.safe_load((Path(__file__).parent.parent / "cluster.yaml").read_text())


def test_fits_rays_schema():
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(copy.deepcopy(CLUSTER), schema)


def test_has_a_cpu_head_and_a100_nodes_that_come_and_go():
    a100, head = CLUSTER["available_node_types"]["a100"], CLUSTER["available_node_types"][CLUSTER["head_node_type"]]
    assert a100["node_config"]["InstanceType"] == "p4d.24xlarge"
    assert a100["resources"]["GPU"] == 8
    assert (a100["min_workers"], a100["max_workers"] > 0) == (0, True)
    assert "GPU" not in head["resources"]


def test_holds_no_hyperparameters():
    text = json.dumps(CLUSTER)
    names = [field.name for config in (ModelConfig, OptimizationConfig) for field in dataclasses.fields(config)]
    assert [name for name in names if name in text] == []


def test_every_node_asks_for_a_token():
    starts = [line for key in ("head_start_ray_commands", "worker_start_ray_commands") for line in CLUSTER[key] if "ray start" in line]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in line for line in starts)
