"""The page's own components, which run in the browser: the viewer of one photo, the strip of several."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import streamlit as st

from deployments.page_parts.photos import Photo, thumbnail

_FOLDER = Path(__file__).parent
# Less sure objects are mostly specks, and would spoil the counts; where objects are told apart, the score says how sure that is as well.
_LEAST_SCORE, _LEAST_SCORE_OF_INSTANCES = 0.5, 0.3
_QUALITY = 88  # of the JPEG that the browser gets; downloads are made from the photo itself


def _component(name: str, *scripts: str) -> Callable:
    html, css, *js = ((_FOLDER / file).read_text() for file in (f"{name}.html", f"{name}.css", *scripts, f"{name}.js"))
    return st.components.v2.component(f"maskworks_{name}", html=html, css=css, js="\n".join(js))


_viewer = _component("viewer", "regions.js", "layers.js")
_strip = _component("strip")


def show_photo(photo: Photo, model: dict, words: str | None, on_confidence: Callable[[], None]) -> None:
    """The decoded photo, with the answer where there is one, else with `words` over it. Asks for the confidence when it is to be shown."""
    height, width = photo.preview.shape[:2]
    nothing = f"No objects found. The model knows: {', '.join(things_of(model))}."
    data = {
        "id": f"{photo.source.id} {photo.answer and photo.answer['model_version']}",
        "name": photo.source.name,
        "width": width,
        "height": height,
        "photo": _data_url(photo.preview),
        "heat": None if photo.confidence is None else _data_url(_heat(photo.confidence)),
        "answer": photo.answer,
        "labels": model["labels"],
        "background": model["background"],
        "least_score": least_score(model),
        "words": words,
        "none": nothing if photo.answer and not photo.answer["objects"] else None,
    }
    _viewer(key="viewer", data=data, on_confidence_change=on_confidence, on_least_score_change=lambda: None)


def things_of(model: dict) -> list[str]:
    """The names of the classes but the background."""
    return [each["name"] for each in model["labels"] if each["index"] != model["background"]]


def least_score(model: dict) -> float:
    """How sure objects must be to be shown and counted, as the visitor chose in the viewer; from 0 to 1."""
    chosen = st.session_state.get("viewer", {}).get("least_score")
    if chosen is not None:
        return chosen
    return _LEAST_SCORE_OF_INSTANCES if model.get("instances") else _LEAST_SCORE


def choose_photo(photos: dict[str, Photo], words: Callable[[Photo], str]) -> Photo:
    """The photo that the visitor chose in the strip of all, the first where none was chosen."""
    chosen = st.session_state.get("strip", {}).get("chosen")
    chosen = chosen if chosen in photos else next(iter(photos))
    entries = [
        {
            "id": each.source.id,
            "name": each.source.name,
            "words": words(each),
            "thumbnail": None if each.preview is None else _data_url(thumbnail(each)),
        }
        for each in photos.values()
    ]
    _strip(key="strip", data={"photos": entries, "chosen": chosen}, on_chosen_change=lambda: None)
    return photos[chosen]


def _data_url(pixels: np.ndarray) -> str:
    """A JPEG of `pixels` (h, w, 3) uint8 RGB inside an address, so that no server has to hand it out."""
    jpeg = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))[1]
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def _heat(confidence: np.ndarray) -> np.ndarray:
    """Viridis: brighter is surer, for colour-blind people too."""
    return cv2.cvtColor(cv2.applyColorMap(confidence, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
