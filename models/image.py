"""From an image file's bytes to the picture a person sees: upright RGB, with limits checked before pixels are decoded."""

from __future__ import annotations

import io
from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

# JPEG covers MPO, what many phones write as .jpg: the first of its two pictures is decoded.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_ORIENTATION = 0x0112  # EXIF tag
_QUARTER_TURNS = (5, 6, 7, 8)  # values of it that exchange width and height


class InvalidImage(ValueError):
    """Bytes that are no image, or not a whole one; the sender's fault."""


class ImageTooLarge(InvalidImage):
    """More bytes or pixels than the limits allow."""


@dataclass(frozen=True)
class ImageLimits:
    """What is refused before decoding."""

    max_bytes: int = 20 * 2**20
    max_pixels: int = 64_000_000  # 192 MB as RGB; phones take up to 50 megapixels


DEFAULT_LIMITS = ImageLimits()
NO_LIMITS = ImageLimits(max_bytes=2**62, max_pixels=2**62)  # for one's own files


def decode_image(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> np.ndarray:
    """The picture as a person sees it: (h, w, 3) uint8 RGB, EXIF orientation applied, alpha over white, first frame.

    Raises `ImageTooLarge` before any pixel is decoded, `InvalidImage` for all else that is wrong with `data`.
    """
    image = _open(data, limits)
    try:
        pixels = _decode_flawless_jpeg(image, data)
        if pixels is None:
            image.load()
            pixels = np.asarray(_to_rgb(image))
        return _turn(pixels, _orientation(image))
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises a dozen kinds for bad files, each of them the file's fault
        raise InvalidImage(f"the {image.format} image is damaged: {_reason(error)}; send a complete file") from error


def as_image(data: bytes | np.ndarray, limits: ImageLimits = DEFAULT_LIMITS) -> np.ndarray:
    """What `decode_image` makes of a file; a picture that is decoded already, (h, w, 3) uint8 RGB, as it is.

    Raises what `decode_image` raises.
    """
    if not isinstance(data, np.ndarray):
        return decode_image(data, limits)
    _check_size(data.shape[1], data.shape[0], limits)
    return data


def num_pixels(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> int:
    """Width times height, read from the header only. Raises `InvalidImage` and its `ImageTooLarge`."""
    image = _open(data, limits)
    return image.width * image.height


@dataclass(frozen=True)
class ImageHeader:
    """What a file says of its image: the format by content, (height, width) as stored, EXIF's orientation 1 to 8."""

    format: str
    stored_size: tuple[int, int]
    orientation: int

    @property
    def upright_size(self) -> tuple[int, int]:
        """(height, width) on the screen, after EXIF has turned it."""
        return self.stored_size[::-1] if self.orientation in _QUARTER_TURNS else self.stored_size


def read_header(data: bytes) -> ImageHeader:
    """The header of an image file; no pixel is decoded. Raises `InvalidImage`."""
    image = _open(data, NO_LIMITS)
    return ImageHeader(image.format, (image.height, image.width), _orientation(image))


def stored_and_upright_size(data: bytes) -> tuple[tuple[int, int], tuple[int, int]]:
    """The (height, width) in the file and, by its EXIF orientation, on the screen; reads the header only."""
    header = read_header(data)
    return header.stored_size, header.upright_size


def decode_reduced(data: bytes, shortest_side: int, limits: ImageLimits = DEFAULT_LIMITS) -> np.ndarray:
    """The upright picture, (h, w, 3) uint8 RGB, of a JPEG at 1/2, 1/4 or 1/8 of its size while no side falls below `shortest_side`.

    The whole file is read, so that damage shows, in a fraction of the time. Other formats come at their full size. Raises as
    `decode_image`.
    """
    image = _open(data, limits)
    if image.format not in ("JPEG", "MPO") or image.mode != "RGB" or min(image.size) < 2 * shortest_side:
        return decode_image(data, limits)
    try:
        reduced = simplejpeg.decode_jpeg(data, fastdct=True, min_height=shortest_side, min_width=shortest_side)
    except ValueError:
        return decode_image(data, limits)
    return _turn(reduced, _orientation(image))


def orient(array: np.ndarray, data: bytes) -> np.ndarray:
    """`array` (h, w) uint8 or int32, drawn over the image as stored in `data`, turned as its EXIF orientation says."""
    return _turn(array, _orientation(_open(data, NO_LIMITS)))


def _turn(array: np.ndarray, orientation: int) -> np.ndarray:
    """`array` (h, w) or (h, w, 3) as EXIF's `orientation` 1 to 8 says; any other number changes nothing."""
    match orientation:
        case 2:
            return cv2.flip(array, 1)
        case 3:
            return cv2.rotate(array, cv2.ROTATE_180)
        case 4:
            return cv2.flip(array, 0)
        case 5:
            return cv2.transpose(array)
        case 6:
            return cv2.rotate(array, cv2.ROTATE_90_CLOCKWISE)
        case 7:
            return cv2.rotate(cv2.transpose(array), cv2.ROTATE_180)
        case 8:
            return cv2.rotate(array, cv2.ROTATE_90_COUNTERCLOCKWISE)
    return array


def _decode_flawless_jpeg(image: Image.Image, data: bytes) -> np.ndarray | None:
    """What Pillow would decode, (h, w, 3) uint8, faster: libjpeg-turbo writes into the array. None where Pillow shall decide."""
    if image.format not in ("JPEG", "MPO") or image.mode != "RGB":
        return None
    try:
        size = simplejpeg.decode_jpeg_header(data)[:2]
        return simplejpeg.decode_jpeg(data) if size == (image.height, image.width) else None  # the size that the limits allowed
    except ValueError:  # damaged, if only a little, or of a rare kind
        return None


def _open(data: bytes, limits: ImageLimits) -> Image.Image:
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(f"the image has {len(data)} bytes, the limit is {limits.max_bytes}; send a smaller file")
    if not data:
        raise InvalidImage("the image is empty (0 bytes); send the bytes of an image file")
    Image.init()  # else Image.open knows some formats only after another image has failed to open
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(f"the image has more than the {limits.max_pixels} pixels of the limit; send a smaller one") from error
    except UnidentifiedImageError as error:
        raise InvalidImage(f"the {len(data)} bytes are no image in a known format; send one of {', '.join(FORMATS)}") from error
    except Exception as error:
        raise InvalidImage(f"the image's header cannot be read: {_reason(error)}; send a complete file without extras") from error
    _check_size(image.width, image.height, limits)
    return image


def _check_size(width: int, height: int, limits: ImageLimits) -> None:
    if width * height > limits.max_pixels:
        raise ImageTooLarge(f"the image is {width} x {height} pixels, the limit is {limits.max_pixels} in all; send a smaller one")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1, which is upright, where none can be read: broken notes do not spoil a picture."""
    try:
        value = image.getexif().get(_ORIENTATION)
    except Exception:  # as for pixels, Pillow raises a dozen kinds
        return 1
    return value if value in range(1, 9) else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":  # 16-bit grey: keep the upper byte
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _reason(error: Exception) -> str:
    return str(error).split("\n")[0][:120] or type(error).__name__
