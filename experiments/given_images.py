"""Images and masks that a user gives on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError


def read_image(file: Path) -> np.ndarray:
    """`[H, W, 3] float32` in [-1, 1].

    Raises:
      ValueError: no image, or none in RGB.
    """
    pixels = _read(file, ("RGB",), "an RGB image")
    return pixels.astype(np.float32) / np.float32(127.5) - np.float32(1)


def read_mask(file: Path, size: tuple[int, int]) -> np.ndarray:
    """`[H, W, 1] float32` in [0, 1], white for 1.

    Raises:
      ValueError: no grey image, or not of `size`, (height, width).
    """
    mask = _read(file, ("L", "1"), "a grey image, white where to draw")
    if mask.shape != size:
        raise ValueError(
            f"{file} is {mask.shape[1]} x {mask.shape[0]} pixels and does not fit an image of "
            f"{size[1]} x {size[0]}: make it as large"
        )
    return (mask.astype(np.float32) / np.float32(255))[..., None]


def _read(file: Path, modes: tuple[str, ...], what: str) -> np.ndarray:
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    try:
        with Image.open(file) as image:
            image.load()
            if image.mode not in modes:
                raise ValueError(f"{file} is of mode {image.mode}, but must be {what}: convert it")
            return np.asarray(image.convert("L") if image.mode == "1" else image)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{file} cannot be read as an image: {error}") from error
