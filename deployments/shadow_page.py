"""The page that shows where a challenger and the champion disagree."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import cv2
import numpy as np
from PIL import Image

from models.label_set import LabelSet
from models.overlay import draw_overlay

if TYPE_CHECKING:
    from deployments.shadow import Comparison

_LONGEST_SIDE = 480
_STYLE = "body{font:15px sans-serif;margin:2em}td,th{padding:.2em .8em;text-align:left}img{margin:.2em}"


@dataclass(frozen=True)
class Disagreement:
    """A photo on which the two differ: the share of pixels with the same class, and the two overlays side by side as JPEG."""

    agreement: float
    overlays: bytes

    @classmethod
    def of(cls, agreement: float, photo: np.ndarray, champion: np.ndarray, challenger: np.ndarray, label_set: LabelSet) -> Self:
        """Shapes: photo (h, w, 3) uint8 RGB; both masks (h, w) uint8."""
        scale = min(1, _LONGEST_SIDE / max(photo.shape[:2]))
        size = tuple(max(1, round(side * scale)) for side in photo.shape[1::-1])
        small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
        masks = [cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) for mask in (champion, challenger)]
        file = io.BytesIO()
        Image.fromarray(np.hstack([draw_overlay(small, mask, label_set) for mask in masks])).save(file, "JPEG", quality=85)
        return cls(agreement, file.getvalue())


def page(challenger: str, champion: str, comparison: Comparison) -> str:
    """HTML with no other files: the IoU of each class between the two, and the photos on which they differ most."""
    damaged = comparison.damaged
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{iou:.3f}</td><td>{'far below the others' if name in damaged else ''}</td></tr>"
        for name, iou in sorted(comparison.iou.items(), key=lambda each: each[1])
    )
    pictures = "".join(
        f'<p>{each.agreement:.1%} of the pixels agree<br><img src="data:image/jpeg;base64,{base64.b64encode(each.overlays).decode()}"></p>'
        for each in comparison.worst
    )
    kept = pictures or "<p>No photos are kept; shadow_pictures=true keeps the worst few.</p>"
    title = f"{html.escape(challenger)} against {html.escape(champion)}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>'
        f"<p>{comparison.num_photos} live photos, answered by {html.escape(champion)}. IoU is between the two, not with the truth.</p>"
        f"<table><tr><th>class</th><th>IoU</th><th></th></tr>{rows}</table><h2>Where they differ most</h2>"
        f"<p>Left {html.escape(champion)}, right {html.escape(challenger)}.</p>{kept}</html>"
    )
