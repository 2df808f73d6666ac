"""Small sources made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffjax.data.arrays import ArraySource
from diffjax.data.sources import make_source


def pixels(seed: int, height: int = 12, width: int = 10, channels: int = 3) -> np.ndarray:
    """Noise `[height, width, channels] uint8`."""
    shape = (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(path: Path, image: np.ndarray) -> Path:
    """`image [H, W, C] uint8` as a file of whatever format the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.squeeze()).save(path)
    return path


@pytest.fixture
def numbered() -> ArraySource:
    """50 grey images of 4 x 4 pixels; image i is i everywhere, its label i % 7."""
    image = np.broadcast_to(np.arange(50, dtype=np.uint8)[:, None, None, None], (50, 4, 4, 1))
    return ArraySource(image, np.arange(50) % 7)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory in which digits are prepared."""
    root = tmp_path_factory.mktemp("data")
    make_source("digits", data_dir=root)
    return root


@pytest.fixture
def class_folder(tmp_path: Path) -> Path:
    """cat/ and dog/ of three 12 x 10 PNGs each."""
    for i in range(3):
        write(tmp_path / "pets" / "cat" / f"{i}.png", pixels(i))
        write(tmp_path / "pets" / "dog" / f"{i}.png", pixels(10 + i))
    return tmp_path / "pets"
