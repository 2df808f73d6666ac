"""Small sources made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffjax.data.arrays import ArraySource
from diffjax.data.sources import make_source
from tests.data.pictures import pixels, write


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
