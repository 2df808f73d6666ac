"""Evaluation sees every example once, in order, and says which rows are padding."""

import numpy as np
import pytest

from diffjax.data.arrays import ArraySource
from diffjax.data.evaluation import as_arrays, eval_batches
from diffjax.data.transforms import make_transforms

FLOAT = make_transforms([dict(type="to_float")])


@pytest.mark.parametrize("batch_size, limit", [(8, None), (50, None), (64, None), (16, 20), (1, 3)])
def test_every_example_once_in_order(numbered, batch_size, limit):
    batches = list(eval_batches(numbered, FLOAT, batch_size, limit))
    assert all(len(b["image"]) == len(b["label"]) == len(b["mask"]) == batch_size for b in batches)
    image = np.concatenate([b["image"][b["mask"]] for b in batches])
    seen = np.rint((image[:, 0, 0, 0] + 1) * 127.5).astype(int)
    assert seen.tolist() == list(range(limit or 50))
    assert not any((~b["mask"]).any() for b in batches[:-1])


def test_as_arrays_is_the_whole(numbered):
    data = as_arrays(numbered, FLOAT)
    assert data["image"].shape == (50, 4, 4, 1) and data["image"].dtype == np.float32
    np.testing.assert_array_equal(data["label"], np.arange(50) % 7)
    assert len(as_arrays(numbered, FLOAT, limit=7)["label"]) == 7
    many = ArraySource(np.zeros((2500, 2, 2, 1), np.uint8), np.arange(2500))
    np.testing.assert_array_equal(as_arrays(many, [])["label"], np.arange(2500))


def test_random_transforms_repeat_and_ignore_the_batching(numbered):
    random = make_transforms([dict(type="random_shift", pixels=1), dict(type="to_float")])
    whole = as_arrays(numbered, random)["image"]
    parts = [b["image"][b["mask"]] for b in eval_batches(numbered, random, 7)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


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
