"""The arguments, as `serve run` and the config file give them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
from ray.serve.schema import ServeDeploySchema

from deployments.app import build_app
from deployments.config import AppConfig

SERVE_YAML = Path(__file__).parents[2] / "deployments" / "serve.yaml"


def test_every_argument_says_what_it_is():
    assert all(field.description for field in AppConfig.model_fields.values())


def test_words_from_the_command_line_become_numbers():
    config = AppConfig.model_validate({"model_uri": "x", "num_replicas": "2", "num_gpus": "0.5", "batch_wait_s": "0.01"})
    assert (config.num_replicas, config.num_gpus, config.batch_wait_s) == (2, 0.5, 0.01)


@pytest.mark.parametrize(
    "wrong", [{"placment": "split"}, {"placement": "spilt"}, {"num_replicas": 0}, {"max_batch_size": "many"}, {"num_gpus": -1}]
)
def test_wrong_arguments_are_named(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        call_user_app_builder_with_args_if_necessary(build_app, {"model_uri": "x"} | wrong)


def test_the_model_uri_is_needed():
    with pytest.raises(ValidationError, match="model_uri"):
        call_user_app_builder_with_args_if_necessary(build_app, {})


@pytest.mark.parametrize(("placement", "ingress"), [("fused", "FusedIngress"), ("split", "SplitIngress")])
def test_both_placements_build_from_a_relative_path(placement, ingress, bundle_folder, monkeypatch):
    monkeypatch.chdir(bundle_folder.parent)
    app = call_user_app_builder_with_args_if_necessary(build_app, {"model_uri": bundle_folder.name, "placement": placement})
    deployment = app._bound_deployment
    assert deployment.name == ingress
    assert deployment.init_args[0].model_uri == str(bundle_folder)
    assert deployment.max_ongoing_requests >= 2 * deployment.init_args[0].max_batch_size


def test_serve_yaml_is_valid():
    schema = ServeDeploySchema.model_validate(yaml.safe_load(SERVE_YAML.read_text()))
    (application,) = schema.applications
    assert application.import_path == "deployments.app:build_app"
    assert AppConfig.model_validate(application.args).model_uri.startswith("models:/")
    assert schema.http_options.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("settings", "num_threads"),
    [
        ({}, 0),
        ({"num_gpus": 1}, 2),
        ({"placement": "split"}, 2),
        ({"codec_threads": 3}, 3),
        ({"placement": "split", "codec_threads": 1}, 1),
    ],
)
def test_a_replica_on_a_cpu_does_all_on_one_thread_unless_told_otherwise(settings, num_threads):
    assert AppConfig(model_uri="bundle", **settings).num_codec_threads == num_threads


def test_stages_apart_need_threads_of_their_own():
    with pytest.raises(ValueError, match="set codec_threads to 1 or more"):
        AppConfig(model_uri="bundle", placement="split", codec_threads=0)
