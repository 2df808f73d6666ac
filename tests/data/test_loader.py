"""The loader is a function of (seed, step), whatever reads ahead and however rows are shared."""

import json
import time

import numpy as np
import pytest

from diffjax.data.arrays import ArraySource
from diffjax.data.loader import Loader
from diffjax.data.sources import make_source
from diffjax.data.transforms import make_transforms

AUGMENT = make_transforms(
    [
        dict(type="random_affine", degrees=20.0, pixels=0.5),
        dict(type="random_shift", pixels=1),
        dict(type="random_flip"),
        dict(type="to_float"),
    ]
)
FLOAT = make_transforms([dict(type="to_float")])


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize("prefetch, threads", [(0, 1), (2, 1), (4, 3)])
def test_iterating_is_indexing(numbered, prefetch, threads):
    loader = Loader(numbered, AUGMENT, 8, seed=3)
    with loader.iterate(0, prefetch=prefetch, threads=threads) as batches:
        eighth = [next(batches) for _ in range(8)][-1]
        assert batches.step == 8
    with loader.iterate(7, prefetch=prefetch, threads=threads) as batches:
        first = next(batches)
    same(loader.batch(7), eighth)
    same(loader.batch(7), first)


def test_worker_processes_change_nothing(numbered):
    loader = Loader(numbered, AUGMENT, 8, seed=3)
    with loader.iterate(5, workers=2) as batches:
        for step in range(5, 11):
            same(next(batches), loader.batch(step))


def test_batches_are_float_images_and_int_labels(numbered):
    loader = Loader(numbered, AUGMENT, 8, seed=0)
    batch = loader.batch(0)
    assert batch["image"].dtype == np.float32 and batch["label"].dtype == np.int32
    assert batch["image"].min() >= -1 and batch["image"].max() <= 1
    spec = loader.batch_spec()
    assert {k: (v.shape, v.dtype) for k, v in spec.items()} == {
        k: (v.shape, v.dtype) for k, v in batch.items()
    }


def test_each_epoch_visits_each_example_once(numbered):
    loader = Loader(numbered, FLOAT, 8, seed=1)  # 50 examples: batches cross the epoch's end.
    seen = np.concatenate([loader.batch(s)["image"][:, 0, 0, 0] for s in range(25)])
    seen = np.rint((seen + 1) * 127.5).astype(int).reshape(4, 50)
    for epoch in seen:
        assert sorted(epoch) == list(range(50))
    assert not (seen[0] == seen[1]).all()


def test_labels_stay_with_their_images(numbered):
    batch = Loader(numbered, FLOAT, 16, seed=1).batch(3)
    value = np.rint((batch["image"][:, 0, 0, 0] + 1) * 127.5).astype(int)
    np.testing.assert_array_equal(batch["label"], value % 7)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_global_batch_does_not_depend_on_the_processes(numbered, processes):
    whole = Loader(numbered, AUGMENT, 8, seed=2).batch(9)
    shares = np.arange(8).reshape(processes, -1)
    parts = [Loader(numbered, AUGMENT, 8, seed=2, rows=rows).batch(9) for rows in shares]
    same(whole, {k: np.concatenate([p[k] for p in parts]) for k in whole})
    same(
        {k: x[[6, 1]] for k, x in whole.items()},
        Loader(numbered, AUGMENT, 8, seed=2).batch(9, rows=[6, 1]),
    )


def test_augmentation_differs_between_rows_epochs_and_seeds():
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 1), dtype=np.uint8)
    source = ArraySource(np.repeat(image, 16, axis=0), np.zeros(16, int))
    first = Loader(source, AUGMENT, 16, seed=0).batch(0)["image"]
    second = Loader(source, AUGMENT, 16, seed=0).batch(1)["image"]
    other = Loader(source, AUGMENT, 16, seed=1).batch(0)["image"]
    every = np.concatenate([first, second, other]).reshape(48, -1)
    assert len(np.unique(every, axis=0)) == 48


def test_a_cached_source_gives_the_same_batches(data_dir):
    source = make_source("digits", data_dir=data_dir)
    read, held = (Loader(source, AUGMENT, 32, 0, cache=c) for c in (False, "auto"))
    assert not isinstance(read.source, ArraySource) and isinstance(held.source, ArraySource)
    same(read.batch(50), held.batch(50))
    assert read.fingerprint() == held.fingerprint()


def test_fingerprint_changes_with_what_the_batches_depend_on(numbered):
    base = Loader(numbered, AUGMENT, 8, 0)
    shifted = ArraySource(numbered.columns["image"] + 1, numbered.columns["label"])
    prints = [
        base.fingerprint(),
        Loader(numbered, AUGMENT, 8, 1).fingerprint(),
        Loader(numbered, AUGMENT, 4, 0).fingerprint(),
        Loader(numbered, FLOAT, 8, 0).fingerprint(),
        Loader(shifted, AUGMENT, 8, 0).fingerprint(),
    ]
    assert len({json.dumps(p) for p in prints}) == 5
    assert Loader(numbered, AUGMENT, 8, 0, rows=[1]).fingerprint() == prints[0]
    assert json.loads(json.dumps(prints[0])) == prints[0]


def test_a_source_smaller_than_a_batch_is_an_error(numbered):
    with pytest.raises(ValueError, match=r"array \(train\) has 50 examples, fewer than one batch"):
        Loader(numbered, FLOAT, 64, 0)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        Loader(numbered, FLOAT, 0, 0)
    with pytest.raises(ValueError, match=r"rows must lie in \[0, 8\), not \[3, 8\]"):
        Loader(numbered, FLOAT, 8, 0, rows=[3, 8])


def test_an_error_in_a_thread_reaches_the_reader(numbered):
    class Broken(type(numbered)):
        def gather(self, indices):
            raise ValueError("pets/3.png: gone")

    loader = Loader(numbered, FLOAT, 8, 0)
    loader.source = Broken(numbered.columns["image"])
    with loader.iterate(0) as batches, pytest.raises(ValueError, match=r"pets/3.png: gone"):
        next(batches)


def test_a_batch_of_digits_costs_well_under_two_milliseconds(data_dir):
    loader = Loader(make_source("digits", data_dir=data_dir), FLOAT, 128, 0)
    loader.batch(0)
    costs = []
    for start in range(0, 100, 20):
        began = time.thread_time()
        for step in range(start, start + 20):
            loader.batch(step)
        costs.append((time.thread_time() - began) / 20)
    assert min(costs) < 2e-3, costs
