"""Files that are only rare: each is answered, with a mask of the size in which a person sees it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from models.image import decode_image
from tests.deployments.image_files import interlaced_png, saved
from tests.deployments.test_api import problem_of
from tests.deployments.test_hostile import mask_size, post


@pytest.mark.parametrize("answer_format", ["json", "png", "overlay"])
@pytest.mark.parametrize("size", [(1, 1), (1, 65_500), (65_500, 1), (1, 5000), (5000, 1), (2, 400_000)])
def test_one_pixel_and_very_long_images_are_answered(client, size, answer_format):
    image = Image.new("RGB", size[::-1], (200, 30, 30))
    for format in ("JPEG", "PNG") if max(size) <= 65_500 else ("PNG",):
        response = post(client, saved(image, format), answer_format)
        assert response.status_code == 200, response.text
        given = tuple(response.json()["size"]) if answer_format == "json" else mask_size(response)
        assert given == size


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_answered(client, pixels, format):
    frames = [Image.fromarray(pixels), Image.fromarray(255 - pixels), Image.fromarray(pixels[::-1])]
    options = {"lossless": True} if format == "WEBP" else {}
    moving, still = saved(frames[0], format, save_all=True, append_images=frames[1:], **options), saved(frames[0], format, **options)
    assert post(client, moving).content == post(client, still).content
    np.testing.assert_array_equal(decode_image(moving), decode_image(still))


def test_rare_kinds_of_jpeg(client, pixels):
    cmyk = saved(Image.fromarray(pixels).convert("CMYK"), "JPEG")
    adobe = cmyk.index(b"Adobe") + 11  # where its segment says how the four colours were turned; 2 is YCCK
    ycck = cmyk[:adobe] + b"\x02" + cmyk[adobe + 1 :]
    for data in (cmyk, ycck, saved(Image.fromarray(pixels).convert("L"), "JPEG"), saved(Image.fromarray(pixels), "MPO", save_all=True)):
        assert mask_size(post(client, data)) == (90, 120)
    frame = cmyk.index(b"\xff\xc0")
    arithmetic = cmyk[:frame] + b"\xff\xc9" + cmyk[frame + 2 :]
    lossless = cmyk[:frame] + b"\xff\xc3" + cmyk[frame + 2 :]
    twelve_bit = cmyk[: frame + 4] + b"\x0c" + cmyk[frame + 5 :]
    for data in (arithmetic, lossless, twelve_bit):
        response = post(client, data)
        assert response.status_code == 200 or problem_of(response) == "invalid-image"


def test_rare_kinds_of_png_show_what_the_common_kind_shows(pixels):
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    opaque = np.dstack([pixels, np.full(grey.shape, 255, np.uint8)])

    def sixteen_bit(array: np.ndarray) -> bytes:
        order = {2: None, 3: cv2.COLOR_RGB2BGR}.get(array.ndim if array.ndim == 2 or array.shape[2] == 3 else 4, cv2.COLOR_RGBA2BGRA)
        wide = array.astype(np.uint16) * 257
        return cv2.imencode(".png", wide if order is None else cv2.cvtColor(wide, order))[1].tobytes()

    three_grey = np.dstack([grey] * 3)
    for data, seen in (
        (sixteen_bit(grey), three_grey),
        (sixteen_bit(pixels), pixels),
        (sixteen_bit(opaque), pixels),
        (interlaced_png(pixels), pixels),
        (saved(Image.fromarray(grey > 127), "PNG"), 255 * (three_grey > 127).astype(np.uint8)),
    ):
        np.testing.assert_array_equal(decode_image(data), seen)


def test_a_transparent_palette_entry_is_white(client):
    image = Image.new("P", (4, 2), 1)
    image.putpalette([9, 9, 9, 250, 0, 0])
    image.putpixel((0, 0), 0)
    data = saved(image, "PNG", transparency=0)
    assert decode_image(data)[0, :2].tolist() == [[255, 255, 255], [250, 0, 0]]
    assert mask_size(post(client, data)) == (2, 4)


MODES = [("L", "JPEG"), ("RGB", "JPEG"), ("CMYK", "JPEG"), ("RGB", "WEBP"), ("RGBA", "WEBP")]
MODES += [(mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]


@pytest.mark.parametrize(("mode", "format"), MODES)
def test_the_mask_has_the_displayed_photos_size(client, mode, format):
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for h, w in ((30, 47), (1, 1), (1, 5000), (5000, 1)):
            data = saved(Image.new(mode, (w, h)), format, exif=exif)
            displayed = (h, w) if orientation < 5 else (w, h)
            assert decode_image(data).shape[:2] == displayed
            if h == 30 and orientation in (3, 6):
                assert mask_size(post(client, data)) == displayed
