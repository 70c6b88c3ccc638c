"""Each fault planted alone in a small clean data set: the doctor finds it, in the right file, and nothing else."""

import cv2
import numpy as np
import pytest
from PIL import Image

from pipelines.data.findings import KINDS
from pipelines.data.scenes import write_scenes
from pipelines.data.sources import examine_data
from tests.pipelines.planted_data import SIZE, PlantedCoco, PlantedMasks, save_turned, scene

H, W = SIZE


def examine(source, *, repair=False):
    return examine_data(source, repair=repair, input_size=(256, 256))


def box(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


def largest(coco, seed):
    """The annotation of a photo with the most pixels."""
    return max(coco.annotations(seed), key=lambda each: each["area"])


def outline(seed, grow=0):
    """An ellipse in the middle of the photo, as a polygon."""
    points = cv2.ellipse2Poly((W // 2, H // 2), (30 + grow, 20 + grow), 0, 0, 360, 10)
    return [points.ravel().tolist()]


def second_shot(seed):
    """The scene a moment later: the camera has moved by a few pixels, the light has changed, and something new stands there."""
    pixels = np.clip(scene(seed).image.astype(np.float64) * 0.9 + 8, 0, 255).astype(np.uint8)
    pixels = np.roll(pixels, (3, -4), axis=(0, 1))
    pixels[40:70, 60:90] = (200, 30, 120)
    return pixels


def turned_frame(coco):
    save_turned(scene(1).image, coco.photo(1), 6)  # the JSON's size and run lengths are those of the file as stored


def turned_upside_down(coco):
    save_turned(scene(1).image[::-1, ::-1], coco.photo(1), 3)


def turned_after_annotation(coco):
    save_turned(scene(1).image, coco.photo(1), 3)


def other_size(coco):
    Image.fromarray(scene(1).image).resize((W * 2, H * 2)).save(coco.photo(1))


def copied_annotation(coco):
    coco.add(1, largest(coco, 1)["segmentation"], category_id=largest(coco, 1)["category_id"])


def boxed_outline(coco):
    coco.add(1, outline(1))
    coco.add(1, box(W / 2 - 30, H / 2 - 20, W / 2 + 30, H / 2 + 20))


def two_classes_on_one_object(coco):
    coco.add(1, outline(1), category_id=2)
    coco.add(1, outline(1), category_id=3)


def off_the_photo(coco):
    coco.add(1, [[W - 20, 10, W + 40, 10, W + 40, 60, W - 25, 55]])


def cut_photo(coco):
    coco.photo(1).write_bytes(coco.photo(1).read_bytes()[:1500])


def gif_named_jpg(coco):
    Image.fromarray(scene(1).image).save(coco.photo(1), "GIF")


def lost_photo(coco):
    coco.photo(1).unlink()


def impossible_name(coco):
    coco.content["train"]["images"][1]["file_name"] = "\0.jpg"
    coco.photo(1).unlink()


def new_photo(coco):
    coco.photo(1).with_name("1b.jpg").write_bytes(coco.photo(7).read_bytes()[:-2] + b"\xff\xd9")


def train_photo_in_val(coco):
    coco.photo(6).write_bytes(coco.photo(1).read_bytes())


def train_photo_in_val_compressed_again(coco):
    Image.fromarray(scene(1).image).resize((W * 2, H * 2)).resize((W, H)).save(coco.photo(6), quality=70)


def burst(coco):
    Image.fromarray(second_shot(1)).save(coco.photo(6), quality=92)


def photo_twice_in_train(coco):
    coco.photo(3).write_bytes(coco.photo(1).read_bytes())


def shared_image_ids(coco):
    coco.content["train"]["images"][2]["id"] = 1
    for annotation in coco.annotations(2):
        annotation["image_id"] = 1


def annotation_of_nothing(coco):
    coco.add(77, outline(1))


def repeated_annotation_ids(coco):
    coco.annotations(1)[0]["id"] = coco.annotations(2)[0]["id"]


def skipped_category_ids(coco):
    for content in coco.content.values():
        for entry in content["categories"]:
            entry["id"] += 10 * (entry["id"] > 3)
        for annotation in content["annotations"]:
            annotation["category_id"] += 10 * (annotation["category_id"] > 3)


def class_only_in_val(coco):
    for content in coco.content.values():
        content["categories"].append({"id": 6, "name": "melon"})
    coco.annotations(6)[0]["category_id"] = 6


def class_without_objects(coco):
    for content in coco.content.values():
        content["categories"].append({"id": 6, "name": "melon"})


def nothing_marked_in_val(coco):
    coco.content["val"]["annotations"].clear()


def no_val(coco):
    for seed in (5, 6, 7):
        coco.photo(seed).write_bytes(b"no image")


def spoiled_run_lengths(coco):
    largest(coco, 1)["segmentation"]["counts"] = "garbage!!"


# fault: (what spoils the data, {finding: the files it is found in})
COCO_FAULTS = {
    "turned": (turned_frame, {"exif-frame": ["1.jpg"]}),
    "upside-down": (turned_upside_down, {"exif-undecided": ["1.jpg"]}),
    "turned-after-annotation": (turned_after_annotation, {"exif-suspect": ["1.jpg"]}),
    "other-size": (other_size, {"size-mismatch": ["1.jpg"]}),
    "copied-annotation": (copied_annotation, {"duplicate-object": ["1.jpg"]}),
    "box-over-outline": (boxed_outline, {"duplicate-object": ["1.jpg"]}),
    "two-classes": (two_classes_on_one_object, {"contested-object": ["1.jpg"]}),
    "off-photo": (off_the_photo, {"off-photo": ["1.jpg"]}),
    "one-point": (lambda coco: coco.add(1, [[5, 5]]), {"few-points": ["1.jpg"]}),
    "stray-point": (lambda coco: coco.add(1, [[5, 5], *outline(1)]), {"stray-point": ["1.jpg"]}),
    "no-pixel": (lambda coco: coco.add(1, [[10, 10, 60, 10, 30, 10]]), {"empty-object": ["1.jpg"]}),
    "one-pixel": (lambda coco: coco.add(1, [[10, 10, 11, 10, 11, 11, 10, 11, 10, 10.5, 10, 10]]), {"vanishing-object": ["1.jpg"]}),
    "box": (lambda coco: coco.add(1, box(2, 2, 22, 30)), {"box-outline": ["1.jpg"]}),
    "not-a-number": (lambda coco: coco.add(1, [[1, 2, float("nan"), 4, 5, 6]]), {"unreadable-annotation": ["1.jpg"]}),
    "spoiled-run-lengths": (spoiled_run_lengths, {"unreadable-annotation": ["1.jpg"]}),
    "unknown-category": (lambda coco: coco.add(1, outline(1), category_id=44), {"unknown-category": ["1.jpg"]}),
    "cut-photo": (cut_photo, {"unreadable-image": ["1.jpg"]}),
    "impossible-name": (impossible_name, {"unreadable-image": ["\0.jpg"]}),
    "gif-named-jpg": (gif_named_jpg, {"misnamed-file": ["1.jpg"]}),
    "lost-photo": (lost_photo, {"missing-pair": ["1.jpg"]}),
    "annotation-of-nothing": (annotation_of_nothing, {"missing-pair": ["instances_train.json"]}),
    "new-photo": (new_photo, {"unlisted-file": ["1b.jpg"]}),
    "equal-files": (train_photo_in_val, {"photo-in-two-splits": ["1.jpg"]}),
    "same-photo": (train_photo_in_val_compressed_again, {"photo-in-two-splits": ["1.jpg"]}),
    "burst": (burst, {"burst-across-splits": ["1.jpg"]}),
    "twice-in-train": (photo_twice_in_train, {"repeated-photo": ["3.jpg"]}),
    "image-ids": (shared_image_ids, {"clashing-id": ["1.jpg", "2.jpg"]}),
    "annotation-ids": (repeated_annotation_ids, {"repeated-id": ["instances_train.json"]}),
    "category-ids": (skipped_category_ids, {"skipped-id": ["instances_train.json"]}),
    "class-only-in-val": (class_only_in_val, {"unseen-class": [""]}),
    "class-without-objects": (class_without_objects, {"absent-class": [""]}),
    "unmarked-val": (nothing_marked_in_val, {"no-objects": ["5.jpg", "6.jpg", "7.jpg"], "one-class-split": [""]}),
    "no-val": (no_val, {"unreadable-image": ["5.jpg", "6.jpg", "7.jpg"], "empty-split": [""]}),
}


def found(data, root):
    """{finding: its files}, '' for the data as a whole."""
    files = {}
    for finding in data.findings:
        files.setdefault(finding.name, []).append("" if finding.path == root else finding.path.name)
    return {name: sorted(set(names)) for name, names in files.items()}


@pytest.mark.parametrize("fault", COCO_FAULTS)
def test_a_fault_in_coco_is_found_where_it_is_and_nothing_else(tmp_path, fault):
    spoil, expected = COCO_FAULTS[fault]
    coco = PlantedCoco(tmp_path)
    spoil(coco)
    assert found(examine(coco.write()), tmp_path) == expected


def mask_of(seed):
    return (scene(seed).class_mask > 0).astype(np.uint8)


def white_masks(masks):
    for seed in range(8):
        Image.fromarray(mask_of(seed) * np.uint8(255)).save(masks.mask(seed))


def turned_mask(masks):
    save_turned(scene(1).image, masks.photo(1), 6)


MASK_FAULTS = {
    "white": (white_masks, {"binary-mask": [f"{seed}.jpg" for seed in range(8)], "empty-split": [""]}),
    "one-white": (lambda masks: Image.fromarray(mask_of(1) * np.uint8(255)).save(masks.mask(1)), {"binary-mask": ["1.jpg"]}),
    "coloured": (
        lambda masks: Image.fromarray(np.stack([mask_of(1) * np.uint8(90)] + [mask_of(1)] * 2, 2)).save(masks.mask(1)),
        {"colour-mask": ["1.jpg"]},
    ),
    "grey-in-colour": (lambda masks: Image.fromarray(np.stack([mask_of(1)] * 3, 2)).save(masks.mask(1)), {"colour-mask": ["1.jpg"]}),
    "third-value": (lambda masks: Image.fromarray(mask_of(1) * np.uint8(2)).save(masks.mask(1)), {"unknown-value": ["1.jpg"]}),
    "empty": (lambda masks: Image.fromarray(mask_of(1) * np.uint8(0)).save(masks.mask(1)), {"empty-mask": ["1.jpg"]}),
    "other-size": (lambda masks: Image.fromarray(mask_of(1)[:-1]).save(masks.mask(1)), {"size-mismatch": ["1.jpg"]}),
    "turned": (turned_mask, {"exif-frame": ["1.jpg"]}),
    "no-mask": (lambda masks: masks.mask(1).unlink(), {"missing-pair": ["1.jpg"]}),
    "no-image": (lambda masks: masks.photo(1).unlink(), {"missing-pair": ["1.png"]}),
    "no-png": (lambda masks: masks.mask(1).write_bytes(b"\x89PNG\r\n\x1a\n and no more"), {"unreadable-annotation": ["1.jpg"]}),
}


@pytest.mark.parametrize("fault", MASK_FAULTS)
def test_a_fault_in_masks_is_found_where_it_is_and_nothing_else(tmp_path, fault):
    spoil, expected = MASK_FAULTS[fault]
    masks = PlantedMasks(tmp_path)
    spoil(masks)
    assert found(examine(masks.write()), tmp_path) == expected


def test_clean_data_has_no_finding(tmp_path):
    assert examine(PlantedCoco(tmp_path / "coco").write()).findings == []
    assert examine(PlantedMasks(tmp_path / "masks").write()).findings == []


@pytest.mark.slow
def test_drawn_scenes_have_no_finding(tmp_path):
    assert examine(f"scenes:{write_scenes(tmp_path / 'scenes', num_train=40, num_val=20)}").findings == []


def test_a_rare_class_is_named(tmp_path):
    coco = PlantedCoco(tmp_path)
    first = coco.content["train"]["images"][0]
    for copy in range(21):  # photos of cans alone, and one melon
        pixels = np.random.default_rng(copy).integers(0, 255, (*SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(coco.photo(0).with_name(f"noise{copy}.jpg"))
        coco.content["train"]["images"].append(first | {"id": 100 + copy, "file_name": f"noise{copy}.jpg"})
        coco.add(100 + copy, outline(0))
    for content in coco.content.values():
        content["categories"].append({"id": 6, "name": "melon"})
    coco.annotations(1)[0]["category_id"] = 6
    (finding,) = examine(coco.write()).findings
    assert (finding.name, finding.what) == ("imbalance", "melon is in 1 photo(s) of train, can in 25")


def test_each_kind_of_finding_is_planted_in_some_test():
    planted = {name for faults in (COCO_FAULTS, MASK_FAULTS) for _, expected in faults.values() for name in expected}
    assert planted | {"imbalance"} == set(KINDS)
