"""Image files that no library writes: bombs, hostile EXIF, interlaced PNG; built byte by byte."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))  # row, column, steps
_RGB, _GREY = 2, 0  # PNG's colour types


def saved(image: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes, *, color: int = _RGB, interlaced: bool = False, extra: bytes = b"") -> bytes:
    """A PNG of `rows`, each with its filter byte, and of `extra` chunks before them."""
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, interlaced)
    end = png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + extra + end


def interlaced_png(pixels: np.ndarray) -> bytes:
    passes = [pixels[row::down, column::across] for row, column, down, across in _ADAM7]
    rows = b"".join(b"\0" + np.ascontiguousarray(line).tobytes() for each in passes if each.size for line in each)
    return png(pixels.shape[1], pixels.shape[0], rows, interlaced=True)


def png_of(pixels: np.ndarray, extra: bytes = b"") -> bytes:
    rows = b"".join(b"\0" + line.tobytes() for line in pixels)
    return png(pixels.shape[1], pixels.shape[0], rows, extra=extra)


def compressed_text(kind: bytes, num_bytes: int) -> bytes:
    """A chunk of PNG whose text unpacks to `num_bytes`: zTXt, iTXt, or iCCP, which is packed in the same way."""
    between = {b"zTXt": b"\0\0", b"iTXt": b"\0\1\0\0\0", b"iCCP": b"\0\0"}[kind]
    return png_chunk(kind, b"name" + between + zlib.compress(b"x" * num_bytes))


def gif_of_size(screen: tuple[int, int], frame: tuple[int, int]) -> bytes:
    header = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6)
    return header + b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x4c\x01\0;"


def webp_of_size(width: int, height: int) -> bytes:
    """An animated WebP with a canvas of that size and one frame of 1 x 1."""

    def u24(value: int) -> bytes:
        return struct.pack("<I", value)[:3]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)

    picture = saved(Image.new("RGB", (1, 1)), "WEBP")[12:]
    canvas = chunk(b"VP8X", b"\x02\0\0\0" + u24(width - 1) + u24(height - 1))
    frame = chunk(b"ANMF", u24(0) * 4 + u24(100) + b"\0" + picture)
    body = b"WEBP" + canvas + chunk(b"ANIM", bytes(6)) + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg_of_size(width: int, height: int) -> bytes:
    data = bytearray(saved(Image.new("RGB", (16, 16)), "JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def bmp_of_size(width: int, height: int) -> bytes:
    data = bytearray(saved(Image.new("RGB", (16, 16)), "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def tiff_notes(kind: int, count: int, value: bytes, next_directory: int = 0) -> bytes:
    """EXIF of one entry, the orientation, of TIFF's `kind` (3 short, 2 text, 5 ratio, ...), with the four bytes of its value."""
    return b"II*\0" + struct.pack("<IHHHI", 8, 1, 0x0112, kind, count) + value + struct.pack("<I", next_directory)


def jpeg_with_exif(jpeg: bytes, notes: bytes) -> bytes:
    segment = b"Exif\0\0" + notes
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]
