"""The gate with a real registry in SQLite, tiny networks and drawn photos, whose masks are what one of the networks says of them."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
import tyro
from mlflow import MlflowClient
from PIL import Image

from models.bundle import save_bundle
from models.fit import fit_image
from models.label_set import LabelSet
from models.restore import restore_class_map
from models.segmenter import Segmenter
from models.spec import Architecture, SegmenterSpec
from models.unet import NormalizedNetwork, build_network
from pipelines.data.records import InvalidData
from pipelines.data.scenes import draw_scene
from pipelines.gate import Limits
from pipelines.promote import PromoteConfig, PromotionRefused, main
from pipelines.registry import Overtaken, RegistryError
from pipelines.tracking import TrackedRun

SPEC = SegmenterSpec(Architecture("unet", "tu-test_resnet"), LabelSet.from_names(["background", "can", "box", "jar"]), (64, 64))
NUM_PICTURES = 24
pytestmark = pytest.mark.slow  # each test loads and measures two networks


def network_of(noise: float = 0, damaged_class: int | None = None) -> NormalizedNetwork:
    """A network whose four classes each win somewhere; with `noise` in its head, and one class that has none of its weights left."""
    torch.manual_seed(0)
    network = build_network(SPEC.architecture, len(SPEC.label_set)).eval()
    head = network.network.segmentation_head[0]
    photos = torch.from_numpy(np.stack([draw_scene(seed, (64, 64)).image for seed in range(4)])).permute(0, 3, 1, 2)
    with torch.inference_mode():
        logits = network(photos).movedim(1, 0).flatten(1)
        head.bias.copy_((head.bias - logits.mean(1)) / logits.std(1))
        head.weight.div_(logits.std(1)[:, None, None, None])
        head.weight.add_(noise * head.weight.std() * torch.randn(head.weight.shape))
        if damaged_class is not None:
            head.weight[damaged_class] = 0
            head.bias[damaged_class] = -10
    return network


@dataclass(frozen=True)
class World:
    """A home with MLflow and labelled photos, and the one name under which versions are registered there."""

    uri: str
    data: str
    folder: Path
    name: str

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri)

    def register(self, network: NormalizedNetwork, spec: SegmenterSpec = SPEC, provenance: dict | None = None) -> int:
        experiment = self.client.get_experiment_by_name("gate").experiment_id
        bundle = save_bundle(
            self.folder / "bundle", network, spec, {"data": self.data, "data_digest": "a digest"} if provenance is None else provenance
        )
        run = TrackedRun(self.uri, self.client.create_run(experiment).info.run_id)
        return int(run.log_model(bundle, register_as=self.name, alias=None))

    def promote(self, version: int | None = None, **options) -> None:
        main(PromoteConfig(self.name, version, tracking_uri=self.uri, **{"split": "train", **options}))

    def champion(self) -> int | None:
        number = self.client.get_registered_model(self.name).aliases.get("champion")
        return number and int(number)

    def tags(self, version: int) -> dict[str, str]:
        return self.client.get_model_version(self.name, str(version)).tags


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """For networks this small: threads would wait for each other longer than they compute."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="module")
def first_world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gate")
    segmenter = Segmenter(network_of(), SPEC)
    for name in ("images", "masks"):
        (folder / "photos" / name).mkdir(parents=True)
    for number in range(NUM_PICTURES):
        photo = draw_scene(100 + number, (72, 96)).image
        mask = restore_class_map(segmenter.predict([fit_image(photo, SPEC.input_size, SPEC.fit_rule)])[0])
        Image.fromarray(photo).save(folder / f"photos/images/{number}.png")
        Image.fromarray(mask).save(folder / f"photos/masks/{number}.png")
    (folder / "photos/labels.txt").write_text("\n".join(SPEC.label_set.names))
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    MlflowClient(uri).create_experiment("gate", artifact_location=(folder / "artifacts").as_uri())
    return World(uri, f"masks:{folder / 'photos'}", folder, "")


@pytest.fixture
def world(first_world, request):
    """With a champion, version 1, that is right in most pixels."""
    world = replace(first_world, name=request.node.name.replace("[", "-").replace("]", ""))
    world.client.create_registered_model(world.name)
    version = world.register(network_of(noise=0.05))
    world.client.set_registered_model_alias(world.name, "champion", str(version))
    return world


def test_the_first_version_becomes_champion_if_it_predicts(first_world, capsys):
    world = replace(first_world, name="first")
    world.promote(world.register(network_of(noise=5)))
    assert world.champion() == 1
    assert "no champion to compare with" in capsys.readouterr().out


def test_a_better_version_becomes_champion_and_mlflow_tells_why(world, capsys):
    world.promote(world.register(network_of()))
    assert world.champion() == 2
    assert "| miou " in capsys.readouterr().out
    tags = world.tags(2)
    assert tags["gate.verdict"] == "passed"
    assert tags["gate.data"] == world.data
    assert len(tags["gate.data_digest"]) == 64
    assert tags["data.source"] == world.data
    assert tags["data.digest"] == "a digest"
    assert tags["champion.why"].startswith(f"{world.name} version 2 against version 1: passed")
    report = Path(mlflow.artifacts.download_artifacts(tags["gate.report"], tracking_uri=world.uri))
    assert "| miou " in report.read_text()
    run_id, _, path = tags["gate.report"].removeprefix("runs:/").partition("/")
    assert run_id == world.client.get_model_version(world.name, "2").run_id
    found = json.loads(Path(world.client.download_artifacts(run_id, str(Path(path).with_suffix(".json")))).read_text())
    assert found["comparison"]["differences"]["miou"]["low"] > 0
    assert found["comparison"]["challenger"]["miou"] == pytest.approx(1)
    assert found["comparison"]["num_pictures"] == sum(found["comparison"]["pictures_of"].values()) / 4 == NUM_PICTURES - 4


def test_a_worse_version_is_refused_and_the_champion_stays(world):
    with pytest.raises(PromotionRefused, match="mIoU fell by 0.* more than noise"):
        world.promote(world.register(network_of(noise=0.2)))
    assert world.champion() == 1
    assert world.tags(2)["gate.verdict"] == "refused"
    assert "mIoU fell" in world.tags(2)["gate.reasons"]


def test_a_version_with_one_damaged_class_is_refused_though_its_mean_is_better(world):
    world.client.set_registered_model_alias(world.name, "champion", str(world.register(network_of(noise=0.2))))
    with pytest.raises(PromotionRefused, match="IoU of jar fell by 0") as refused:
        world.promote(world.register(network_of(damaged_class=3)))
    assert "mIoU fell" not in str(refused.value)
    assert world.champion() == 2


def test_the_same_network_again_is_neither_worse_nor_refused(world):
    world.promote(world.register(network_of(noise=0.05)))
    assert world.champion() == 2


def test_a_slower_version_is_refused(world):
    with pytest.raises(PromotionRefused, match="times as long, and 1.5 is allowed"):
        world.promote(world.register(network_of(), replace(SPEC, input_size=(256, 256))), limits=Limits(max_class_drop=1))
    assert world.champion() == 1


def test_force_takes_a_worse_version_and_records_the_reason(world):
    world.promote(world.register(network_of(noise=0.2)), force="the camera was changed")
    assert world.champion() == 2
    assert world.tags(2)["gate.verdict"] == "forced"
    assert "the camera was changed" in world.tags(2)["champion.why"]
    assert "mIoU fell" in world.tags(2)["gate.reasons"]


def test_other_classes_are_refused_until_they_are_accepted(world, first_world):
    network = network_of()
    names = ["background", "can", "box", "bottle"]
    other = world.register(network, replace(SPEC, label_set=LabelSet.from_names(names)))
    with pytest.raises(PromotionRefused, match="gone jar; new bottle.*--accept-labels"):
        world.promote(other, force="no")
    with pytest.raises(InvalidData, match="the version's .*bottle"):
        world.promote(other, accept_labels=True)
    relabelled = shutil.copytree(world.folder / "photos", world.folder / "relabelled")
    (relabelled / "labels.txt").write_text("\n".join(names))
    world.promote(other, accept_labels=True, data=f"masks:{relabelled}")
    assert world.champion() == 2


def test_a_version_that_cannot_be_used_is_refused_even_by_force(world):
    broken = network_of()
    broken.network.segmentation_head[0].weight.data[0, 0] = float("nan")
    with pytest.raises(PromotionRefused, match="hold NaN or infinity"):
        world.promote(world.register(broken), force="please")
    corrupt = world.register(network_of())
    weights = damage(world, corrupt, "weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(PromotionRefused, match="is not the file that model.json was written with"):
        world.promote(corrupt, force="please")
    newer = world.register(network_of())
    card = damage(world, newer, "model.json")
    card.write_text(card.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(PromotionRefused, match="'format': 99"):
        world.promote(newer)
    assert world.tags(newer)["gate.verdict"] == "refused"
    assert world.champion() == 1


def damage(world, version, file):
    """The file of the version's bundle in the artifact store."""
    (path,) = Path(mlflow.artifacts.download_artifacts(f"models:/{world.name}/{version}", tracking_uri=world.uri)).rglob(file)
    return path


def test_a_champion_that_is_damaged_is_replaced_by_force_only(world):
    damage(world, 1, "weights.safetensors").write_bytes(b"x")
    better = world.register(network_of())
    with pytest.raises(PromotionRefused, match="the champion cannot be loaded"):
        world.promote(better)
    world.promote(better, force="the champion's weights are gone")
    assert world.champion() == 2


def test_what_cannot_be_compared_is_said_in_one_sentence(world, tmp_path):
    version = world.register(network_of(), provenance={})
    with pytest.raises(InvalidData, match="give --data"):
        world.promote(version)
    with pytest.raises(InvalidData, match="choose one of train, val"):
        world.promote(version, data=world.data, split="nothing")
    with pytest.raises(InvalidData, match="no image"):
        (tmp_path / "labels.txt").write_text("a\nb\n")
        world.promote(version, data=f"masks:{tmp_path}")
    with pytest.raises(RegistryError, match="version=99"):
        world.promote(99)
    with pytest.raises(RegistryError, match="name=nobody"):
        replace(world, name="nobody").promote(1)
    with pytest.raises(PromotionRefused, match="already"):
        world.promote(1)
    with pytest.raises(PromotionRefused, match="no champion before version 1"):
        world.promote(rollback=True)
    assert world.champion() == 1


def test_of_two_gates_at_the_same_time_one_promotes_and_the_other_is_told(world):
    versions = [world.register(network_of()), world.register(network_of(noise=0.002))]

    def promote(version):
        with suppress(Overtaken):
            world.promote(version)
            return version

    with ThreadPoolExecutor(2) as both:
        winners = [version for version in both.map(promote, versions) if version]
    assert winners == [world.champion()]


def test_the_command_tells_by_a_line_and_its_exit_status_and_a_rollback_takes_less_than_ten_seconds(world):
    def command(*arguments):
        arguments = [sys.executable, "-m", "pipelines.promote", world.name, *arguments, "--tracking-uri", world.uri]
        return subprocess.run(arguments, cwd=Path(__file__).parents[2], capture_output=True, text=True)

    worse = world.register(network_of(noise=0.2))
    refused = command(str(worse), "--split", "train")
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith(f"error: {world.name} version 2 is refused, version 1 stays: mIoU fell")
    world.promote(worse, force="a test")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = command("--rollback")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert world.champion() == 1
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10  # of processor time, on a busy machine too


@pytest.mark.parametrize(
    "arguments", [[], ["2", "--rollback"], ["2", "--force", ""], ["--rollback", "--force", "x"], ["two"], ["2", "--max-slowdown", "-1"]]
)
def test_a_command_that_makes_no_sense_ends_with_2(arguments):
    with pytest.raises(SystemExit) as ended:
        tyro.cli(PromoteConfig, args=["shelf", *arguments])
    assert ended.value.code == 2
