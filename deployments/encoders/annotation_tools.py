"""Answers that annotation tools open: LabelMe, Label Studio, CVAT. Each holds exact masks rather than polygons, for their holes."""

from __future__ import annotations

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from deployments.encoders.content import Selection
from deployments.encoders.listings import dump_json
from deployments.problems import InvalidRequest
from models.run_lengths import count_runs, find_runs

_LABELME_VERSION = "5.5.0"  # the first releases that know masks are older
_RUN_BITS = np.array([3, 4, 8, 16])  # what a run's length is written in, the first that holds it
_LONGEST_RUN = 2**16
_MAX_PIXELS = 2**30  # LabelMe's boxes together; overlapping ones could be many times the photo
_MAX_RUN_PIXELS = 2**35  # Label Studio's masks together, each as large as the photo
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def encode_labelme(selection: Selection) -> bytes:
    """Shapes of the type "mask": a PNG within a box whose corners are its first and last pixel."""
    found = selection.found
    _check(sum(width * height for _, _, width, height in (each.box for each in found.objects)), _MAX_PIXELS)
    shapes = []
    for number, each in enumerate(found.objects, 1):
        x, y, width, height = each.box
        shapes.append(
            {
                "label": selection.label(each).name,
                "points": [[x, y], [x + width - 1, y + height - 1]],
                "group_id": None,
                "description": f"score {each.score}",
                "shape_type": "mask",
                "flags": {},
                "mask": _png_base64(found.region_map[each.slices] == number),
            }
        )
    height, width = found.class_map.shape
    return dump_json(
        {
            "version": _LABELME_VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": selection.query.name,
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
    )


def encode_label_studio(selection: Selection) -> bytes:
    """One task with one prediction, for the tags of Label Studio's template for masks: an image `image`, brush labels `tag`."""
    found = selection.found
    _check(len(found.objects) * found.class_map.size, _MAX_RUN_PIXELS)
    height, width = found.class_map.shape
    results = [
        {
            "id": str(number),
            "type": "brushlabels",
            "from_name": "tag",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": each.score,
            "value": {"format": "rle", "rle": list(brush_run_lengths(runs, height * width)), "brushlabels": [selection.label(each).name]},
        }
        for number, (each, runs) in enumerate(zip(found.objects, find_runs(found.region_map, len(found.objects))), 1)
    ]
    prediction = {"model_version": selection.content.model_version, "result": results}
    return dump_json([{"data": {"image": selection.query.name}, "predictions": [prediction]}])


def brush_run_lengths(runs: np.ndarray, num_pixels: int) -> bytes:
    """Label Studio's run lengths of a mask as an RGBA picture of 0 and 255; `runs` (n, 2) as `find_runs` gives them.

    After a head of the number of bytes and the widths in use, each run is a 1, the number of its width (2 bits), its length less 1
    in that width, and its value (8 bits). Source: thi.ng/umbrella, packages/rle-pack.
    """
    lengths = 4 * np.array(count_runs(runs, num_pixels))
    num_pieces = np.maximum(-(-lengths // _LONGEST_RUN), 1)
    values = np.repeat(255 * (np.arange(len(lengths)) % 2), num_pieces)
    pieces = np.full(len(values), _LONGEST_RUN)
    pieces[np.cumsum(num_pieces) - 1] = lengths - (num_pieces - 1) * _LONGEST_RUN
    values, pieces = values[pieces > 0], pieces[pieces > 0]
    kind = np.searchsorted(2**_RUN_BITS, pieces)
    width = _RUN_BITS[kind]
    words = (((4 | kind) << width | (pieces - 1)) << 8) | values
    head = np.array([4 * num_pixels, 7, *(_RUN_BITS - 1)])
    return _pack(np.concatenate([head, words]), np.concatenate([[32, 5, 4, 4, 4, 4], width + 11]))


def encode_cvat(selection: Selection) -> bytes:
    """CVAT for images 1.1: run lengths along the rows of each object's box, background first."""
    found = selection.found
    height, width = found.class_map.shape
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    labels = ElementTree.SubElement(ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task"), "labels")
    for label in selection.content.label_set.labels:
        ElementTree.SubElement(ElementTree.SubElement(labels, "label"), "name").text = _xml(label.name)
    image = ElementTree.SubElement(
        root, "image", {"id": "0", "name": _xml(selection.query.name), "width": str(width), "height": str(height)}
    )
    apart = np.pad(found.region_map, ((0, 0), (0, 1)))  # so that no run goes on in the next row
    for each, runs in zip(found.objects, find_runs(apart, len(found.objects))):
        x, y, box_width, box_height = each.box
        in_box = runs - (width + 1) * y - x
        in_box -= (in_box[:, :1] // (width + 1)) * (width + 1 - box_width)
        counts = ", ".join(map(str, count_runs(in_box, box_width * box_height)))
        attributes = {"label": _xml(selection.label(each).name), "source": "auto", "occluded": "0", "rle": counts}
        sizes = {"left": x, "top": y, "width": box_width, "height": box_height, "z_order": 0}
        ElementTree.SubElement(image, "mask", attributes | {key: str(value) for key, value in sizes.items()})
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _check(num_pixels: int, limit: int) -> None:
    if num_pixels > limit:
        rule = "narrow the answer by classes or min_score, or ask for another format"
        raise InvalidRequest(f"the objects' masks have {num_pixels} pixels together, this format's limit is {limit}; {rule}")


def _png_base64(mask: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG", compress_level=3)
    return base64.b64encode(file.getvalue()).decode()


def _pack(words: np.ndarray, widths: np.ndarray) -> bytes:
    """The lowest `widths` (n,) bits of `words` (n,), at most 32 each, one behind the other, the highest first, 0 at the end."""
    bits = np.unpackbits(words.astype(">u4")[:, None].view(np.uint8), axis=1)
    return np.packbits(bits[np.arange(31, -1, -1) < widths[:, None]]).tobytes()


def _xml(text: str) -> str:
    """`text` with what XML cannot hold replaced."""
    return _NOT_XML.sub("\ufffd", text)
