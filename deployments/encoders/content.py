"""What an answer is made of, and what of it the caller wants."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from deployments.query import Query
from models.instance_restore import restore_instances
from models.label_set import Label, LabelSet
from models.objects import ObjectMap, SegmentedObject, find_objects, keep_classes
from models.prediction import Prediction
from models.restore import restore_confidence


@dataclass(frozen=True)
class Content:
    """All that is known of an image. Shapes: class_map (h, w) uint8; photo (h, w, 3) uint8 RGB, None where none is drawn on."""

    class_map: np.ndarray
    prediction: Prediction
    label_set: LabelSet
    model_version: str
    photo: np.ndarray | None


@dataclass(frozen=True)
class Selection:
    """What the query keeps of the content, the same for all formats; each part is made when first asked for."""

    query: Query
    content: Content

    @cached_property
    def class_map(self) -> np.ndarray:
        """(h, w) uint8; pixels that the caller does not want are background, or `IGNORE_INDEX` where no class is background."""
        return self.found.class_map if self.query.min_score > 0 else self._of_classes

    @cached_property
    def found(self) -> ObjectMap:
        content = self.content
        instances = content.prediction.instances
        if instances is not None:
            instances = restore_instances(content.prediction, content.class_map), instances.certainty
        return find_objects(self._of_classes, self._winners, content.label_set, min_score=self.query.min_score, instances=instances)

    @cached_property
    def confidence(self) -> np.ndarray:
        """The winner's probability times 255, (h, w) uint8; 0 where the winner was left out."""
        return np.where(self.class_map == self.content.class_map, self._winners, np.uint8(0))

    def label(self, each: SegmentedObject) -> Label:
        return self.content.label_set.labels[each.class_index]

    @cached_property
    def _winners(self) -> np.ndarray:
        return restore_confidence(self.content.prediction)

    @cached_property
    def _of_classes(self) -> np.ndarray:
        content, classes = self.content, self.query.classes
        return content.class_map if classes is None else keep_classes(content.class_map, classes, content.label_set)
