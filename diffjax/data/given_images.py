"""Images and masks that a user gives on the command line."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from diffjax.data.images import CORRUPT, decode


def read_image(file: Path) -> np.ndarray:
    """`[H, W, 3] float32` in [-1, 1].

    Raises:
      ValueError: no image, or none in RGB.
    """
    pixels = _read(file, ("RGB",), "an RGB image", 3)
    return pixels.astype(np.float32) / np.float32(127.5) - np.float32(1)


def read_mask(file: Path, size: tuple[int, int]) -> np.ndarray:
    """`[H, W, 1] float32` in [0, 1], white for 1.

    Raises:
      ValueError: no grey image, or not of `size`, (height, width).
    """
    mask = _read(file, ("L", "1"), "a grey image, white where to draw", 1)[..., 0]
    if mask.shape != size:
        raise ValueError(
            f"{file} is {mask.shape[1]} x {mask.shape[0]} pixels and does not fit an image of "
            f"{size[1]} x {size[0]}: make it as large"
        )
    return (mask.astype(np.float32) / np.float32(255))[..., None]


def _read(file: Path, modes: tuple[str, ...], what: str, channels: int) -> np.ndarray:
    """`[H, W, channels] uint8`, upright as those of data sets are."""
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    try:
        data = file.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            mode = image.mode
        pixels = decode(data, channels) if mode in modes else None
    except CORRUPT as error:
        raise ValueError(f"{file} cannot be read as an image: {error}") from error
    if pixels is None:
        raise ValueError(f"{file} is of mode {mode}, but must be {what}: convert it")
    return pixels
