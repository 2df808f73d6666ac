"""Oversampling: what an epoch shows how often, by the records' own fields."""

import numpy as np
import pytest

from diffjax.data.arrays import ArraySource
from diffjax.data.loader import Loader
from diffjax.data.oversampling import Oversample, epoch_indices
from diffjax.data.transforms import make_transforms

FLOAT = make_transforms([dict(type="to_float")])


@pytest.fixture
def source():
    """Twelve records; `kind` is 0, 1, 2, 0, ..., `large` is 0 and 1 in turn, `label` the index."""
    at = np.arange(12)
    image = np.broadcast_to(at[:, None, None, None], (12, 2, 2, 1)).astype(np.uint8)
    others = {"kind": (at % 3).astype(np.int32), "large": (at % 2).astype(np.int32)}
    return ArraySource(image, at, others=others)


class OneByOne:
    """A source without columns, as those on disk are."""

    def __init__(self, source):
        self.source, self.info = source, source.info

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        return self.source[index]


def seen(epoch):
    return np.bincount(epoch, minlength=12).tolist()


@pytest.mark.parametrize("kind", [ArraySource, OneByOne])
def test_records_meant_are_shown_so_many_times_and_others_once(source, kind):
    source = source if kind is ArraySource else OneByOne(source)
    epoch = epoch_indices(source, [Oversample({"kind": 1}, 3)])
    assert seen(epoch) == [3 if i % 3 == 1 else 1 for i in range(12)]


@pytest.mark.parametrize("kind", [ArraySource, OneByOne])
def test_rules_multiply_and_fields_of_one_rule_are_all_wanted(source, kind):
    source = source if kind is ArraySource else OneByOne(source)
    rules = [Oversample({"kind": 1}, 3), Oversample({"large": 1}, 2)]
    both = epoch_indices(source, rules)
    assert seen(both) == [(3 if i % 3 == 1 else 1) * (2 if i % 2 else 1) for i in range(12)]
    one = epoch_indices(source, [Oversample({"kind": 1, "large": 1}, 4)])
    assert seen(one) == [4 if i % 3 == 1 and i % 2 else 1 for i in range(12)]


def test_no_times_leaves_records_out(source):
    assert seen(epoch_indices(source, [Oversample({"large": 1}, 0)])) == [1, 0] * 6


def test_the_loader_shows_each_epoch_as_often_as_said(source):
    """And in another order each time."""
    epoch = epoch_indices(source, [Oversample({"kind": 0}, 4)])
    loader = Loader(source, FLOAT, 6, seed=1, epoch=epoch)
    steps = len(epoch) // 6
    passes = [
        np.concatenate([loader.batch(p * steps + s)["label"] for s in range(steps)])
        for p in range(2)
    ]
    for labels in passes:
        assert seen(labels) == [4 if i % 3 == 0 else 1 for i in range(12)]
    assert (passes[0] != passes[1]).any()


def test_the_fingerprint_tells_epochs_apart(source):
    def drawn(epoch):
        return Loader(source, FLOAT, 6, seed=1, epoch=epoch).fingerprint()

    plain, three = drawn(None), drawn(epoch_indices(source, [Oversample({"kind": 1}, 3)]))
    two = drawn(epoch_indices(source, [Oversample({"kind": 1}, 2)]))
    assert plain != three and two != three


@pytest.mark.parametrize(
    "rule, words",
    [
        (lambda: Oversample({}, 2), "names no field"),
        (lambda: Oversample({"kind": 1}, -1), "times=-1"),
        (lambda: Oversample({"kind": 1}, 1.5), "times=1.5"),
        (lambda: Oversample({"kinds": 1}, 2), "did you mean 'kind'"),
        (lambda: Oversample({"image": 1}, 2), "options: kind, label, large"),
        (lambda: Oversample({"kind": 7}, 2), "no record"),
    ],
)
def test_rules_that_mean_nothing_are_refused(source, rule, words):
    with pytest.raises(ValueError, match=words):
        epoch_indices(source, [rule()])


def test_an_empty_epoch_is_refused(source):
    everything = [Oversample({"large": 1}, 0), Oversample({"large": 0}, 0)]
    with pytest.raises(ValueError, match="leave no record"):
        epoch_indices(source, everything)


def test_an_epoch_of_another_source_is_refused(source):
    with pytest.raises(ValueError, match="0 to 12"):
        Loader(source, FLOAT, 6, seed=1, epoch=np.arange(13))
