"""Training times have their distribution, and do not change when a batch is split."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy import stats

from diffjax.diffusion.schedules import EDM, Linear, RectifiedFlow
from diffjax.diffusion.timesteps import TIMES, LogitNormal, LogNormal, Uniform
from diffjax.keys import Rng

SIZE = 4096


def rng_of(rows, seed=0, size=SIZE):
    return Rng(jax.random.key(seed), np.asarray(rows, np.int32), size)


@pytest.fixture
def whole():
    return rng_of(np.arange(SIZE))


def accepted(values, cdf):
    """Kolmogorov-Smirnov at 1 in 1,000: a fixed seed, so it passes always or never."""
    return stats.kstest(np.asarray(values, np.float64), cdf).pvalue > 1e-3


@pytest.mark.parametrize("antithetic", [False, True])
def test_uniform_covers_the_schedule(whole, antithetic):
    flow = RectifiedFlow(epsilon=0.1)
    t = Uniform(antithetic=antithetic)(flow, whole)
    assert accepted(t, stats.uniform(0.1, 0.9).cdf)


@pytest.mark.parametrize("antithetic", [False, True])
def test_uniform_on_a_table_draws_every_integer(antithetic):
    table = Linear(steps=16)
    t = np.asarray(Uniform(antithetic=antithetic)(table, rng_of(np.arange(SIZE))))
    counts = np.bincount(t.astype(int), minlength=16)
    assert np.array_equal(t, np.round(t)) and len(counts) == 16
    if antithetic:
        assert np.all(np.abs(counts - SIZE / 16) <= 1)
    else:
        assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("antithetic", [False, True])
def test_log_normal_on_edm(whole, antithetic):
    t = LogNormal(antithetic=antithetic, mean=-1.2, std=1.2)(EDM(), whole)
    assert accepted(np.log(t), stats.norm(-1.2, 1.2).cdf)


def test_log_normal_means_the_same_levels_on_a_table(whole):
    """In log sigma / alpha, up to the table's ends and its rounding."""
    table = Linear()
    t = np.asarray(LogNormal(mean=0.0, std=1.0)(table, whole), np.float64)
    assert np.array_equal(t, np.round(t)) and t.min() >= 0 and t.max() <= 999
    log_ratio = np.log(table.level(t).ratio)
    assert stats.kstest(log_ratio, stats.norm(0, 1).cdf).statistic < 0.03


def test_logit_normal(whole):
    t = LogitNormal(mean=0.5, std=1.3)(RectifiedFlow(epsilon=0.0), whole)
    assert accepted(np.log(t) - np.log1p(-t), stats.norm(0.5, 1.3).cdf)


def test_antithetic_is_stratified(whole):
    """One time in each of B equal intervals, whatever the offset."""
    u = np.sort(np.asarray(Uniform(antithetic=True).quantiles(whole)))
    assert np.all(u >= 0) and np.all(u < 1)
    np.testing.assert_allclose(np.diff(u), 1 / SIZE, atol=2e-7)


@pytest.mark.parametrize("name", sorted(TIMES))
@pytest.mark.parametrize("antithetic", [False, True])
def test_splitting_a_batch_changes_nothing(name, antithetic):
    times = TIMES[name](antithetic=antithetic)
    whole = times(EDM(), rng_of(np.arange(64), size=64))
    parts = [times(EDM(), rng_of(np.arange(i, i + 16), size=64)) for i in range(0, 64, 16)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("name", sorted(TIMES))
def test_steps_draw_afresh_and_stay_in_range(name, schedule):
    first = np.asarray(TIMES[name]()(schedule, rng_of(np.arange(256), seed=1)))
    second = np.asarray(TIMES[name]()(schedule, rng_of(np.arange(256), seed=2)))
    assert np.mean(first == second) < 0.2
    if not schedule.open_ended:
        assert first.min() >= schedule.t_min and first.max() <= schedule.t_max
