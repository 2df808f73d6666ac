"""Multistep solvers, flow matching and EDM against diffusers; see `trajectories`."""

from __future__ import annotations

import numpy as np
import pytest

from diffjax.diffusion.grids import Grid, level_at_ratio, make_grid
from diffjax.diffusion.levels import CLEAN, Level
from diffjax.diffusion.predictions import EDMPrecondition, Flow
from diffjax.diffusion.samplers import dpmpp_2m, euler, plms, pndm
from diffjax.diffusion.schedules import (
    EDM,
    RectifiedFlow,
)

torch = pytest.importorskip("torch", reason="parity needs torch: pip install -e '.[parity]'")
diffusers = pytest.importorskip("diffusers", reason="parity needs diffusers: '.[parity]'")

from tests.parity.pairs import every_pair  # noqa: E402
from tests.parity.trajectories import (  # noqa: E402
    PREDICTIONS,
    SIGMA_SPACINGS,
    STEPS,
    TABLES,
    Model,
    agree,
    draws,
    levels,
    ours,
    theirs,
)

pytestmark = pytest.mark.parity


def dpm_grid(schedule, scheduler, spacing, steps):
    """Their leading and linspace grids are those of N + 1 points without the last; on a Karras grid
    they round the time that the network sees."""
    t = scheduler.timesteps.numpy().astype(np.float64)
    if spacing in ("karras", "log_snr"):
        visited = make_grid(schedule, steps, spacing).t
        own = level_at_ratio(schedule, visited.ratio)
        level = Level(t, own.alpha, own.sigma)
    else:
        level = levels(schedule, t)
    s = Level(*(np.append(a[1:], b) for a, b in zip(level, CLEAN, strict=True)))
    return Grid(level, s, schedule)


@every_pair(
    table=["linear", "scaled_linear"],
    spacing=sorted(SIGMA_SPACINGS),
    prediction=sorted(PREDICTIONS),
    algorithm=["dpmsolver++", "sde-dpmsolver++"],
)
def test_dpm_solver(algorithm, prediction, spacing, table, start, shared_noise, record_property):
    """Below 15 steps their last step is of first order on any grid, above where it ends clean."""
    steps = {"linear": 10, "scaled_linear": 20}[table]
    schedule, kw = TABLES[table]
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **kw,
        **SIGMA_SPACINGS[spacing][1],
        prediction_type=prediction,
        algorithm_type=algorithm,
        solver_order=2,
        solver_type="midpoint",
    )
    scheduler.set_timesteps(steps)
    shared_noise(draws(steps))
    rows = dpmpp_2m(
        dpm_grid(schedule, scheduler, spacing, steps), stochastic=algorithm.startswith("sde")
    )
    a = ours(Model(PREDICTIONS[prediction]), rows, start)
    agree(a, theirs(scheduler, start), record_property)


@every_pair(
    place=[
        *(
            (t, s)
            for t in ("linear", "scaled_linear")
            for s in ("leading", "leading+1", "trailing")
        ),
        # not trailing: from sigma / alpha = 2e4 their first step multiplies rounding by 3e3
        ("cosine", "leading"),
    ],
    method=["plms", "pndm"],
    prediction=["epsilon", "v_prediction"],
)
def test_pndm(place, method, prediction, start, record_property):
    """Not with linspace: there their second evaluation starts from a level, t_1 + T // N, which
    the state never was at. With v-prediction they extrapolate v, not eps."""
    table, spacing = place
    schedule, kw = TABLES[table]
    name, _, offset = spacing.partition("+")
    scheduler = diffusers.PNDMScheduler(
        **kw,
        prediction_type=prediction,
        timestep_spacing=name,
        steps_offset=int(offset or 0),
        skip_prk_steps=method == "plms",
        set_alpha_to_one=spacing == "trailing",
    )
    scheduler.set_timesteps(STEPS)
    final = "clean" if spacing == "trailing" else "first"
    grid = make_grid(schedule, STEPS, name, int(offset or 0), final)
    of = "v" if prediction == "v_prediction" else "eps"
    rows = {"plms": plms, "pndm": pndm}[method](grid, extrapolate=of)
    assert len(scheduler.timesteps) == rows.nfe
    a = ours(Model(PREDICTIONS[prediction]), rows, start)
    agree(a, theirs(scheduler, start), record_property)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_match_euler(shift, start, record_property):
    """Their network sees 1000 sigma."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / STEPS, STEPS))
    rows = euler(make_grid(RectifiedFlow(shift=shift, epsilon=0.0), STEPS, "trailing"))
    a = ours(Model(Flow(), sees_sigma=True), rows, start)
    agree(a, theirs(scheduler, start), record_property)


@pytest.mark.parametrize("spacing", ["karras", "log_snr"])
def test_edm_euler(spacing, start, record_property):
    kind = {"karras": "karras", "log_snr": "exponential"}[spacing]
    scheduler = diffusers.EDMEulerScheduler(sigma_schedule=kind)
    scheduler.set_timesteps(STEPS)
    rows = euler(make_grid(EDM(), STEPS, spacing))
    a = ours(Model(EDMPrecondition(), EDM()), rows, 80 * start)
    agree(a, theirs(scheduler, 80 * start, scale_input=True), record_property)


@pytest.mark.parametrize("algorithm", ["dpmsolver++", "sde-dpmsolver++"])
def test_edm_dpm_solver(algorithm, start, shared_noise, record_property):
    scheduler = diffusers.EDMDPMSolverMultistepScheduler(
        algorithm_type=algorithm, solver_order=2, final_sigmas_type="zero"
    )
    scheduler.set_timesteps(STEPS)
    shared_noise(draws(STEPS))
    rows = dpmpp_2m(make_grid(EDM(), STEPS, "karras"), stochastic=algorithm.startswith("sde"))
    a = ours(Model(EDMPrecondition(), EDM()), rows, 80 * start)
    agree(a, theirs(scheduler, 80 * start, scale_input=True), record_property)
