"""What a network without a mistake would reach on single objects: with an instance head, and with connected regions instead.

python -m benchmarks.instances --data coco:PATH

The rest of the way to 1 is lost to the model's cells, to the decoder, and to objects that hide each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
import tyro
from tqdm import tqdm

from models.fit import content_of
from models.instance_metrics import INSTANCE_RULES, InstanceEvaluation, masks_of_prediction
from models.instance_targets import instance_targets
from models.label_set import IGNORE_INDEX, LabelSet
from models.prediction import Prediction, interpret
from models.spec import Architecture, SegmenterSpec
from pipelines.data.records import InvalidData
from pipelines.data.sources import read_data
from pipelines.dataset import Pixels, fit_record
from pipelines.object_evaluation import marks_objects

_SHOWN = ("ap", "ap50", "pq", "counting_error")


@dataclass(frozen=True)
class Options:
    """What to measure on."""

    data: str = "scenes"
    """coco:PATH or scenes."""
    split: str = "val"
    input_sizes: tuple[int, ...] = (192, 256, 384)
    """Height and width of the model's input."""


def main(options: Options) -> None:
    """Prints the table."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    data = read_data(options.data)
    records = data.splits[options.split]
    if not marks_objects(records):
        raise InvalidData(f"{options.data} marks no single objects; give COCO instances")
    print(f"{options.data}, {options.split}: {len(records)} photos\n{'input':<7}{'objects from':<19}" + "".join(f"{n:>16}" for n in _SHOWN))
    for side in options.input_sizes:
        spec = SegmenterSpec(Architecture(instances=True), data.label_set, (side, side))
        of_head, of_regions = InstanceEvaluation(data.label_set), InstanceEvaluation(data.label_set)
        for number, record in enumerate(tqdm(records, desc=str(side), unit="image", leave=False, disable=None)):
            image, class_map = record.read()
            prediction = perfect_prediction(fit_record(record, spec), class_map.shape, data.label_set)
            true = record.annotation.instances(image)
            of_head.add(number, true, masks_of_prediction(prediction, data.label_set))
            of_regions.add(number, true, masks_of_prediction(replace(prediction, instances=None), data.label_set))
        for name, evaluation in (("instance head", of_head), ("connected regions", of_regions)):
            metrics = evaluation.summary()
            print(f"{side:<7}{name:<19}" + "".join(f"{metrics[name]:>16.4f}" for name in _SHOWN))
    print(f"({INSTANCE_RULES})")


def perfect_prediction(pixels: Pixels, original_size: tuple[int, int], label_set: LabelSet) -> Prediction:
    """What is made of outputs that are the truth at the model's input size; what nobody says is background."""
    content = content_of(original_size, pixels.mask.shape, "letterbox").slices
    mask, instance_map = pixels.mask[content], pixels.instance_map[content]
    class_map = np.where(mask == IGNORE_INDEX, np.uint8(label_set.background or 0), mask)
    probabilities = (np.arange(len(label_set))[:, None, None] == class_map).astype(np.float16)
    targets = instance_targets(torch.from_numpy(instance_map.astype(np.int64))[None])
    head = torch.cat([targets.centre, targets.offsets[0]]).numpy().astype(np.float16)
    certain = np.full(class_map.shape, 255, np.uint8)
    return interpret(np.concatenate([probabilities, head]), class_map, certain, label_set, original_size)


if __name__ == "__main__":
    main(tyro.cli(Options))
