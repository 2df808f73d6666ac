"""What a loss weighs at the ends of a schedule: every choice trains where samples start, or is
refused before anything is computed."""

from __future__ import annotations

import contextlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from diffjax.denoisers.model import DiffusionModel
from diffjax.denoisers.spaces import DataSpace
from diffjax.diffusion.levels import Level
from diffjax.diffusion.predictions import PREDICTIONS, X0, Eps, V, check_ends
from diffjax.diffusion.process import check_weights, loss_weight
from diffjax.diffusion.schedules import (
    EDM,
    SCHEDULES,
    VPSDE,
    ContinuousCosine,
    Cosine,
    Linear,
    RectifiedFlow,
    ScaledLinear,
)
from diffjax.diffusion.timesteps import LogitNormal, Uniform
from diffjax.diffusion.weightings import SNR, VMSE, WEIGHTINGS, MinSNR, SigmoidWeighting, Simple
from diffjax.keys import Rng
from diffjax.tasks.diffusion import DiffusionTask

ZERO = [Linear(zero_terminal_snr=True), ScaledLinear(zero_terminal_snr=True)]
ALL = [*(s() for s in SCHEDULES.values()), *ZERO, RectifiedFlow(shift=3.0)]


def drawn(schedule) -> np.ndarray:
    """Times that training draws, both ends of them among these."""
    if schedule.discrete:
        return np.arange(schedule.t_max + 1)
    share = np.append(np.linspace(0, 0.999, 200), 1 - 2.0**-24)
    return schedule.t_min + (schedule.t_max - schedule.t_min) * share


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_every_choice_trains_all_levels_or_is_refused(schedule):
    level = schedule.level(drawn(schedule))
    pairs, accepted = [], 0
    for prediction, weighting in itertools.product(PREDICTIONS.values(), WEIGHTINGS.values()):
        with contextlib.suppress(ValueError):
            check_ends(schedule, prediction())
            pairs.append((prediction(), weighting()))
    for prediction, weighting in pairs:
        weight = np.asarray(loss_weight(schedule, level, prediction, weighting))
        try:
            check_weights(schedule, prediction, weighting)
        except ValueError as error:
            assert not (np.isfinite(weight) & (weight > 1e-24)).all(), str(error)
        else:
            accepted += 1
            assert np.all(np.isfinite(weight) & (weight > 1e-24))
    # Of predictions that the noisy end allows, the weights that train it are among these.
    assert accepted >= 4 * 3


@pytest.mark.parametrize("weighting", [Simple(), MinSNR(), SigmoidWeighting()], ids=repr)
@pytest.mark.parametrize("schedule", ZERO, ids=["linear", "scaled_linear"])
def test_a_level_without_signal_is_not_left_untrained(schedule, weighting):
    model = DiffusionModel(None, DataSpace((8, 8, 1)), schedule, V())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"e-3\d at t=999 .*type=v_mse"):
        DiffusionTask(model, weighting)
    task = DiffusionTask(model, VMSE())
    last = schedule.level(np.array([999.0]))
    np.testing.assert_allclose(loss_weight(schedule, last, V(), task.weighting), 1.0, rtol=1e-5)


def test_an_error_without_end_is_refused_at_the_clean_end():
    for schedule in (RectifiedFlow(epsilon=0.0), VPSDE(epsilon=0.0)):
        with pytest.raises(ValueError, match=r"at t=0 .*task\.schedule\.epsilon"):
            check_weights(schedule, X0(), Simple())
        check_weights(schedule, V(), VMSE())


def test_weights_are_finite_where_float32_rounds_to_the_end():
    """Of a shifted flow 1 - sigma is 0 in float32 before the end, alpha is not."""
    schedule = RectifiedFlow(shift=3.0)
    level = schedule.level(jnp.array([1 - 2.0**-24], jnp.float32))
    assert float(level.alpha[0]) == pytest.approx(2.0**-24 / 3, rel=1e-5)
    weight = loss_weight(schedule, level, PREDICTIONS["flow"](), VMSE())
    np.testing.assert_allclose(weight, 1.0, rtol=1e-4)


def test_times_of_a_table_are_its_own():
    """A sigmoid that is 1 in float32 is no time beyond the table."""
    rng = Rng(jax.random.key(0), jnp.arange(64), 64)
    t = np.asarray(LogitNormal(mean=30.0, std=1.0)(Cosine(), rng))
    assert t.max() == 999
    assert np.asarray(LogitNormal(mean=30.0)(RectifiedFlow(), rng)).max() < 1


def test_a_truncation_that_cuts_nothing_is_refused():
    with pytest.raises(ValueError, match="power=1"):
        SNR(truncated=True)
    snr = np.geomspace(1e-3, 1e3, 9)
    level = Level(*(np.float32(a) for a in (0 * snr, (snr / (1 + snr)) ** 0.5, (1 + snr) ** -0.5)))
    got = SNR(power=1.0, truncated=True)(Linear(), level)
    np.testing.assert_allclose(got, np.maximum(snr, 1) / snr, rtol=1e-4)


def test_the_sigmoid_weighs_the_bound_whatever_the_schedule():
    """Kingma & Gao 2023: 1/2 E_t[w(lambda) (-d lambda / dt) eps-MSE], an integral over
    lambda that no schedule between the same ends changes."""
    bias, ends = 1.5, (-8.0, 8.0)
    totals = []
    for schedule in (ContinuousCosine(*ends), EDM(np.exp(-4.0), np.exp(4.0))):
        t = (
            schedule.t_min
            + (schedule.t_max - schedule.t_min) * (np.arange(400_000) + 0.5) / 400_000
        )
        level = schedule.level(t)
        eps_mse = expit(level.logsnr)  # of the best denoiser of a standard normal
        level = Level(*(jnp.asarray(a, jnp.float32) for a in level))
        weight = loss_weight(schedule, level, Eps(), SigmoidWeighting(bias))
        totals.append(np.mean(np.asarray(weight, np.float64) * eps_mse))
    logsnr = np.linspace(*ends, 200_001)
    exact = np.trapezoid(expit(bias - logsnr) * expit(logsnr), logsnr) / 2
    np.testing.assert_allclose(totals, exact, rtol=2e-3)


def test_uniform_times_reach_the_greatest_that_is_checked():
    """The law above looks at t_max (1 - 2^-24): no uniform draw lies beyond."""
    rng = Rng(jax.random.key(1), jnp.arange(4096), 4096)
    t = np.asarray(Uniform(antithetic=True)(RectifiedFlow(), rng), np.float64)
    assert t.max() <= 1e-3 + (1 - 1e-3) * (1 - 2.0**-24) + 2.0**-24 and t.max() < 1
