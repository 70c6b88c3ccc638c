from __future__ import annotations

import shutil

import pytest

from deployments.model_source import ModelNotFound, fetch_bundle, resolve
from models.spec import InvalidBundle, read_card


@pytest.fixture(scope="module")
def registry(bundle_folder, tmp_path_factory) -> str:
    """A registry in a file whose model `scenes` has two versions, the first of them the champion."""
    from mlflow import MlflowClient

    root = tmp_path_factory.mktemp("registry")
    uri = f"sqlite:///{root / 'mlflow.db'}"
    client = MlflowClient(uri)
    client.create_registered_model("scenes")
    for number in ("1", "2"):
        model = root / number
        shutil.copytree(bundle_folder, model / "artifacts" / "bundle")
        (model / "MLmodel").write_text("flavors: {}\n")
        client.create_model_version("scenes", source=str(model))
    client.create_registered_model("empty")
    (root / "none").mkdir()
    client.create_model_version("empty", source=str(root / "none"))
    client.set_registered_model_alias("scenes", "champion", "1")
    return uri


def test_a_path_needs_no_mlflow(bundle_folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    monkeypatch.chdir(bundle_folder.parent)
    served = fetch_bundle(bundle_folder.name)
    assert served.folder == bundle_folder
    assert served.version == f"bundle@{read_card(bundle_folder)['weights_sha256'][:12]}"


def test_an_alias_becomes_the_version_that_it_stands_for(registry):
    address = resolve("models:/scenes@champion", registry)
    assert address.uri == "models:/scenes/1" and address.tracking_uri == registry
    served = fetch_bundle(address.uri, address.tracking_uri)
    assert served.version == "scenes/1"
    assert read_card(served.folder)


def test_a_version_by_its_number(registry):
    assert fetch_bundle("models:/scenes/2", registry).version == "scenes/2"


@pytest.mark.parametrize(
    "uri", ["models:/scenes@nobody", "models:/nothing@champion", "models:/scenes/9", "models:/empty/1", "runs:/abc/model"]
)
def test_what_is_not_there_is_named(uri, registry):
    with pytest.raises(ModelNotFound, match=uri):
        fetch_bundle(uri, registry)


@pytest.mark.parametrize(
    "uri", ["models:/scenes", "models:/scenes/latest", "models:scenes/1", "runs:/abc", "s3://bucket/x", "http://example.com/x"]
)
def test_other_forms_are_refused(uri):
    with pytest.raises(ModelNotFound, match=r"is of no known form; use a bundle's path"):
        resolve(uri)


def test_a_folder_that_is_no_bundle(tmp_path):
    with pytest.raises(InvalidBundle, match=str(tmp_path)):
        fetch_bundle(str(tmp_path))


def test_a_relative_sqlite_file_is_found_from_anywhere(tmp_path, monkeypatch, registry):
    monkeypatch.chdir(registry.removeprefix("sqlite:///").removesuffix("/mlflow.db"))
    assert resolve("models:/scenes@champion", "sqlite:///mlflow.db").tracking_uri == registry
