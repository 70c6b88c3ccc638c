import numpy as np
import torch

from models.instance_decoder import decode_instances
from models.instance_targets import instance_targets
from models.label_set import LabelSet

LABELS = LabelSet.from_names(["background", "can", "box"])


def perfect_head(instance_map: np.ndarray) -> np.ndarray:
    """What a head that makes no mistake says, (3, H, W) float16."""
    targets = instance_targets(torch.from_numpy(instance_map.astype(np.int64))[None])
    return torch.cat([targets.centre, targets.offsets[0]]).numpy().astype(np.float16)


def two_touching_cans() -> np.ndarray:
    instance_map = np.zeros((32, 48), np.uint8)
    instance_map[8:24, 8:20], instance_map[8:24, 20:36] = 1, 2
    return instance_map


def same_partition(one: np.ndarray, other: np.ndarray) -> bool:
    return len(np.unique(np.stack([one.ravel(), other.ravel()]), axis=1).T) == len(np.unique(one)) == len(np.unique(other))


def test_two_touching_cans_are_two():
    truth = two_touching_cans()
    instances = decode_instances((truth > 0).astype(np.uint8), perfect_head(truth), LABELS)
    assert same_partition(instances.instance_map, truth) and len(instances.certainty) == 2
    assert (instances.certainty > 0.9).all()


def test_many_objects_of_all_sizes_come_back_as_they_were():
    truth = np.zeros((128, 128), np.uint8)
    for number, (y, x) in enumerate(np.ndindex(8, 8), 1):
        truth[16 * y + 1 : 16 * y + 16, 16 * x : 16 * x + 16] = number  # touching sideways
    instances = decode_instances((truth > 0).astype(np.uint8) + (truth > 32), perfect_head(truth), LABELS)
    assert same_partition(instances.instance_map, truth)


def test_classes_stay_as_they_are_and_a_mixed_peak_is_an_object_of_each_with_its_share_of_the_certainty():
    truth = np.zeros((32, 32), np.uint8)
    truth[8:24, 8:24] = 1
    class_map = truth.copy()
    class_map[8:12, 8:24] = 2  # a quarter of the can looks like a box
    instances = decode_instances(class_map, perfect_head(truth), LABELS)
    assert same_partition(instances.instance_map, class_map)
    of_can, of_box = (instances.certainty[instances.instance_map[at] - 1] for at in ((20, 20), (8, 8)))
    assert of_can / of_box == 3


def test_without_a_peak_objects_are_connected_regions_and_hardly_certain():
    class_map = np.array([[1, 1, 0, 2], [0, 0, 0, 0], [1, 0, 1, 0]], np.uint8)
    instances = decode_instances(class_map, np.full((3, 3, 4), 0.05, np.float16), LABELS)
    assert instances.instance_map.tolist() == [[1, 1, 0, 4], [0, 0, 0, 0], [2, 0, 3, 0]]
    assert np.allclose(instances.certainty, 0.05, atol=1e-3)


def test_what_leads_far_from_every_peak_is_an_object_of_its_own():
    truth = np.zeros((16, 128), np.uint8)
    truth[4:12, 4:12] = 1
    head, class_map = perfect_head(truth), (truth > 0).astype(np.uint8)
    class_map[4:12, 100:108] = 1  # a second can without centre or offsets
    instances = decode_instances(class_map, head, LABELS)
    assert len(instances.certainty) == 2 and instances.certainty.min() == 0
    assert len(np.unique(instances.instance_map[:, 100:108])) == 2


def test_equal_neighbouring_peaks_are_one():
    head, class_map = np.zeros((3, 9, 9), np.float16), np.zeros((9, 9), np.uint8)
    head[0, 4, 4:6] = 0.5
    class_map[4, 3:7] = 1
    assert decode_instances(class_map, head, LABELS).certainty == [0.5]


def test_offsets_out_of_the_frame_or_beyond_all_measure_do_no_harm():
    head = np.full((3, 8, 8), np.float16(60000))
    instances = decode_instances(np.ones((8, 8), np.uint8), head, LABELS)
    assert (instances.instance_map == 1).all() and instances.certainty.tolist() == [1]


def test_background_alone_has_no_objects_and_without_a_background_all_is_some_object():
    nothing = np.zeros((4, 4), np.uint8)
    head = np.zeros((3, 4, 4), np.float16)
    assert not decode_instances(nothing, head, LABELS).instance_map.any()
    assert decode_instances(nothing, head, LabelSet.from_names(["can", "box"])).instance_map.tolist() == [[1] * 4] * 4
