"""Pictures for the tests, and files of them."""

from pathlib import Path

import numpy as np
from PIL import Image


def pixels(seed: int, height: int = 12, width: int = 10, channels: int = 3) -> np.ndarray:
    """Noise `[height, width, channels] uint8`."""
    shape = (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(path: Path, image: np.ndarray) -> Path:
    """`image [H, W, C] uint8` as a file of whatever format the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.squeeze()).save(path)
    return path
