"""The readers on small trees made here, and on the real data where it is."""

import json
import re

import numpy as np
import pytest
from faster_coco_eval import mask as coco_mask
from PIL import Image

from pipelines.data.records import InvalidData, hold_out
from pipelines.data.sources import read_data


def left_out(data):
    """The names of the files that no record came of, with the reason."""
    return {finding.path.name: finding.what for finding in data.findings if finding.leaves_out}


PETS = ("annotations", "images", "annotations/trimaps")


@pytest.fixture
def pets(tmp_path):
    """Six labelled photos, two of them in the test list; cat_2 is a GIF inside, as some of the official files are."""
    for folder in PETS:
        (tmp_path / folder).mkdir(exist_ok=True)
    for i in range(6):
        Image.new("RGB", (8, 6), (i, i, i)).save(tmp_path / f"images/cat_{i}.jpg", "GIF" if i == 2 else "JPEG")
        Image.fromarray(np.full((6, 8), 1 + i % 3, np.uint8)).save(tmp_path / f"annotations/trimaps/cat_{i}.png")
    (tmp_path / "annotations/trainval.txt").write_text("".join(f"cat_{i} 1 1 1\n" for i in range(4)))
    (tmp_path / "annotations/test.txt").write_text("cat_4 1 1 1\ncat_5 1 1 1\n")
    return tmp_path


def test_pets_follow_their_own_lists_and_trimaps_become_indices(pets):
    data = read_data(f"oxford_pets:{pets}")
    assert {split: len(records) for split, records in data.splits.items()} == {"train": 3, "val": 1, "test": 2}
    assert data.label_set.names == ["pet", "background", "border"]
    for record in data.splits["test"]:
        _, class_map = record.read()
        assert (class_map == int(record.image_path.stem[-1]) % 3).all()
    assert left_out(data) == {}


def test_a_pet_that_cannot_be_trusted_is_refused_by_name(pets):
    Image.fromarray(np.full((6, 8), 7, np.uint8)).save(pets / "annotations/trimaps/cat_4.png")
    (pets / "images/cat_5.jpg").write_bytes(b"not an image")
    (pets / "annotations/test.txt").write_text("cat_4 1\ncat_5 1\ncat_9 1\ncat_3 1\n")
    data = read_data(f"oxford_pets:{pets}")
    assert [record.image_path.stem for record in data.splits["test"]] == ["cat_3"]
    reasons = left_out(data)
    assert "holds the values [7]" in reasons["cat_4.jpg"]
    assert "no image in a known format" in reasons["cat_5.jpg"]
    assert "does not exist" in reasons["cat_9.jpg"]


@pytest.fixture
def folder(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(5):
        Image.new("L", (4, 4), i).save(tmp_path / f"images/{i}.png")
        Image.fromarray(np.array([[0, 1, 2, 255]] * 4, np.uint8)).save(tmp_path / f"masks/{i}.png")
    (tmp_path / "labels.txt").write_text("background\ncan\nbox\n")
    return tmp_path


def test_a_folder_of_masks_is_read_with_its_labels_and_a_held_out_part(folder):
    data = read_data(f"masks:{folder}")
    assert data.label_set.names == ["background", "can", "box"]
    assert data.label_set.background == 0
    assert [len(data.splits[split]) for split in ("train", "val")] == [4, 1]
    assert data.splits["train"][0].read()[1][0].tolist() == [0, 1, 2, 255]


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (np.zeros((4, 4, 3), np.uint8), "one channel of class indices"),
        (np.array([[0, 255]] * 4, np.uint8).repeat(2, 1), "only 0 and 255"),
        (np.full((4, 4), 3, np.uint8), r"holds the values \[3\]"),
        (np.zeros((4, 5), np.uint8), "is 5 x 4, its image 4 x 4"),
    ],
)
def test_masks_of_the_wrong_kind_are_refused_with_the_remedy(folder, mask, reason):
    Image.fromarray(mask).save(folder / "masks/3.png")
    ((name, said),) = left_out(read_data(f"masks:{folder}")).items()
    assert name == "3.png"
    assert re.search(reason, said)


def test_missing_halves_of_pairs_are_refused(folder):
    (folder / "masks/0.png").rename(folder / "masks/other.png")
    missing = [finding for finding in read_data(f"masks:{folder}").findings if finding.name == "missing-pair"]
    assert {finding.path.name for finding in missing} == {"0.png", "other.png"}


def square(x, y, side):
    return [x, y, x + side, y, x + side, y + side, x, y + side]


def write_coco(
    root, annotations, *, size=(20, 10), stated=None, exif=None, categories=({"id": 3, "name": "can"}, {"id": 1, "name": "box"})
):
    """One image of `size` (width, height) called a.jpg, with the annotations on it, in train; the same in val."""
    for split in ("train", "val"):
        (root / "images" / split).mkdir(parents=True, exist_ok=True)
        (root / "annotations").mkdir(exist_ok=True)
        tags = Image.Exif()
        if exif:
            tags[0x0112] = exif
        Image.new("RGB", size).save(root / "images" / split / "a.jpg", exif=tags)
        width, height = stated or size
        content = {
            "images": [{"id": 1, "file_name": "a.jpg", "width": width, "height": height}],
            "annotations": [{"id": i, "image_id": 1, "iscrowd": 0} | annotation for i, annotation in enumerate(annotations)],
            "categories": list(categories),
        }
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return f"coco:{root}"


def class_map_of(source):
    data = read_data(source)
    return data.splits["train"][0].read()[1], data.label_set


def test_coco_polygons_are_drawn_in_the_order_of_the_category_ids(tmp_path):
    class_map, label_set = class_map_of(write_coco(tmp_path, [{"category_id": 3, "segmentation": [square(2, 3, 4)]}]))
    assert label_set.names == ["background", "box", "can"]
    assert [label.id for label in label_set.labels] == [0, 1, 3]
    expected = np.zeros((10, 20), np.uint8)
    expected[3:7, 2:6] = 2
    assert (class_map == expected).all()


def test_several_polygons_are_one_object_and_small_lies_on_large(tmp_path):
    annotations = [
        {"category_id": 1, "segmentation": [square(1, 1, 2)]},
        {"category_id": 3, "segmentation": [square(0, 0, 8), square(12, 0, 8)]},
    ]
    class_map, _ = class_map_of(write_coco(tmp_path, annotations))
    assert class_map[1, 1] == 1
    assert class_map[5, 5] == class_map[5, 15] == 2
    assert class_map[5, 10] == 0


@pytest.mark.parametrize("compressed", [True, False])
def test_run_lengths_are_exact_and_crowds_are_ignored(tmp_path, compressed):
    mask = np.random.default_rng(0).integers(0, 2, (10, 20), dtype=np.uint8)
    rle = coco_mask.encode(np.asfortranarray(mask))
    counts = rle["counts"].decode() if compressed else runs(mask)
    class_map, _ = class_map_of(
        write_coco(tmp_path, [{"category_id": 1, "iscrowd": 1, "segmentation": {"size": [10, 20], "counts": counts}}])
    )
    assert (class_map == np.where(mask, 255, 0)).all()


def runs(mask):
    """COCO's uncompressed counts: column by column, beginning with zeros."""
    counts, value = [0], 0
    for pixel in mask.T.ravel():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


def test_annotations_before_and_after_the_exif_turn_both_land_on_the_object(tmp_path):
    # Stored 20 x 10, shown 10 x 20 after a quarter turn clockwise: stored (x, y) is shown at (9 - y, x).
    stored = [{"category_id": 1, "segmentation": [square(0, 0, 4)]}]
    upright = [{"category_id": 1, "segmentation": [square(6, 0, 4)]}]
    from_stored, _ = class_map_of(write_coco(tmp_path / "stored", stored, exif=6))
    from_upright, _ = class_map_of(write_coco(tmp_path / "upright", upright, stated=(10, 20), exif=6))
    assert from_stored.shape == (20, 10)
    assert from_stored[:4, 6:].all() and from_stored.sum() == 16
    assert (from_stored == from_upright).all()


@pytest.mark.parametrize(
    ("annotation", "options", "reason"),
    [
        ({"category_id": 1, "segmentation": [square(0, 0, 4)]}, {"stated": (30, 30)}, "are for 30 x 30 pixels, the photo has 20 x 10"),
        ({"category_id": 9, "segmentation": [square(0, 0, 4)]}, {}, "category 9"),
        ({"category_id": 1, "segmentation": [[1, 1, 2, 2]]}, {}, "no polygon of three points"),
        ({"category_id": 1, "segmentation": [[1, 1, 2, 2, 3, 3, 4]]}, {}, "odd number"),
        ({"category_id": 1, "segmentation": {"size": [5, 5], "counts": [25]}}, {}, "run lengths are for"),
    ],
)
def test_coco_images_that_cannot_be_trusted_are_refused(tmp_path, annotation, options, reason):
    with pytest.raises(InvalidData, match=reason):
        read_data(write_coco(tmp_path, [annotation], **options))


def test_a_stray_point_beside_a_polygon_is_dropped(tmp_path):
    class_map, _ = class_map_of(write_coco(tmp_path, [{"category_id": 1, "segmentation": [[1, 1], square(0, 0, 4)]}]))
    assert class_map.sum() == 16


def test_ids_that_clash_are_an_error_of_the_file(tmp_path):
    with pytest.raises(InvalidData, match="categories share the id 1"):
        read_data(write_coco(tmp_path, [], categories=({"id": 1, "name": "a"}, {"id": 1, "name": "b"})))


@pytest.mark.parametrize("source", ["oxford_pets", "pascal:x", "coco:/does/not/exist", ""])
def test_a_source_that_is_not_there_says_what_to_write(source):
    with pytest.raises(InvalidData, match="write oxford_pets:PATH|does not exist"):
        read_data(source)


def test_the_digest_changes_with_one_pixel_of_one_mask(folder):
    before = read_data(f"masks:{folder}").digest()
    assert read_data(f"masks:{folder}").digest() == before
    Image.fromarray(np.array([[0, 1, 2, 254 + 1]] * 3 + [[0, 1, 1, 255]], np.uint8)).save(folder / "masks/1.png")
    assert read_data(f"masks:{folder}").digest() != before


def test_what_is_held_out_does_not_depend_on_order_or_on_the_rest():
    names = [f"photo {i}" for i in range(100)]
    assert hold_out(names, 0.2) == hold_out(reversed(names), 0.2)
    assert len(hold_out(names, 0.2)) == 20
    assert len(hold_out(["one"], 0.1)) == 1


def test_the_real_pets_are_read_whole(real_data):
    data = read_data(f"oxford_pets:{real_data / 'oxford_pets'}")
    assert sum(map(len, data.splits.values())) == 449
    assert left_out(data) == {}


def test_of_the_real_groceries_those_with_annotations_for_another_picture_are_refused(real_data):
    data = read_data(f"coco:{real_data / 'grocery24'}")
    assert [len(data.splits[split]) for split in ("train", "val")] == [609, 156]
    assert len(data.label_set) == 25
    assert set(left_out(data)) == {f"{name}.jpg" for name in (150080, 150081, 150082, 150287, 150256, 150257)}


def test_the_real_cells_are_read_with_their_label_list(real_data):
    data = read_data(f"masks:{real_data / 'isbi_em'}")
    assert data.label_set.names == ["membrane", "cell"]
    assert sum(map(len, data.splits.values())) == 20
