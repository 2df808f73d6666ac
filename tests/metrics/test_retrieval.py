"""Ranks of the first right answer against their definition, one query at a time."""

import numpy as np
import pytest

from diffjax.metrics.retrieval import first_relevant_ranks, recall_at


def by_definition(scores, queries, candidates) -> list[int]:
    """The place of the best right answer when the wrong ones go first among equals."""
    ranks = []
    for row, query in zip(scores, queries, strict=True):
        order = sorted(range(len(row)), key=lambda j: (-row[j], candidates[j] == query))
        ranks.append(next(i for i, j in enumerate(order) if candidates[j] == query))
    return ranks


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("values", [4, 10_000], ids=["ties", "no ties"])
def test_ranks_are_those_of_the_definition(seed, values):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, values, (30, 40)).astype(np.float32)
    candidates = np.concatenate([np.arange(9), rng.integers(0, 9, 31)])
    queries = rng.integers(0, 9, 30)
    got = first_relevant_ranks(scores, queries, candidates)
    np.testing.assert_array_equal(got, by_definition(scores, queries, candidates))
    for k in (1, 5, 40):
        assert recall_at(got, k).value == np.mean(got < k)
    assert recall_at(got, 40).value == 1


def test_every_image_of_a_caption_is_a_right_answer():
    """The best of a group counts, and the others of it stand in nobody's way."""
    scores = np.array([[0.1, 0.9, 0.8, 0.5]])
    np.testing.assert_array_equal(first_relevant_ranks(scores, [7], [7, 7, 7, 1]), [0])
    np.testing.assert_array_equal(first_relevant_ranks(scores, [7], [7, 1, 1, 7]), [2])
    np.testing.assert_array_equal(first_relevant_ranks(scores, ["b"], ["a", "a", "b", "b"]), [1])


@pytest.mark.parametrize("value", [0.0, 1.0, -np.inf, np.nan])
def test_scores_that_say_nothing_find_nothing(value):
    """Constant scores, and those of a diverged network, put every wrong candidate first."""
    keys = np.arange(6)
    ranks = first_relevant_ranks(np.full((6, 6), value), keys, keys)
    np.testing.assert_array_equal(ranks, 5)
    assert recall_at(ranks, 5).value == 0


def test_ranks_do_not_change_with_the_scale_or_the_order_of_candidates():
    rng = np.random.default_rng(0)
    scores, keys = rng.normal(size=(20, 20)), np.arange(20)
    ranks = first_relevant_ranks(scores, keys, keys)
    assert 0 < ranks.mean() < 19
    order = rng.permutation(20)
    np.testing.assert_array_equal(first_relevant_ranks(scores[:, order], keys, keys[order]), ranks)
    np.testing.assert_array_equal(first_relevant_ranks(np.exp(scores), keys, keys), ranks)


@pytest.mark.parametrize(
    ("shape", "queries", "candidates", "said"),
    [
        ((2, 3), [0, 1], [0, 1], r"scores \[2, 3\] do not fit 2 queries and 2 candidates"),
        ((3, 2), [0, 1], [0, 1], r"scores \[3, 2\]"),
        ((3, 2), [0, 4, 5], [0, 1], "2 queries have no relevant candidate, the first 1"),
    ],
)
def test_what_does_not_fit_is_one_line(shape, queries, candidates, said):
    with pytest.raises(ValueError, match=said):
        first_relevant_ranks(np.zeros(shape), queries, candidates)


def test_recall_needs_a_place():
    with pytest.raises(ValueError, match="k >= 1, not 0"):
        recall_at([0, 1], 0)
