"""Laws of shares, their intervals, confusion counts and the inception score."""

import numpy as np
import pytest

from diffjax.metrics import classification as c


def test_wilson_solves_its_equation():
    """Both ends satisfy |p_hat - p| = z sqrt(p (1 - p) / n)."""
    for end in c.wilson(37, 50):
        assert abs(37 / 50 - end) == pytest.approx(1.959964 * np.sqrt(end * (1 - end) / 50), 1e-6)


def test_wilson_at_the_ends_keeps_its_width():
    assert c.wilson(0, 20)[0] == 0.0 and c.wilson(0, 20)[1] > 0.1
    assert c.wilson(20, 20)[1] == 1.0 and c.wilson(20, 20)[0] < 0.9


def test_wilson_covers_at_its_confidence():
    rng = np.random.default_rng(0)
    intervals = [c.wilson(k, 60) for k in rng.binomial(60, 0.9, size=2000)]
    covered = np.mean([low <= 0.9 <= high for low, high in intervals])
    assert 0.92 < covered < 0.98


def test_class_accuracy_counts_the_largest_logit():
    logits = np.eye(3)[[0, 1, 2, 2]] * 5
    got = c.class_accuracy([0, 1, 2, 0], logits)
    assert (got.value, got.count) == (0.75, 4)
    assert got.low < 0.75 < got.high


def test_confusion_rows_are_labels():
    m = c.confusion_matrix([0, 0, 1, 2], [0, 1, 1, 2], 4)
    assert m[0, 1] == 1 and m[1, 0] == 0 and m.trace() == 3 and m.sum() == 4
    assert m.shape == (4, 4)
    with pytest.raises(ValueError, match=r"outside 0 \.\. 1"):
        c.confusion_matrix([0, 2], [0, 1], 2)


def test_cross_entropy_of_uniform_and_of_certain():
    assert c.cross_entropy([1], np.zeros((1, 7)))[0] == pytest.approx(np.log(7))
    assert c.cross_entropy([0], np.array([[1e4, 0.0]]))[0] == 0.0
    assert c.cross_entropy([1], np.array([[1e4, 0.0]]))[0] == pytest.approx(1e4)


def test_inception_score_spans_one_to_classes():
    certain = np.eye(5)[np.arange(100) % 5] * 1e3
    assert c.inception_score(certain, splits=1, seed=0)[0] == pytest.approx(5.0)
    assert c.inception_score(certain[::5], splits=2, seed=0) == pytest.approx((1.0, 0.0))
    assert c.inception_score(np.zeros((20, 5)), splits=4, seed=0)[0] == pytest.approx(1.0)
