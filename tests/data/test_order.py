"""The training order: a permutation every epoch, another one each time, found anywhere."""

import itertools

import numpy as np
import pytest

from diffjax.data.draws import Draws
from diffjax.data.order import shuffled


@pytest.mark.parametrize("n", [1, 2, 3, 7, 50, 1500, 4099])
def test_each_epoch_visits_each_example_once(n):
    order = shuffled(np.arange(3 * n), n, seed=5).reshape(3, n)
    for epoch in order:
        assert sorted(epoch) == list(range(n))


def test_epochs_and_seeds_differ():
    n = 1000
    orders = [
        shuffled(np.arange(n) + e * n, n, s) for e, s in itertools.product(range(3), range(3))
    ]
    for a, b in itertools.combinations(orders, 2):
        assert np.mean(a == b) < 0.02  # Two random permutations agree in 1 place of n.
    assert np.mean(orders[0] == np.arange(n)) < 0.02


def test_any_position_is_found_alone():
    whole = shuffled(np.arange(10**4, 10**4 + 64), 777, 3)
    alone = [int(shuffled(np.array([p]), 777, 3)[0]) for p in range(10**4, 10**4 + 64)]
    assert whole.tolist() == alone


def test_billions_of_examples_need_no_table():
    index = shuffled(np.arange(4096) + 10**15, 5 * 10**9, 0)
    assert len(set(index.tolist())) == 4096 and index.min() >= 0 and index.max() < 5 * 10**9
    assert index.max() > 4.9 * 10**9 and abs(index.mean() / 2.5e9 - 1) < 0.06


def test_permutations_of_four_are_equally_likely():
    orders = shuffled(np.arange(4 * 24000), 4, seed=1).reshape(-1, 4)
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 24
    chi2 = ((counts - 1000) ** 2 / 1000).sum()
    assert chi2 < 60  # 23 degrees of freedom: exceeded by chance in 4 of 100,000.


def test_the_order_is_pinned():
    # A resumed run, on any machine and version, must meet the same order.
    assert shuffled(np.arange(8), 100, 0).tolist() == [57, 76, 12, 93, 65, 82, 8, 18]


def test_draws_are_uniform_and_independent():
    draws = Draws.at(0, np.arange(20000))
    u, v = draws.uniform("u"), draws.uniform("v")
    grid = np.linspace(0, 1, 21)
    counts, _ = np.histogram(u, grid)
    assert ((counts - 1000) ** 2 / 1000).sum() < 50  # 19 degrees of freedom, 1 in 10,000.
    for x, y in ((u, v), (u[1:], u[:-1]), (u, Draws.at(1, np.arange(20000)).uniform("u"))):
        assert abs(np.corrcoef(x, y)[0, 1]) < 0.03
    assert set(draws.integers("i", -1, 2).tolist()) == {-1, 0, 1}


def test_draws_of_a_row_do_not_depend_on_its_neighbours():
    together = Draws.at(9, np.arange(30)).uniform("x")
    alone = [Draws.at(9, np.array([p])).uniform("x")[0] for p in range(30)]
    assert together.tolist() == alone
