from mlflow import MlflowClient

from models.home import home, resolve_tracking_uri
from pipelines.tracking import TrackedRun, metric_names


def test_class_names_that_mlflow_refuses_are_recorded_under_names_that_it_takes(tmp_path):
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run_id = client.create_run(client.create_experiment("e", artifact_location=tmp_path.as_uri())).info.run_id
    names = ["iou/Lady's Choice 220 ml jar", "iou/Colgate (2 Tubes)", "iou/Käse", "miou"]
    TrackedRun(f"sqlite:///{tmp_path / 'mlflow.db'}", run_id).log_metrics(dict.fromkeys(names, 0.5), step=1)
    assert set(client.get_run(run_id).data.metrics) == {"iou/Lady_s Choice 220 ml jar", "iou/Colgate _2 Tubes_", "iou/K_se", "miou"}


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
