"""What readers say of single objects."""

import io

from faster_coco_eval import mask as coco_mask
from PIL import Image

from pipelines.data.coco import CocoAnnotation, CocoObject
from pipelines.data.mask_files import MaskFile
from pipelines.data.scenes import draw_scene, write_scenes
from pipelines.data.sources import read_data


def square(x, y, side):
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def photo(width, height, orientation=1):
    file, tags = io.BytesIO(), Image.Exif()
    tags[0x0112] = orientation
    Image.new("RGB", (width, height)).save(file, "JPEG", exif=tags)
    return file.getvalue()


def test_an_object_on_another_hides_it_in_the_map_and_leaves_it_whole_in_the_list():
    large, small = CocoObject(1, square(0, 0, 6), False), CocoObject(1, square(4, 0, 4), False)
    annotation = CocoAnnotation((small, large), background=0, size=(6, 8))
    assert annotation.instance_map(photo(8, 6))[0].tolist() == [2, 2, 2, 2, 1, 1, 1, 1]
    of_small, of_large = annotation.instances(photo(8, 6))
    assert coco_mask.area(of_small.run_lengths) == 16 and coco_mask.area(of_large.run_lengths) == 36


def test_a_crowd_is_no_single_object():
    annotation = CocoAnnotation((CocoObject(1, square(0, 0, 4), True), CocoObject(1, square(4, 0, 2), False)), 0, (4, 8))
    assert annotation.instance_map(photo(8, 4))[0].tolist() == [0, 0, 0, 0, 2, 2, 0, 0]
    assert [each.is_crowd for each in annotation.instances(photo(8, 4))] == [True, False]


def test_objects_turn_with_the_photo():
    annotation = CocoAnnotation((CocoObject(1, square(0, 0, 4), False),), 0, size=(10, 20))  # stored; shown 10 x 20 after a quarter turn
    turned = annotation.instance_map(photo(20, 10, orientation=6))
    assert turned.shape == (20, 10) and turned[:4, 6:].all() and turned.sum() == 16
    (only,) = annotation.instances(photo(20, 10, orientation=6))
    assert (coco_mask.decode(only.run_lengths) == turned).all()


def test_the_objects_of_a_drawn_scene_are_read_as_they_were_drawn(tmp_path):
    data = read_data(f"coco:{write_scenes(tmp_path / 'scenes', num_train=1, num_val=1, size=(96, 128))}")
    annotation = data.splits["train"][0].annotation
    assert (annotation.instance_map(data.splits["train"][0].read()[0]) == draw_scene(0, (96, 128)).instance_mask).all()


def test_a_mask_file_does_not_tell_objects_apart(tmp_path):
    annotation = MaskFile(tmp_path / "mask.png", 2)
    assert annotation.instance_map(photo(4, 4)) is None and annotation.instances(photo(4, 4)) is None
