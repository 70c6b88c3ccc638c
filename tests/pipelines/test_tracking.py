from dataclasses import replace

import mlflow
import pytest
from mlflow import MlflowClient

from models.home import home, resolve_tracking_uri
from pipelines import run_owner
from pipelines.config import OptimizationConfig, ScaleConfig, TrackingConfig, TrainConfig
from pipelines.tracking import TrackedRun, WrongRun, metric_names, open_run


def test_two_names_never_become_one():
    assert metric_names(["a!", "a?", "b"]) == ["a_", "a_:1", "b"]


def test_one_address_for_training_and_serving(monkeypatch, tmp_path):
    monkeypatch.setenv("MASKWORKS_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert home() == tmp_path
    assert resolve_tracking_uri() == f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert resolve_tracking_uri() == "http://127.0.0.1:5000"
    assert resolve_tracking_uri("http://other:1") == "http://other:1"


TAGS = {"data_digest": "d1"}
NAMED = TrainConfig("scenes", tracking=TrackingConfig(run_name="one"))


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """MLflow's tables, made once."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(monkeypatch, tmp_path, database):
    monkeypatch.setenv("MASKWORKS_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(database.read_bytes())
    return MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")


def test_class_names_that_mlflow_refuses_are_recorded_under_names_that_it_takes(store, tmp_path):
    run_id = store.create_run(store.create_experiment("e", artifact_location=tmp_path.as_uri())).info.run_id
    names = ["iou/Lady's Choice 220 ml jar", "iou/Colgate (2 Tubes)", "iou/Käse", "miou"]
    TrackedRun(f"sqlite:///{tmp_path / 'mlflow.db'}", run_id).log_metrics(dict.fromkeys(names, 0.5), step=1)
    assert set(store.get_run(run_id).data.metrics) == {"iou/Lady_s Choice 220 ml jar", "iou/Colgate _2 Tubes_", "iou/K_se", "miou"}


def test_a_card_is_in_the_run_and_in_the_registry_where_a_long_one_ends_with_where_the_rest_is(store, tmp_path):
    run_id = store.create_run(store.create_experiment("e", artifact_location=tmp_path.as_uri())).info.run_id
    store.create_registered_model("shelf")
    store.create_model_version("shelf", tmp_path.as_uri(), run_id)
    run = TrackedRun(f"sqlite:///{tmp_path / 'mlflow.db'}", run_id)
    for card in ("# short\n", "# long\n" + "a line of the card\n" * 500):
        run.describe_model("shelf", "1", card)
        said = store.get_model_version("shelf", "1").description
        assert mlflow.artifacts.load_text(f"{tmp_path.as_uri()}/{run_id}/artifacts/model_card.md") == card
        assert len(said) <= 5000
        assert said == card if len(card) < 5000 else said.endswith(f"The rest is in model_card.md, among the artifacts of run {run_id}.")


def abandon(client, run, owner="{host} 999999 0.00"):
    """As a process leaves a run that was killed."""
    client.set_tag(run.run_id, run_owner.TAG, owner.format(host=run_owner.this_process().split()[0]))


def test_the_same_command_goes_on_with_its_unfinished_run(store):
    run = open_run(NAMED, "default", TAGS)
    abandon(store, run)
    on_other_scale = replace(NAMED, scale=ScaleConfig(num_workers=2))
    assert open_run(on_other_scale, "default", TAGS) == run
    run.end("FAILED", failure="no room")
    assert store.get_run(run.run_id).data.tags["failure"] == "no room"
    assert open_run(NAMED, "default", TAGS) == run
    entry = store.get_run(run.run_id)
    assert (entry.info.status, entry.data.tags.get("failure")) == ("RUNNING", None)


def test_without_a_name_only_a_killed_run_of_the_same_training_is_gone_on_with(store):
    config = TrainConfig("scenes")
    run = open_run(config, "default-1", TAGS)
    assert run.name == "default-1"
    second = open_run(config, "default-2", TAGS)  # the first is being trained
    assert second != run
    second.end("KILLED")  # by Ctrl-C
    abandon(store, run)
    assert open_run(replace(config, optimization=OptimizationConfig(seed=1)), "default-3", TAGS) not in (run, second)
    assert open_run(config, "default-4", TAGS) == run


@pytest.mark.parametrize(
    ("change", "tags", "owner", "reason"),
    [
        ({"optimization": OptimizationConfig(seed=1)}, TAGS, None, "seed was 0 and is 1"),
        ({}, {"data_digest": "d2"}, None, "the files of the data have changed"),
        ({}, TAGS, run_owner.this_process(), "is being trained by"),
        ({}, TAGS, "elsewhere 7 0.00", "add --resume if that one is gone"),
    ],
    ids=["other options", "other files", "a process of this machine", "a process of another machine"],
)
def test_a_run_that_is_not_this_command_s_own_is_refused(store, change, tags, owner, reason):
    abandon(store, open_run(NAMED, "default", TAGS), owner or "{host} 999999 0.00")
    with pytest.raises(WrongRun, match=reason):
        open_run(replace(NAMED, **change), "default", tags)


def test_resume_takes_over_from_another_machine_but_needs_a_run_that_is_not_finished(store):
    resumed = TrainConfig("scenes", tracking=TrackingConfig(run_name="one", resume=True))
    with pytest.raises(WrongRun, match="there is no unfinished run one"):
        open_run(resumed, "default", TAGS)
    run = open_run(NAMED, "default", TAGS)
    abandon(store, run, "elsewhere 7 0.00")
    assert open_run(resumed, "default", TAGS) == run
    run.end("FINISHED")
    with pytest.raises(WrongRun, match="is finished"):
        open_run(resumed, "default", TAGS)
