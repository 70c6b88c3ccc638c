from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deployments.model_source import ModelNotFound, RegistryAway, fetch_bundle, resolve
from models.spec import InvalidBundle, read_card


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKWORKS_HOME", str(tmp_path / "home"))


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


def test_an_alias_stays_one_and_leads_to_the_version_that_it_stands_for(registry):
    address = resolve("models:/scenes@champion", registry)
    assert (address.uri, address.tracking_uri, address.alias) == ("models:/scenes@champion", registry, ("scenes", "champion"))
    served = fetch_bundle(address.uri, address.tracking_uri)
    assert (served.version, served.uri) == ("scenes/1", "models:/scenes/1")
    assert read_card(served.folder)


@pytest.mark.parametrize(
    ("uri", "name"),
    [("models:/scenes@champion", "scenes"), ("models:/scenes/3", "scenes"), ("runs:/8c1d/model", "8c1d"), ("a/bundle", "bundle")],
)
def test_a_model_is_called_by_its_name_in_the_registry_or_on_the_disk(uri, name):
    assert resolve(uri, "sqlite:///mlflow.db").name == name


def test_a_copy_serves_while_mlflow_is_away(registry):
    assert fetch_bundle("models:/scenes/2", registry).version == "scenes/2"
    file = Path(registry.removeprefix("sqlite:///"))
    content = file.read_bytes()
    file.write_bytes(b"no database" * 1000)
    try:
        assert fetch_bundle("models:/scenes/2", registry).version == "scenes/2"
        with pytest.raises(RegistryAway, match="does not answer for models:/scenes@champion"):
            fetch_bundle("models:/scenes@champion", registry)
    finally:
        file.write_bytes(content)


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
