"""Bytes to pixels: decode with Pillow, with every change of mode made explicit."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")

# What Pillow raises on files that are no images, are cut off, or are bombs.
CORRUPT = (
    *(OSError, SyntaxError, ValueError, EOFError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)


def decode(data: bytes, channels: int) -> np.ndarray:
    """Pixels `[H, W, channels] uint8` of an encoded image, turned upright by its EXIF tag.

    Raises:
      one of CORRUPT: where `data` cannot be decoded to the last pixel.
    """
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return as_array(to_mode(ImageOps.exif_transpose(image), channels))


def to_mode(image: Image.Image, channels: int) -> Image.Image:
    """`image` as 8-bit grey (`channels` 1) or RGB (3).

    Transparent pixels are laid over white: dropping alpha would show whatever colour the editor
    left behind it. 16-bit grey is scaled, since Pillow's own conversion clips it at 255.
    """
    if channels not in (1, 3):
        raise ValueError(f"images have 1 or 3 channels, not {channels}")
    mode = {1: "L", 3: "RGB"}[channels]
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.float64).clip(0, 65535)
        image = Image.fromarray(np.rint(levels / 257).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image if image.mode == mode else image.convert(mode)


def as_array(image: Image.Image) -> np.ndarray:
    """`[H, W, C] uint8`, with C = 1 for grey."""
    pixels = np.asarray(image, np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def as_image(pixels: np.ndarray) -> Image.Image:
    """The Pillow image of `pixels [H, W, 1 or 3] uint8`."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def png(pixels: np.ndarray) -> bytes:
    """`pixels [H, W, 1 or 3] uint8` as a PNG file, lossless."""
    buffer = io.BytesIO()
    as_image(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
