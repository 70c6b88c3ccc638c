"""How well single objects are found: mask AP as COCO has it, panoptic quality, and how far counts are off.

Photos are added one by one, in any order and any grouping; the summary is the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval import mask as coco_mask

from models.instance_mask import InstanceMask
from models.instance_restore import restore_instances
from models.label_set import LabelSet
from models.objects import ObjectMap, find_objects
from models.prediction import Prediction
from models.restore import restore_class_map, restore_confidence
from models.run_lengths import coco_run_lengths

SURE = 0.3  # the least score of an object that is counted, and that counts in panoptic quality
INSTANCE_RULES = (
    f"mask AP as COCO's, over IoU 0.50 to 0.95, at most 100 objects of a class in a photo; panoptic quality and counts are of objects "
    f"with a score of {SURE} or more; the counting error is the mean over photos and the classes that are there or were found"
)


@dataclass
class InstanceEvaluation:
    """True and predicted objects of photos, by the photos' numbers."""

    label_set: LabelSet
    photos: dict[int, tuple[Sequence[InstanceMask], Sequence[InstanceMask]]] = field(default_factory=dict)

    def add(self, number: int, true: Sequence[InstanceMask], predicted: Sequence[InstanceMask]) -> None:
        """Adds the photo with this number, its masks at native resolution. Raises `ValueError` for a number that is there already."""
        if number in self.photos:
            raise ValueError(f"photo {number} was added already; give each photo a number of its own")
        self.photos[number] = (true, predicted)

    def update(self, other: InstanceEvaluation) -> None:
        """Adds the photos of another evaluation."""
        for number, (true, predicted) in other.photos.items():
            self.add(number, true, predicted)

    def summary(self) -> dict[str, float]:
        """The metrics by name; those that nothing was there to measure have no entry.

        ap, ap50 and ap/<class>: average precision of masks. pq, and pq/<class>: panoptic quality, the mean IoU of matches (sq) times
        their share among all (rq). counting_error: by how many objects of a class a photo's count is wrong.
        """
        photos = [self.photos[number] for number in sorted(self.photos)]
        metrics = _average_precision(photos, self.label_set) | _panoptic_quality(photos, self.label_set) | _counting_error(photos)
        return {name: float(value) for name, value in metrics.items() if not np.isnan(value)}


def masks_of_prediction(prediction: Prediction, label_set: LabelSet) -> list[InstanceMask]:
    """The objects of a prediction at the photo's own size, as a service answers with them."""
    class_map = restore_class_map(prediction)
    instances = prediction.instances
    if instances is not None:
        instances = restore_instances(prediction, class_map), instances.certainty
    return masks_of_objects(find_objects(class_map, restore_confidence(prediction), label_set, instances=instances))


def masks_of_answer(answer: Mapping[str, Any]) -> list[InstanceMask]:
    """The objects of a service's answer of the format `json`."""
    return [InstanceMask(each["class_index"], each["segmentation"], each["score"]) for each in answer["objects"]]


def masks_of_objects(found: ObjectMap) -> list[InstanceMask]:
    """The objects of a map, with their scores."""
    run_lengths = coco_run_lengths(found.region_map, len(found.objects))
    return [InstanceMask(each.class_index, code, each.score) for each, code in zip(found.objects, run_lengths)]


def _average_precision(photos: list, label_set: LabelSet) -> dict[str, float]:
    nothing = {"ap": np.nan, "ap50": np.nan}
    if not any(not each.is_crowd for true, _ in photos for each in true):
        return nothing
    truth = COCO(_as_coco(photos, label_set))
    found = [
        {"image_id": number, "category_id": each.class_index, "segmentation": each.run_lengths, "score": each.score}
        for number, (_, predicted) in enumerate(photos, 1)
        for each in predicted
    ]
    if not found:
        return {"ap": 0.0, "ap50": 0.0}
    evaluation = COCOeval_faster(truth, truth.loadRes(found), "segm", print_function=lambda *_: None)
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # IoU, recall, class; of all sizes, at most 100 objects
    precision = np.where(precision < 0, np.nan, precision)
    is_there = ~np.isnan(precision).all(axis=(0, 1))
    names = [label_set.names[index] for index in evaluation.params.catIds]
    by_class = {f"ap/{name}": np.nanmean(precision[:, :, k]) for k, name in enumerate(names) if is_there[k]}
    return {"ap": np.nanmean(precision), "ap50": np.nanmean(precision[0])} | by_class


def _as_coco(photos: list, label_set: LabelSet) -> dict:
    annotations = [
        {
            "image_id": number,
            "category_id": each.class_index,
            "segmentation": each.run_lengths,
            "area": float(coco_mask.area(each.run_lengths)),
            "bbox": coco_mask.toBbox(each.run_lengths).tolist(),
            "iscrowd": int(each.is_crowd),
        }
        for number, (true, _) in enumerate(photos, 1)
        for each in true
    ]
    sizes = [next((each.run_lengths["size"] for each in (*true, *predicted)), (1, 1)) for true, predicted in photos]
    return {
        "images": [{"id": number, "height": height, "width": width} for number, (height, width) in enumerate(sizes, 1)],
        "annotations": [{"id": number} | each for number, each in enumerate(annotations, 1)],
        "categories": [{"id": index, "name": label_set.names[index]} for index in label_set.foreground],
    }


def _panoptic_quality(photos: list, label_set: LabelSet) -> dict[str, float]:
    """Source: Kirillov et al., "Panoptic Segmentation", 2019, section 4.1; what mostly lies on a crowd of its class is not counted."""
    tp, fp, fn, iou = np.zeros((4, len(label_set)))
    for true, predicted in photos:
        for index in label_set.foreground:
            of_class = [each for each in true if each.class_index == index]
            sure = [each for each in predicted if each.class_index == index and each.score >= SURE]
            matched, num_missed, num_wrong = _match(of_class, sure)
            tp[index] += len(matched)
            iou[index] += sum(matched)
            fn[index] += num_missed
            fp[index] += num_wrong
    size = tp + (fp + fn) / 2
    chosen = [index for index in label_set.foreground if size[index] > 0]
    if not chosen:
        return {"pq": np.nan}
    pq, rq = iou[chosen] / size[chosen], tp[chosen] / size[chosen]
    sq = iou.sum() / tp.sum() if tp.sum() else np.nan
    by_class = {f"pq/{label_set.names[index]}": value for index, value in zip(chosen, pq)}
    return {"pq": pq.mean(), "sq": sq, "rq": rq.mean()} | by_class


def _match(true: list[InstanceMask], predicted: list[InstanceMask]) -> tuple[list[float], int, int]:
    """The IoU of each pair of more than 0.5, best first, one partner each; how many true ones have none; how many predicted ones."""
    single = [each for each in true if not each.is_crowd]
    crowds = [each for each in true if each.is_crowd]
    overlap = _iou(predicted, single)
    matched, used = [], set()
    for place in np.argsort(-overlap, axis=None, kind="stable"):
        row, column = np.unravel_index(place, overlap.shape)
        if overlap[row, column] <= 0.5:
            break
        if ("p", row) in used or ("t", column) in used:
            continue
        used |= {("p", row), ("t", column)}
        matched.append(float(overlap[row, column]))
    on_crowd = _iou(predicted, crowds).max(axis=1, initial=0) > 0.5
    num_wrong = sum(("p", row) not in used and not on_crowd[row] for row in range(len(predicted)))
    return matched, len(single) - len(matched), num_wrong


def _iou(predicted: list[InstanceMask], true: list[InstanceMask]) -> np.ndarray:
    """(P, T) float64; of crowds the share of the predicted mask that lies on them."""
    if not predicted or not true:
        return np.zeros((len(predicted), len(true)))
    codes = [[each.run_lengths for each in masks] for masks in (predicted, true)]
    return np.asarray(coco_mask.iou(*codes, [each.is_crowd for each in true]))


def _counting_error(photos: list) -> dict[str, float]:
    errors = []
    for true, predicted in photos:
        uncountable = {each.class_index for each in true if each.is_crowd}
        there, found = (
            Counter(each.class_index for each in masks if each.score >= SURE and each.class_index not in uncountable)
            for masks in (true, predicted)
        )
        errors += [abs(there[index] - found[index]) for index in there.keys() | found.keys()]
    return {"counting_error": np.mean(errors) if errors else np.nan}
