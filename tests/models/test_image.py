import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from models.image import ImageLimits, ImageTooLarge, InvalidImage, as_image, decode_image, num_pixels, orient, stored_and_upright_size


def encoded(image: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


QUADRANTS = np.kron(np.array([[0, 80], [160, 240]], np.uint8), np.ones((8, 16), np.uint8))


@pytest.mark.parametrize(
    ("orientation", "corners"),
    [
        (1, [[0, 80], [160, 240]]),
        (2, [[80, 0], [240, 160]]),
        (3, [[240, 160], [80, 0]]),
        (4, [[160, 240], [0, 80]]),
        (5, [[0, 160], [80, 240]]),
        (6, [[160, 0], [240, 80]]),
        (7, [[240, 80], [160, 0]]),
        (8, [[80, 240], [0, 160]]),
    ],
)
def test_every_exif_orientation_comes_out_upright(orientation, corners):
    for format in ("PNG", "JPEG"):  # these pixels survive JPEG
        data = encoded(Image.fromarray(QUADRANTS).convert("RGB"), format, exif=exif(orientation), quality=100)
        upright = decode_image(data)[..., 0]
        h, w = upright.shape
        assert upright[:: h - 1, :: w - 1].tolist() == corners
        assert (orient(QUADRANTS, data) == upright).all()
        assert stored_and_upright_size(data) == (QUADRANTS.shape, upright.shape)


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


SMOOTH = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)).resize((61, 45))


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}, {"exif": exif(6)}], ids=lambda each: "".join(each)
)
def test_a_jpeg_has_the_pixels_that_pillow_reads(subsampling, options):
    for quality in (30, 75, 95):
        data = encoded(SMOOTH, "JPEG", subsampling=subsampling, quality=quality, **options)
        assert (decode_image(data) == by_pillow(data)).all()


def test_a_grey_jpeg_an_rgb_jpeg_and_two_pictures_have_the_pixels_that_pillow_reads():
    for data in (
        encoded(SMOOTH.convert("L"), "JPEG"),
        encoded(SMOOTH, "JPEG", keep_rgb=True),
        encoded(SMOOTH, "MPO", save_all=True, append_images=[SMOOTH.rotate(180)]),
    ):
        assert (decode_image(data) == by_pillow(data)).all()


def test_a_damaged_jpeg_is_read_or_refused_as_by_pillow():
    random = np.random.default_rng(0)
    whole = encoded(SMOOTH, "JPEG", restart_marker_blocks=2)
    for _ in range(300):
        data = bytearray(whole)
        data[random.integers(2, len(data))] = random.integers(256)
        try:
            expected = by_pillow(bytes(data))
        except Exception:
            with pytest.raises(InvalidImage):
                decode_image(bytes(data))
        else:
            assert (decode_image(bytes(data)) == expected).all()


def test_real_photos_have_the_pixels_that_pillow_reads(real_data):
    photos = [*real_data.glob("photos/*.jpg"), *sorted(real_data.glob("oxford_pets/images/*.jpg"))[:100]]
    photos += sorted(real_data.glob("grocery24/images/train/*.jpg"))[:100]
    assert len(photos) > 200
    for photo in photos:
        data = photo.read_bytes()
        assert (decode_image(data) == by_pillow(data)).all(), photo


@pytest.mark.parametrize(
    ("mode", "color", "rgb"),
    [
        ("L", 100, (100, 100, 100)),
        ("LA", (100, 0), (255, 255, 255)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("1", 1, (255, 255, 255)),
        ("I;16", 0x8040, (128, 128, 128)),
    ],
)
def test_every_pixel_mode_becomes_what_a_person_sees(mode, color, rgb):
    assert tuple(decode_image(encoded(Image.new(mode, (3, 2), color), "PNG"))[0, 0]) == rgb


def test_cmyk_palette_webp_and_two_picture_jpegs_are_read():
    red = Image.new("RGB", (16, 8), (250, 10, 10))
    files = [
        encoded(red.convert("CMYK"), "JPEG"),
        encoded(red.quantize(2), "GIF"),
        encoded(red, "WEBP", lossless=True),
        encoded(red, "MPO", save_all=True, append_images=[red]),
        encoded(red, "BMP"),
    ]
    for data in files:
        image = decode_image(data)
        assert image.shape == (8, 16, 3)
        assert np.abs(image.astype(int) - (250, 10, 10)).max() < 8


def test_a_picture_of_a_billion_pixels_is_refused_by_its_header():
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10_000)))
    with pytest.raises(ImageTooLarge, match="50000 x 50000|more than"):
        decode_image(bomb)


def test_limits_hold_at_their_value_and_not_beyond():
    data = encoded(Image.new("RGB", (10, 10)), "PNG")
    assert decode_image(data, ImageLimits(max_bytes=len(data), max_pixels=100)).shape == (10, 10, 3)
    with pytest.raises(ImageTooLarge, match="bytes"):
        decode_image(data, ImageLimits(max_bytes=len(data) - 1))
    with pytest.raises(ImageTooLarge, match="10 x 10"):
        decode_image(data, ImageLimits(max_pixels=99))


def test_a_file_cut_at_any_tenth_is_invalid_and_nothing_else():
    random = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for format in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
        data = encoded(Image.fromarray(random), format)
        for tenth in range(10):
            with pytest.raises(InvalidImage):
                decode_image(data[: len(data) * tenth // 10])


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"<svg/>", b"%!PS-Adobe-3.0 EPSF-3.0", bytes(1000)])
def test_what_is_no_image_is_invalid(data):
    with pytest.raises(InvalidImage):
        decode_image(data)


def test_a_decoded_picture_is_taken_as_it_is_within_the_limits():
    pixels = np.zeros((10, 20, 3), np.uint8)
    assert as_image(pixels, ImageLimits(max_pixels=200)) is pixels
    with pytest.raises(ImageTooLarge, match="20 x 10"):
        as_image(pixels, ImageLimits(max_pixels=199))
    np.testing.assert_array_equal(as_image(encoded(Image.fromarray(pixels), "PNG")), pixels)


def test_the_number_of_pixels_is_in_the_header():
    data = encoded(Image.new("RGB", (10, 20)), "PNG")
    assert num_pixels(data[:60]) == 200
    with pytest.raises(ImageTooLarge):
        num_pixels(data, ImageLimits(max_pixels=199))
