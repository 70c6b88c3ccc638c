"""The forms of an answer: one table of names and media types, and the choice among them. `encoders.py` writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from deployments.problems import InvalidRequest, NotAcceptable


@dataclass(frozen=True)
class Format:
    """One form of the answer. It travels between deployments by itself, so it holds no function."""

    name: str
    media_type: str
    summary: str
    needs_photo: bool = False
    negotiable: bool = True
    """Whether an Accept header can ask for it; else only `?format=` does."""
    for_people: bool = False
    """A header that also takes anything, as browsers' do, does not ask for it."""


_TINTED = "The photo with classes tinted, outlined and named"
_JSON, _PNG, _JPEG, _WEBP = "application/json", "image/png", "image/jpeg", "image/webp"

JSON = Format("json", _JSON, "Objects with class, score, box, area and COCO RLE, and each class's share of the pixels.")
PNG = Format("png", _PNG, "Index PNG: a pixel's value is the class's index, the palette shows the classes' colours.")
OVERLAY = Format("overlay", _PNG, f"{_TINTED}.", needs_photo=True, negotiable=False)
OVERLAY_JPEG = Format("overlay_jpeg", _JPEG, f"{_TINTED}, as JPEG.", needs_photo=True, for_people=True)
OVERLAY_WEBP = Format("overlay_webp", _WEBP, f"{_TINTED}, as WebP.", needs_photo=True, for_people=True)
POLYGONS = Format("polygons", _JSON, "As json, but with polygons along the edges of pixels, holes included.", negotiable=False)
GEOJSON = Format("geojson", "application/geo+json", "GeoJSON features whose coordinates are pixels: x to the right, y down.")
LABELME = Format("labelme", _JSON, "LabelMe's JSON with exact masks; `name` is the photo's file name beside it.", negotiable=False)
LABEL_STUDIO = Format("label_studio", _JSON, "Label Studio task with brush masks; `name` is the photo's address.", negotiable=False)
CVAT = Format("cvat", "application/xml", "CVAT for images 1.1 with exact masks; `name` is the photo's name in CVAT.", negotiable=False)
CONFIDENCE = Format("confidence", _PNG, "Grey PNG: the winner's probability times 255, 0 where it was left out.", negotiable=False)
NPY = Format("npy", "application/x-npy", "NumPy file: the class indices, uint8 (height, width).")
_QUALITY = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")
# In the order of preference where the caller has none.
FORMATS = (JSON, PNG, OVERLAY, OVERLAY_JPEG, OVERLAY_WEBP, POLYGONS, GEOJSON, LABELME, LABEL_STUDIO, CVAT, CONFIDENCE, NPY)


def choose_format(name: str | None, accept: str | None) -> Format:
    """The format of `?format=`, else the one that the Accept header prefers. Raises `InvalidRequest`, `NotAcceptable`."""
    if name is not None:
        chosen = next((each for each in FORMATS if each.name == name), None)
        if chosen is None:
            raise InvalidRequest(f"format {name[:40]!r} is not known; use one of {', '.join(each.name for each in FORMATS)}")
        return chosen
    ranges = _media_ranges(accept or "*/*")
    candidates = [each for each in FORMATS if each.negotiable and not (each.for_people and "*/*" in ranges)]
    quality = {each.name: _quality(each.media_type, ranges) for each in candidates}
    best = max(candidates, key=lambda each: quality[each.name])
    if quality[best.name] <= 0:
        known = ", ".join(each.media_type for each in candidates)
        raise NotAcceptable(f"no answer can be {(accept or '')[:80]!r}; accept one of {known}, or ask with ?format=")
    return best


def _media_ranges(accept: str) -> dict[str, float]:
    """Each media range of an Accept header with its quality; what cannot be read counts as not acceptable."""
    ranges = {}
    for part in accept.split(","):
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
        ranges[media_range] = float(quality) if _QUALITY.fullmatch(quality) else 0.0
    return ranges


def _quality(media_type: str, ranges: dict[str, float]) -> float:
    """That of the most specific range that covers `media_type`; 0 where none does."""
    general = media_type.split("/")[0] + "/*"
    return next((ranges[each] for each in (media_type, general, "*/*") if each in ranges), 0.0)
