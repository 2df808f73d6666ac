"""Samplers against diffusers' schedulers, over whole trajectories, in float32 on both sides.

One small random network, the same numpy weights in torch and in jax, stands for the model; noise
is drawn once and given to both. Every state on the way is compared, not the last one alone.
"""

from __future__ import annotations

import numpy as np
import pytest

from diffjax.diffusion.grids import Grid, make_grid
from diffjax.diffusion.guidance import Guidance
from diffjax.diffusion.levels import CLEAN, Level
from diffjax.diffusion.predictions import Eps
from diffjax.diffusion.samplers import ancestral, ddim, euler, heun
from diffjax.diffusion.schedules import (
    Linear,
)

torch = pytest.importorskip("torch", reason="parity needs torch: pip install -e '.[parity]'")
diffusers = pytest.importorskip("diffusers", reason="parity needs diffusers: '.[parity]'")

from tests.parity.pairs import every_pair  # noqa: E402
from tests.parity.trajectories import (  # noqa: E402
    PREDICTIONS,
    SIGMA_SPACINGS,
    STEPS,
    TABLES,
    TOLERANCE,
    Model,
    agree,
    draws,
    levels,
    ours,
    theirs,
    torch_network,
)

pytestmark = pytest.mark.parity


def overlapping(schedule, scheduler, final):
    """DDIM and PNDM of diffusers step from t to t - T // N whatever the next t is. With linspace
    times these pairs overlap; they are written down here as they are."""
    t = scheduler.timesteps.numpy()
    below = t - 1000 // STEPS
    end = CLEAN if final == "clean" else schedule.level(np.float64(0))
    s = levels(schedule, np.maximum(below, 0))
    s = Level(*(np.where(below >= 0, a, b) for a, b in zip(s, end, strict=True)))
    return Grid(levels(schedule, t), s, schedule)


@pytest.mark.parametrize("table", sorted(TABLES))
def test_tables(table, record_property):
    """Their float32 products of 1,000 factors, ours in float64."""
    schedule, kw = TABLES[table]
    theirs = diffusers.DDPMScheduler(**kw).alphas_cumprod.numpy().astype(np.float64)
    error = np.max(np.abs(schedule.alphas_cumprod / theirs - 1))
    record_property("relative_error", f"{error:.1e}")
    assert error < TOLERANCE
    zero = diffusers.DDPMScheduler(**kw, rescale_betas_zero_snr=True).alphas_cumprod.numpy()
    rescaled = type(schedule)(zero_terminal_snr=True).alphas_cumprod
    # They clip sqrt(alpha_bar) nowhere and end at 0 by float32 products: compare in absolute.
    np.testing.assert_allclose(rescaled, zero, atol=1e-5)


@every_pair(
    table=["linear", "scaled_linear", "cosine"],
    spacing=["leading", "trailing", "linspace"],
    prediction=sorted(PREDICTIONS),
    variance=["fixed_small", "fixed_large", "learned_range"],
)
def test_ddpm(table, spacing, prediction, variance, start, shared_noise, record_property):
    schedule, kw = TABLES[table]
    scheduler = diffusers.DDPMScheduler(
        **kw,
        variance_type=variance,
        prediction_type=prediction,
        timestep_spacing=spacing,
        clip_sample=False,
    )
    scheduler.set_timesteps(STEPS)
    noise = draws(STEPS)
    # They add noise on the last step unless it is at t = 0; algorithm 2 of the paper never does.
    noise[-1] = 0
    shared_noise(noise)
    learned = variance == "learned_range"
    kind = {"fixed_small": "small", "fixed_large": "large", "learned_range": "learned"}[variance]
    rows = ancestral(make_grid(schedule, STEPS, spacing), kind)
    a = ours(Model(PREDICTIONS[prediction], learned=learned), rows, start)

    states, z = [], torch.from_numpy(start)
    for t in scheduler.timesteps:
        out = torch_network(z, t)
        if learned:
            out = torch.cat([out, torch.tanh(torch_network(z, t + 100.0))], 1)
        z = scheduler.step(out, t, z).prev_sample
        states.append(z.numpy())
    agree(a, np.stack(states).astype(np.float64), record_property)


@pytest.mark.parametrize("bound", ["clip", "threshold"])
def test_ddpm_with_bounded_estimates(bound, start, shared_noise, record_property):
    own = {"clip": Guidance(clip=True), "threshold": Guidance(threshold=90.0)}[bound]
    kw = {
        "clip": dict(clip_sample=True),
        "threshold": dict(
            clip_sample=False,
            thresholding=True,
            dynamic_thresholding_ratio=0.9,
            sample_max_value=1e6,
        ),
    }[bound]
    scheduler = diffusers.DDPMScheduler(beta_schedule="linear", **kw)
    scheduler.set_timesteps(STEPS)
    shared_noise(draws(STEPS))
    rows = ancestral(make_grid(Linear(), STEPS, "leading"), "small")
    a = ours(Model(Eps(), guidance=own), rows, start)
    agree(a, theirs(scheduler, start), record_property)


@every_pair(
    table=["linear", "scaled_linear", "cosine"],
    spacing=["leading", "leading+1", "trailing", "linspace"],
    prediction=sorted(PREDICTIONS),
    eta=[0.0, 1.0],
)
def test_ddim(table, spacing, prediction, eta, start, shared_noise, record_property):
    schedule, kw = TABLES[table]
    name, _, offset = spacing.partition("+")
    scheduler = diffusers.DDIMScheduler(
        **kw,
        prediction_type=prediction,
        timestep_spacing=name,
        steps_offset=int(offset or 0),
        set_alpha_to_one=spacing != "leading+1",  # Stable Diffusion's pair of settings
        clip_sample=False,
    )
    scheduler.set_timesteps(STEPS)
    shared_noise(draws(STEPS))
    final = "first" if offset else "clean"
    if name == "linspace":
        grid = overlapping(schedule, scheduler, final)
    else:
        grid = make_grid(schedule, STEPS, name, int(offset or 0), final)
    a = ours(Model(PREDICTIONS[prediction]), ddim(grid, eta), start)
    agree(a, theirs(scheduler, start, eta=eta), record_property)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddim_clipped(eta, start, shared_noise, record_property):
    """eps follows the clipped estimate here; theirs does so if asked."""
    scheduler = diffusers.DDIMScheduler(beta_schedule="linear", clip_sample=True)
    scheduler.set_timesteps(STEPS)
    shared_noise(draws(STEPS))
    a = ours(
        Model(Eps(), guidance=Guidance(clip=True)),
        ddim(make_grid(Linear(), STEPS, "leading"), eta),
        start,
    )
    b = theirs(scheduler, start, eta=eta, use_clipped_model_output=True)
    agree(a, b, record_property)


def in_sigma(states, rows):
    """Our states over the alpha of the level they lie at: their variance-exploding coordinates."""
    alpha = np.append(rows.at.alpha[1:], 1.0)
    return states / alpha.reshape(-1, 1, 1, 1, 1)


@every_pair(
    sampler=["euler", "heun"],
    table=["linear", "scaled_linear"],
    spacing=sorted(SIGMA_SPACINGS),
    prediction=sorted(PREDICTIONS),
)
def test_euler_and_heun(sampler, table, spacing, prediction, start, record_property):
    schedule, kw = TABLES[table]
    name, options = SIGMA_SPACINGS[spacing]
    kind, rule = {
        "euler": (diffusers.EulerDiscreteScheduler, euler),
        "heun": (diffusers.HeunDiscreteScheduler, heun),
    }[sampler]
    scheduler = kind(**kw, **options, prediction_type=prediction)
    scheduler.set_timesteps(STEPS)
    rows = rule(make_grid(schedule, STEPS, name))
    assert len(scheduler.timesteps) == rows.nfe
    a = in_sigma(ours(Model(PREDICTIONS[prediction]), rows, start), rows)
    b = theirs(scheduler, start / np.float32(rows.at.alpha[0]), scale_input=True)
    agree(a, b, record_property)
