"""Evaluation sees every example once, in order, and the same at every pass."""

import numpy as np
import pytest

from diffjax.data.arrays import ArraySource
from diffjax.data.evaluation import as_arrays
from diffjax.data.transforms import make_transforms

FLOAT = make_transforms([dict(type="to_float")])


def test_as_arrays_is_the_whole(numbered):
    data = as_arrays(numbered, FLOAT)
    assert data["image"].shape == (50, 4, 4, 1) and data["image"].dtype == np.float32
    np.testing.assert_array_equal(data["label"], np.arange(50) % 7)
    seen = np.rint((data["image"][:, 0, 0, 0] + 1) * 127.5).astype(int)
    assert seen.tolist() == list(range(50))
    assert len(as_arrays(numbered, FLOAT, limit=7)["label"]) == 7
    many = ArraySource(np.zeros((2500, 2, 2, 1), np.uint8), np.arange(2500))
    np.testing.assert_array_equal(as_arrays(many, [])["label"], np.arange(2500))


def test_random_transforms_repeat_and_draw_by_position(numbered):
    random = make_transforms([dict(type="random_shift", pixels=1), dict(type="to_float")])
    whole, again = (as_arrays(numbered, random)["image"] for _ in range(2))
    np.testing.assert_array_equal(whole, again)
    np.testing.assert_array_equal(whole[:7], as_arrays(numbered, random, limit=7)["image"])


def test_array_sources_refuse_what_does_not_fit():
    image = np.zeros((3, 2, 2, 1), np.uint8)
    with pytest.raises(ValueError, match="array: record 2 has label 9, outside"):
        ArraySource(image, [0, 1, 9], num_classes=2)
    with pytest.raises(ValueError, match="array: 3 images but 2 of 'label'"):
        ArraySource(image, [0, 1])
    with pytest.raises(ValueError, match="array: no images"):
        ArraySource(image[:0])
    with pytest.raises(ValueError, match=r"images must be uint8 \[N, H, W, C\], not float32"):
        ArraySource(image.astype(np.float32))
