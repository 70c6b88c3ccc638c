"""The alias and its history, on a real registry in SQLite. Versions here are a card in a folder; no weights are needed."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from mlflow import MlflowClient

from models.spec import InvalidBundle
from pipelines.promote import PromotionRefused, roll_back
from pipelines.registry import NotInRegistry, Overtaken, Registry, RegistryError


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def registry(uri, request, bundle_folder, tmp_path):
    """Three versions, none of them champion."""
    bundle = tmp_path / "model" / "artifacts" / "bundle"
    bundle.mkdir(parents=True)
    shutil.copy(bundle_folder / "model.json", bundle)
    client, name = MlflowClient(uri), request.node.name
    client.create_registered_model(name)
    for _ in range(3):
        client.create_model_version(name, (tmp_path / "model").as_uri())
    return Registry(uri, name)


def promote(registry, version):
    registry.move_champion(version, expected=registry.champion(), history=[*registry.history(), version], why="a test")


def test_each_rollback_goes_one_champion_further_back_until_there_is_none(registry):
    for version in ("1", "2", "1", "3"):
        promote(registry, version)
    for expected in ("1", "2", "1"):
        assert f"version {expected} is the champion" in roll_back(registry)
        assert registry.champion() == expected
    with pytest.raises(PromotionRefused, match="no champion before version 1"):
        roll_back(registry)
    assert registry.champion() == "1"


def test_rollback_goes_back_from_an_alias_that_was_moved_by_hand_or_removed(registry, uri):
    promote(registry, "1")
    promote(registry, "2")
    MlflowClient(uri).set_registered_model_alias(registry.name, "champion", "3")
    roll_back(registry)
    assert registry.champion() == "2"
    MlflowClient(uri).delete_registered_model_alias(registry.name, "champion")
    roll_back(registry)
    assert registry.champion() == "2"
    roll_back(registry)
    assert registry.champion() == "1"


def test_rollback_passes_over_a_deleted_version_and_says_so(registry, uri, capsys):
    for version in ("1", "2", "3"):
        promote(registry, version)
    MlflowClient(uri).delete_model_version(registry.name, "2")
    roll_back(registry)
    assert "version 2" in capsys.readouterr().out
    assert registry.champion() == "1"


def test_rollback_to_a_version_whose_card_cannot_be_read_leaves_the_champion(registry, tmp_path):
    promote(registry, "1")
    promote(registry, "2")
    (tmp_path / "model/artifacts/bundle/model.json").write_text("{")
    with pytest.raises(InvalidBundle):
        roll_back(registry)
    assert registry.champion() == "2"


def test_a_promotion_that_looked_before_another_was_done_is_told_who_won(registry):
    promote(registry, "1")
    promote(registry, "2")
    with pytest.raises(Overtaken, match="was version 1 and is version 2 now"):
        registry.move_champion("3", expected="1", history=["1", "3"], why="a test")
    assert registry.champion() == "2"
    assert registry.history() == ["1", "2"]


def test_of_two_promotions_at_the_same_moment_one_wins_and_the_other_is_told(registry):
    promote(registry, "1")
    for _ in range(5):
        together = threading.Barrier(2)

        def race(version, together=together):
            together.wait()
            try:
                registry.move_champion(version, expected="1", history=["1", version], why="a race")
            except Overtaken:
                return None
            return version

        with ThreadPoolExecutor(2) as racers:
            winners = [version for version in racers.map(race, ["2", "3"]) if version]
        assert winners == [registry.champion()]
        assert registry.history() == ["1", *winners]
        roll_back(registry)


@pytest.fixture
def as_on_a_server(monkeypatch):
    """Registries in which no lock keeps promotions apart; what the returned function is given is done in the first one's wait."""
    meanwhile = []
    monkeypatch.setattr(Registry, "_lock_file", None)
    monkeypatch.setattr("pipelines.registry.time.sleep", lambda seconds: meanwhile.pop(0)() if meanwhile else None)
    return meanwhile.append


def test_without_a_lock_whoever_claims_last_wins_and_the_other_is_told(registry, as_on_a_server):
    promote(registry, "1")
    as_on_a_server(lambda: promote(registry, "2"))
    with pytest.raises(Overtaken, match="another promotion"):
        registry.move_champion("3", expected="1", history=["1", "3"], why="a race")
    assert registry.champion() == "2"
    assert registry.history() == ["1", "2"]


def test_without_a_lock_an_alias_moved_in_the_wait_stays(registry, uri, as_on_a_server):
    promote(registry, "1")
    as_on_a_server(lambda: MlflowClient(uri).set_registered_model_alias(registry.name, "champion", "2"))
    with pytest.raises(Overtaken, match="was version 1 and is version 2 now"):
        registry.move_champion("3", expected="1", history=["1", "3"], why="a race")
    assert registry.champion() == "2"


def test_versions_and_the_model_tell_since_when_and_why(registry, uri):
    client = MlflowClient(uri)
    promote(registry, "1")
    promote(registry, "2")
    tags = client.get_model_version(registry.name, "2").tags
    assert tags["champion.why"] == "a test"
    assert tags["champion.since"] in client.get_model_version(registry.name, "1").tags["champion.until"]
    roll_back(registry)
    again = client.get_model_version(registry.name, "1").tags
    assert again["champion.why"] == "rolled back from version 2"
    assert "champion.until" not in again
    assert json.loads(client.get_registered_model(registry.name).tags["promotion.history"]) == ["1"]


def test_what_is_not_there_is_said_in_one_sentence(registry, uri):
    with pytest.raises(NotInRegistry, match="nothing not found|name=nothing"):
        Registry(uri, "nothing").champion()
    with pytest.raises(NotInRegistry, match="version=9"):
        registry.run_of("9")
    MlflowClient(uri).set_registered_model_tag(registry.name, "promotion.history", "{")
    with pytest.raises(RegistryError, match="no JSON list"):
        registry.history()
