"""A moved alias is served once the new version has shown that it can; a real registry in a file, and small real bundles."""

from __future__ import annotations

import json
import shutil
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from deployments.model_source import ModelNotFound
from deployments.served_version import VersionRefused
from models.golden import FOLDER as GOLDEN
from models.label_set import LabelSet
from tests.deployments.registry_file import ALIAS, RegistryFile, Service, make_bundle, mask_of, mask_of_bundle, with_one_class_damaged

pytestmark = pytest.mark.slow


def test_a_moved_alias_is_served_and_each_answer_is_its_versions(registry: RegistryFile, bundles, photo):
    service = Service(registry).start()
    masks = {"shelf/1": mask_of_bundle(bundles[0], photo), "shelf/2": mask_of_bundle(bundles[1], photo)}
    assert (masks["shelf/1"] != masks["shelf/2"]).any()
    old = service.model.current
    assert service.look() == "shelf/1"
    registry.move("2")
    assert service.look() == "shelf/2"
    np.testing.assert_array_equal(mask_of(service.model.current, photo), masks["shelf/2"])
    np.testing.assert_array_equal(mask_of(old, photo), masks["shelf/1"])  # who began with it ends with it


def test_mlflow_says_since_when_and_why_a_version_serves(registry):
    service = Service(registry).start()
    registry.move("2")
    service.look()
    first, second = registry.tags("1"), registry.tags("2")
    assert first["serving.why"] == "the service started" and "shelf/2 took over" in first["serving.until"]
    assert second["serving.why"] == "the alias champion moved here from shelf/1" and "serving.until" not in second
    before = dict(second)
    Service(registry).start()  # another replica finds it told
    assert registry.tags("2") == before
    registry.move("1")
    service.look()
    assert "serving.until" not in registry.tags("1") and "moved here from shelf/2" in registry.tags("1")["serving.why"]


def test_the_way_back_needs_no_loading(registry, monkeypatch):
    service = Service(registry).start()
    first = service.model.current
    registry.move("2")
    service.look()
    registry.move("1")
    monkeypatch.setattr(service.model, "_load", None)  # it would raise
    assert service.look() == "shelf/1" and service.model.current is first


def test_the_version_before_leaves_memory_after_a_while_and_comes_back_from_disk(registry):
    service = Service(registry, keep_previous_s=0).start()
    first = service.model.current
    registry.move("2")
    service.look()
    service.look()
    registry.move("1")
    assert service.look() == "shelf/1" and service.model.current is not first


def corrupt(bundle: Path) -> None:
    weights = bundle / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"oops")


def from_a_newer_format(bundle: Path) -> None:
    card = json.loads((bundle / "model.json").read_text())
    (bundle / "model.json").write_text(json.dumps(card | {"format": 2}))


@pytest.mark.parametrize(
    ("spoil", "reason", "words"),
    [
        (corrupt, "unloadable", "is not the file that model.json was written with"),
        (from_a_newer_format, "unloadable", "use the version that wrote it"),
        (with_one_class_damaged, "golden", "with an IoU of 0.000 (0.95 must)"),
        (lambda bundle: shutil.rmtree(bundle / GOLDEN), "golden", "has no golden pictures"),
        (lambda bundle: (bundle / GOLDEN / "0.png").unlink(), "golden", "has no golden pictures that can be read"),
    ],
)
def test_a_broken_version_never_serves_and_mlflow_says_why(registry, bundles, tmp_path, caplog, spoil, reason, words):
    service = Service(registry).start()
    broken = tmp_path / "broken"
    shutil.copytree(bundles[2], broken)
    spoil(broken)
    registry.move(registry.register(broken))
    assert [service.look() for _ in range(3)] == ["shelf/1"] * 3
    assert registry.tags("3")["serving.refused"].startswith(f"{reason}: ") and words in registry.tags("3")["serving.refused"]
    assert service.metrics.reasons == [reason]  # tried once
    assert "shelf/3 does not serve" in caplog.text and "Traceback" not in caplog.text
    registry.move("2")
    assert service.look() == "shelf/2"


def test_other_labels_serve_only_where_the_gate_let_them(registry, bundles, tmp_path, pet_labels):
    service = Service(registry).start()
    other = make_bundle(tmp_path / "other", LabelSet.from_names(["pet", "background", "edge"]), 5)
    number = registry.register(other)
    registry.move(number)
    assert service.look() == "shelf/1"
    assert "new: edge; gone: border" in registry.tags(number)["serving.refused"] and service.metrics.reasons == ["labels"]
    registry.client.delete_model_version_tag("shelf", number, "serving.refused")
    registry.client.set_model_version_tag("shelf", number, "gate.verdict", "promoted")
    assert service.look() == f"shelf/{number}"
    assert service.model.current.label_set.names == ["pet", "background", "edge"]


def test_what_the_gate_refused_does_not_serve_however_the_alias_came_there(registry):
    service = Service(registry).start()
    registry.client.set_model_version_tag("shelf", "2", "gate.verdict", "refused")
    registry.client.set_model_version_tag("shelf", "2", "gate.reasons", "iou/pet is worse by 0.2")
    registry.move("2")
    assert service.look() == "shelf/1"
    assert "iou/pet is worse by 0.2" in registry.tags("2")["serving.refused"]


def test_a_slow_version_is_refused(registry, pet_labels, tmp_path):
    service = Service(registry).start()
    registry.move(registry.register(make_bundle(tmp_path / "large", pet_labels, 5, decoder_channels=512)))
    assert service.look() == "shelf/1"
    assert registry.tags("3")["serving.refused"].startswith("slow: ") and "max_slowdown" in registry.tags("3")["serving.refused"]


def test_what_one_replica_refused_no_other_tries(registry, caplog):
    service = Service(registry).start()
    registry.client.set_model_version_tag("shelf", "2", "serving.refused", "golden: another replica found it wrong")
    registry.move("2")
    assert [service.look() for _ in range(3)] == ["shelf/1"] * 3
    assert caplog.text.count("another replica found it wrong") == 1 and service.metrics.reasons == []
    registry.client.delete_model_version_tag("shelf", "2", "serving.refused")
    assert service.look() == "shelf/2"


def test_an_engine_that_cannot_serve_a_version_is_no_verdict_on_it(registry, tmp_path):
    with pytest.raises(VersionRefused, match="no export for engine onnx"):
        Service(registry, engine="onnx").start()
    assert "no export" in registry.tags("1")["serving.refused.onnx"]
    assert Service(registry).start().version == "shelf/1"


def test_an_alias_that_points_nowhere_stops_nothing(registry, caplog):
    service = Service(registry).start()
    registry.client.delete_registered_model_alias("shelf", ALIAS)
    assert [service.look() for _ in range(3)] == ["shelf/1"] * 3
    assert service.metrics.reasons == ["alias"] and caplog.text.count("what serves goes on: models:/shelf@champion is not in") == 1
    registry.move("2")
    assert service.look() == "shelf/2"


def test_a_version_that_is_deleted_while_it_serves_goes_on(registry, photo):
    service = Service(registry).start()
    registry.client.delete_registered_model_alias("shelf", ALIAS)
    registry.client.delete_model_version("shelf", "1")
    shutil.rmtree(registry.root / "model-0")
    assert service.look() == "shelf/1" and mask_of(service.model.current, photo).shape == (90, 120)
    assert Service(registry).start().version == "shelf/1"  # from the copy


def test_artifacts_that_are_gone_are_asked_for_again_later(registry, caplog):
    service = Service(registry).start()
    (registry.root / "model-1").rename(registry.root / "away")
    registry.move("2")
    assert [service.look() for _ in range(3)] == ["shelf/1"] * 3
    assert service.metrics.reasons == ["download"] and "models:/shelf/2 holds 0 bundles" in caplog.text
    assert "serving.refused" not in registry.tags("2")
    (registry.root / "away").rename(registry.root / "model-1")
    service.model._pause.until = 0
    assert service.look() == "shelf/2"


def test_a_disk_that_takes_nothing_is_named(registry, tmp_path, caplog):
    service = Service(registry).start()
    folder = service.model.current.model.folder.parents[2]
    shutil.rmtree(folder)
    folder.write_bytes(b"in the way")  # as root, no permission would stop the download
    registry.move("2")
    assert service.look() == "shelf/1"
    assert service.metrics.reasons == ["download"] and "does not come to this disk" in caplog.text


def test_mlflow_away_stops_nothing_and_a_start_works_from_the_copy(registry, caplog, photo):
    service = Service(registry).start()
    registry.move("2")
    service.look()
    with registry.away():
        assert [service.look() for _ in range(3)] == ["shelf/2"] * 3
        assert service.metrics.reasons == ["registry"] and caplog.text.count("does not answer") == 1
        assert Service(registry).start().version == "shelf/2"
    registry.move("1")
    assert service.look() == "shelf/1"


def test_a_start_without_mlflow_and_without_a_copy_says_so(registry):
    with registry.away(), pytest.raises(ModelNotFound, match="does not answer for models:/shelf@champion"):
        Service(registry).start()


def test_a_start_on_a_broken_version_serves_what_served_before(registry, bundles, tmp_path, monkeypatch):
    Service(registry).start()
    broken = tmp_path / "broken"
    shutil.copytree(bundles[2], broken)
    corrupt(broken)
    registry.move(registry.register(broken))
    service = Service(registry).start()
    assert service.look() == "shelf/1" and service.metrics.reasons == ["unloadable"]
    monkeypatch.setenv("MASKWORKS_HOME", str(tmp_path / "another machine"))
    assert Service(registry).start().version == "shelf/1"  # by the registry's word


def test_a_copy_that_was_damaged_on_this_disk_is_fetched_again(registry):
    service = Service(registry).start()
    registry.move("2")
    service.look()
    corrupt(service.model.current.model.folder)
    assert Service(registry).start().version == "shelf/2"
    assert "serving.refused" not in registry.tags("2")


def test_aliases_that_are_swapped_are_each_followed(registry):
    registry.move("2", "challenger")
    champion, challenger = Service(registry).start(), Service(registry)
    registry.move("2")
    registry.move("1", "challenger")
    assert champion.look() == "shelf/2"
    assert champion.metrics.reasons == [] and challenger.start().version == "shelf/2"


def test_two_replicas_tell_one_story(registry):
    services = [Service(registry).start() for _ in range(2)]
    registry.move("2")
    threads = [threading.Thread(target=each.look) for each in services]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.version for each in services] == ["shelf/2"] * 2
    assert [partial(registry.tags, number)().keys() for number in "12"] == [
        {"serving.since", "serving.why", "serving.until"},
        {"serving.since", "serving.why"},
    ]
