import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from faster_coco_eval.core import mask as coco_mask
from PIL import Image

from pipelines.data import scenes
from pipelines.data.scenes import CLASS_NAMES, Scene, annotations_of, draw_scene, split_seeds, write_scenes
from pipelines.data.scenes_layout import Placed
from pipelines.data.scenes_shapes import Sprite, coverage_of, paste, rectangle

SEEDS = range(40)
SMALL = {"num_train": 3, "num_val": 2, "size": (96, 128)}


@pytest.fixture(scope="module")
def drawn() -> list[Scene]:
    return [draw_scene(seed) for seed in SEEDS]


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_scenes(tmp_path / "scenes", **SMALL)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def block(width: int, height: int = 4) -> Sprite:
    full = np.ones((height, width), np.float32)
    return Sprite(colour=full[..., None].repeat(3, axis=2), coverage=full, opacity=full, anchor=(0, 0), radius=2, depth=1)


def test_same_seed_draws_the_same_scene_and_another_seed_another():
    first, again, other = draw_scene(7), draw_scene(7), draw_scene(8)
    for name in ("image", "class_mask", "instance_mask"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert first.instance_classes == again.instance_classes
    assert not np.array_equal(first.image, other.image)


def test_arrays_have_their_stated_shapes_and_types():
    scene = draw_scene(0, (100, 150))
    assert (scene.image.shape, scene.image.dtype) == ((100, 150, 3), np.uint8)
    assert (scene.class_mask.shape, scene.class_mask.dtype) == ((100, 150), np.uint8)
    assert (scene.instance_mask.shape, scene.instance_mask.dtype) == ((100, 150), np.uint16)


def test_instance_numbers_are_dense_and_2_to_12(drawn):
    for scene in drawn:
        numbers = [int(number) for number in np.unique(scene.instance_mask) if number]
        assert numbers == list(range(1, len(scene.instance_classes) + 1))
        assert 2 <= len(numbers) <= 12


def test_class_mask_agrees_with_instance_mask(drawn):
    for scene in drawn:
        assert np.array_equal(scene.class_mask == 0, scene.instance_mask == 0)
        for number, class_index in enumerate(scene.instance_classes, start=1):
            assert set(scene.class_mask[scene.instance_mask == number]) == {class_index}


def test_every_class_appears(drawn):
    assert {index for scene in drawn for index in scene.instance_classes} == set(range(1, len(CLASS_NAMES)))


def test_touching_objects_of_one_class_keep_different_numbers(drawn):
    def touch(scene: Scene) -> bool:
        left, right = scene.instance_mask[:, :-1], scene.instance_mask[:, 1:]
        same_class = (scene.class_mask[:, :-1] == scene.class_mask[:, 1:]) & (left > 0)
        return bool((same_class & (left != right)).any())

    assert sum(touch(scene) for scene in drawn) >= 10


def test_wholly_hidden_object_is_dropped_and_numbers_stay_dense(monkeypatch):
    hidden, wide, last = Placed(1, block(3), (10, 10)), Placed(2, block(5), (10, 10)), Placed(3, block(2), (14, 10))
    monkeypatch.setattr(scenes, "arrange", lambda *_: [hidden, wide, last])
    scene = draw_scene(0, (64, 64))
    assert scene.instance_classes == (2, 3)
    assert scene.instance_mask[10].tolist()[9:17] == [0, 1, 1, 1, 1, 2, 2, 0]


def test_later_sprite_takes_the_pixels_it_covers_by_half_or_more():
    picture, instance_mask = np.zeros((6, 6, 3), np.float32), np.zeros((6, 6), np.uint16)
    paste(picture, instance_mask, block(4), (0, 0), 1)
    dark = replace(block(3, 1), colour=np.zeros((1, 3, 3), np.float32), coverage=np.array([[1.0, 0.5, 0.4375]], np.float32))
    paste(picture, instance_mask, dark, (0, 0), 2)
    assert instance_mask[:2].tolist() == [[2, 2, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0]]
    assert picture[0, :3, 0].tolist() == [0.0, 0.5, 0.5625]


def test_coverage_counts_the_share_of_each_pixel():
    share = coverage_of(rectangle(1.125, 1.125, 2.875, 1.875), (3, 4))
    assert share[1].tolist() == [0.0, 1.0, 1.0, 0.0]
    assert share[[0, 2]].tolist() == [[0.0] * 4] * 2


def test_annotations_decode_to_the_exact_visible_masks(drawn):
    scene = drawn[0]
    entries = annotations_of(scene)
    assert [entry["category_id"] for entry in entries] == list(scene.instance_classes)
    for number, entry in enumerate(entries, start=1):
        visible = scene.instance_mask == number
        rows, columns = np.nonzero(visible)
        assert np.array_equal(coco_mask.decode(entry["segmentation"]).astype(bool), visible)
        assert entry["area"] == visible.sum()
        left, top = columns.min(), rows.min()
        assert entry["bbox"] == [left, top, columns.max() - left + 1, rows.max() - top + 1]
        assert entry["iscrowd"] == 0


def test_written_folder_is_coco_and_its_annotations_rebuild_the_masks(folder):
    for split, first, num in split_seeds(3, 2, 0):
        record = json.loads((folder / "annotations" / f"instances_{split}.json").read_text())
        assert record["categories"] == [{"id": index, "name": name} for index, name in enumerate(CLASS_NAMES) if index]
        assert [image["file_name"] for image in record["images"]] == [f"{index:06d}.jpg" for index in range(num)]
        assert [entry["id"] for entry in record["annotations"]] == list(range(1, len(record["annotations"]) + 1))
        for image in record["images"]:
            rebuilt = np.zeros((96, 128), np.uint8)
            for entry in record["annotations"]:
                if entry["image_id"] == image["id"]:
                    rebuilt[coco_mask.decode(entry["segmentation"]) == 1] = entry["category_id"]
            scene = draw_scene(first + image["id"], (96, 128))
            assert np.array_equal(rebuilt, scene.class_mask)
            with Image.open(folder / "images" / split / image["file_name"]) as jpeg:
                assert np.abs(np.asarray(jpeg).astype(int) - scene.image).mean() < 6


def test_splits_never_share_a_scene_seed():
    spans = [range(first, first + num) for seed in (0, 1) for _, first, num in split_seeds(1_000_000, 1_000_000, seed)]
    assert all(before.stop <= after.start for before, after in pairwise(spans))


def test_two_writes_give_the_same_files_and_leave_nothing_beside(tmp_path, folder):
    again = write_scenes(tmp_path / "again", **SMALL)
    assert files_of(again) == files_of(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "scenes"]


def test_complete_folder_is_returned_as_it_is(folder, monkeypatch):
    monkeypatch.setattr(scenes, "draw_scene", lambda *_: pytest.fail("drew a scene again"))
    assert write_scenes(folder, **SMALL) == folder


def test_folder_with_something_else_is_refused_and_kept(tmp_path):
    (tmp_path / "photo.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"something other than scenes.*choose another folder"):
        write_scenes(tmp_path, **SMALL)
    assert files_of(tmp_path) == {"photo.txt": b"mine"}


def test_scenes_of_other_parameters_are_refused(folder):
    with pytest.raises(FileExistsError, match=r"'seed': 0.*not.*'seed': 1.*delete this one"):
        write_scenes(folder, seed=1, **SMALL)


def test_folder_that_lost_an_image_is_refused(folder):
    (folder / "images" / "val" / "000000.jpg").unlink()
    with pytest.raises(FileExistsError, match="lost files of its val split"):
        write_scenes(folder, **SMALL)


def test_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(scenes, "draw_scene", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path / "scenes", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_loser_of_the_rename_uses_the_folder_of_the_winner(tmp_path, monkeypatch):
    target, rename = tmp_path / "scenes", Path.rename

    def lose(draft: Path, folder: Path):
        monkeypatch.setattr(Path, "rename", rename)
        write_scenes(folder, **SMALL)
        return rename(draft, folder)

    monkeypatch.setattr(Path, "rename", lose)
    assert write_scenes(target, **SMALL) == target
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda folder: draw_scene(-1), "seed is -1.*0 or more"),
        (lambda folder: draw_scene(0, (32, 320)), r"size is \(32, 320\).*64 or more"),
        (lambda folder: write_scenes(folder, num_val=0), "num_val is 0.*1 to 1000000"),
        (lambda folder: write_scenes(folder / "new", seed=-1), "seed is -.*0 or more"),
    ],
)
def test_values_out_of_range_are_named(tmp_path, call, message):
    with pytest.raises(ValueError, match=message):
        call(tmp_path)
