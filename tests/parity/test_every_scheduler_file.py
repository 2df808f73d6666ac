"""Every sampler over every scheduler file, as `from_config` of diffusers' class draws, whole.

The largest error of any state is below 1e-5 of its largest value, and what float32 loses there:
they hold states in units of sigma / alpha, so that a step from 100 down to 1 loses two digits, and
from levels almost without signal eps loses as many as sigma / alpha has.
"""

from __future__ import annotations

import inspect
import math
import random
from functools import partial

import numpy as np
import pytest

from diffjax.diffusion.scheduler_grids import RULES
from diffjax.diffusion.step_table import FULL_NOISE
from diffjax.interop.scheduler import SAMPLERS, read_scheduler
from diffjax.interop.scheduler_configs import CLASSES

torch = pytest.importorskip("torch", reason="parity needs torch: pip install -e '.[parity]'")
diffusers = pytest.importorskip("diffusers", reason="parity needs diffusers: '.[parity]'")

from tests.parity.scheduler_files import LINEAR, SD, SOURCES, Pair, error  # noqa: E402

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
STEPS = (4, 7)
MORE_STEPS = (1, 2, 3, 13, 20, 50, 96, 250, 999)


def tolerance(pair, steps):
    recipe = pair.recipe(steps)
    ratio = recipe.make_grid(pair.schedule).t.ratio
    after = np.append(ratio[1:], 0)
    fall = ratio / np.maximum(after, 1)
    if pair.sampler in ("heun", "ode"):  # which divides by the next level again
        fall[:-1] *= ratio[:-1] / ratio[1:]
        fall *= 10 if recipe.guidance.clip else 1  # to an image that is small beside its state
    lost = max(fall.max(), ratio[0]) if ratio[0] > FULL_NOISE else fall.max()
    return 1e-5 + 3e-7 * lost


def not_comparable(pair, steps):
    """Why a case is drawn otherwise here on purpose, or None."""
    recipe, size = pair.recipe(steps), T(pair)
    spacing = recipe.grid.get("between", recipe.grid["spacing"])
    if spacing == "trailing" and len(np.arange(size, 0, -size / steps)) != steps:
        return "their arange has a time too many, -1"
    spaced = recipe.grid["spacing"] != spacing and recipe.grid["final"] == "first"
    if spaced and recipe.options.get("stochastic"):
        return "their last step goes nowhere, and takes the root of what rounding makes of it"
    pndm = SAMPLERS[pair.sampler] == "PNDMScheduler"
    if pndm and pair.sampling.prediction["type"] == "x0":
        return "theirs refuses prediction_type='sample'"
    first = recipe.make_grid(pair.schedule).t.ratio[0]
    eps = pair.sampling.prediction["type"] == "eps" or first > 1e6
    if first >= FULL_NOISE and (pair.sampler in ("heun", "ode") or (pndm and eps)):
        return "their first step weighs differences of eps by sigma / alpha > 1000"
    return None


def T(pair):
    return int(pair.schedule.t_max) + 1


def agree(pair, steps, monkeypatch, strength=None):
    # Theirs adds noise on the last step unless it is at t = 0; algorithm 2 of the paper never does.
    last = 0.0 if pair.sampler == "ddpm" else 1.0
    a, b = pair.ours(steps, strength, last), pair.theirs(steps, monkeypatch, strength, last)
    found = error(a, b)
    assert found < tolerance(pair, steps), (pair.sampler, steps, found)
    return found


HEAVY = pytest.mark.heavy


@pytest.mark.parametrize("sampler", [pytest.param(s, marks=HEAVY if s == "ode" else ())
                                     for s in SAMPLERS])  # fmt: skip
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("steps", [STEPS, pytest.param(MORE_STEPS, marks=HEAVY)],
                         ids=["few", "many"])  # fmt: skip
def test_every_sampler_over_every_file(
    source, sampler, steps, tmp_path, monkeypatch, record_property
):
    pair, worst = Pair.of(*SOURCES[source], sampler, tmp_path), 0.0
    for n in steps:
        # Runge-Kutta takes four steps; DPM-Solver's n + 1 times do not fit, from 0 or from 1.
        if (sampler == "pndm" and n < 4) or (sampler == "dpmpp_2m" and n == 999) or n > T(pair):
            try:
                assert np.isfinite(pair.ours(n)).all() and sampler == "dpmpp_2m"
            except ValueError as refused:
                assert any(word in str(refused) for word in ("at least", "takes 1", "leaves the"))
        elif not_comparable(pair, n):
            assert np.isfinite(pair.ours(n)).all()
        else:
            worst = max(worst, agree(pair, n, monkeypatch))
    record_property("relative_error", f"{worst:.1e}")


@pytest.mark.parametrize("sampler", [s for s in SAMPLERS if SAMPLERS[s] != "PNDMScheduler"])
@pytest.mark.parametrize("source", [
    pytest.param(s, marks=() if s in ("sd1", "sd_turbo", "sigma_min", "euler_karras") else HEAVY)
    for s in SOURCES
])  # fmt: skip
def test_an_image_to_start_from(source, sampler, tmp_path, monkeypatch):
    """As their pipelines do: the last of the times, fractional ones too. PNDM's first step is not
    begun half-way: theirs repeats a time that it then no longer has."""
    pair = Pair.of(*SOURCES[source], sampler, tmp_path)
    for steps in (7, 20):
        if not not_comparable(pair, steps):
            agree(pair, steps, monkeypatch, strength=0.65)


def drawn_file(rng):
    """A file of any class with any of the options that we have, keys missing or another's."""
    either = lambda key, *values: {key: rng.choice(values)} if rng.random() < 0.6 else {}  # noqa: E731
    table = rng.choice([SD, LINEAR, {"beta_schedule": "squaredcos_cap_v2"}, {}])
    settings = {
        **table,
        **either("num_train_timesteps", 1000, 250),
        **either("prediction_type", "epsilon", "v_prediction", "sample"),
        **either("timestep_spacing", "leading", "trailing", "linspace"),
        **either("steps_offset", 0, 1),
        **either("set_alpha_to_one", True, False),
        **either("skip_prk_steps", True, False),
        **either("clip_sample", True, False),
        **either("rescale_betas_zero_snr", True, False, False),
        **either("variance_type", "fixed_small", "fixed_large"),
        **either("final_sigmas_type", "zero", "sigma_min"),
        **either("algorithm_type", "dpmsolver++", "sde-dpmsolver++"),
        **either(rng.choice(["use_karras_sigmas", "use_exponential_sigmas"]), True, False),
    }
    return rng.choice(sorted(CLASSES)), settings


@pytest.mark.parametrize("seeds", [range(2), pytest.param(range(2, 150), marks=HEAVY)],
                         ids=["few", "many"])  # fmt: skip
def test_files_at_random(seeds, tmp_path, monkeypatch):
    """Twelve files a seed: the same trajectory, or one line."""
    compared = 0
    for seed in seeds:
        rng = random.Random(seed)
        for _ in range(12):
            kind, settings = drawn_file(rng)
            sampler, steps = rng.choice(sorted(SAMPLERS)), rng.choice([4, 5, 9, 16, 31, 48])
            said = (seed, kind, settings, sampler, steps)
            try:
                pair = Pair.of(kind, settings, sampler, tmp_path)
                pair.ours(steps)
            except ValueError as refused:
                assert "\n" not in str(refused)
                known = "begins where nothing of the image is left|pndm needs at least"
                assert any(word in str(refused) for word in known.split("|")), (said, refused)
                continue
            if not_comparable(pair, steps):
                assert np.isfinite(pair.ours(steps)).all(), said
            else:
                compared += 1
                try:
                    agree(pair, steps, monkeypatch)
                except Exception as wrong:
                    raise AssertionError(said) from wrong
    assert compared > 6 * len(seeds)


def test_classes_read_the_keys_of_theirs():
    for name, ours in CLASSES.items():
        signature = inspect.signature(getattr(diffusers, name).__init__).parameters
        theirs = {k: p.default for k, p in signature.items() if k != "self"}
        assert ours == theirs, name
    assert set(RULES) == set(CLASSES) == set(SAMPLERS.values())


def raises(kind, match, call):
    with pytest.raises(kind, match=match) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("sampler", ["ddim", "euler", *(pytest.param(s, marks=HEAVY)
                                                        for s in ("ddpm", "plms"))])  # fmt: skip
def test_a_thousand_steps_from_one(sampler, tmp_path, monkeypatch):
    """steps_offset = 1 leaves the table of 1,000: theirs reads beyond its end, or, Euler, names a
    time that the network never saw; ours names the offset."""
    pair = Pair.of(*SOURCES["sd1_saved"], sampler, tmp_path)
    if sampler == "euler":
        scheduler = pair.scheduler()
        scheduler.set_timesteps(1000)
        assert scheduler.timesteps[0] == 1000
    else:
        raises(IndexError, "out of bounds", partial(pair.theirs, 1000, monkeypatch))
    assert "\n" not in raises(
        ValueError, "steps=1000, offset=1 .*offset=0", lambda: pair.ours(1000)
    )
    assert np.isfinite(pair.ours(1000, offset=0)).all()


def test_as_many_steps_as_levels(tmp_path, monkeypatch):
    """DPM-Solver's n + 1 times of n levels repeat one: theirs draws NaN. More steps than levels
    visit levels that are not there."""
    solver = Pair.of(*SOURCES["sd1"], "dpmpp_2m", tmp_path)
    assert np.isnan(solver.theirs(1000, monkeypatch)[-1]).any()
    raises(ValueError, "visits a level twice", lambda: solver.ours(1000))
    for sampler in SAMPLERS:
        pair = Pair.of(*SOURCES["sd1"], sampler, tmp_path)
        raises(ValueError, "steps=1001: .* takes 1 to 1000", lambda p=pair: p.ours(1001))
        raises(ValueError, "steps=0 must be at least 1", lambda p=pair: p.ours(0))


def test_a_time_too_many(tmp_path):
    """arange(1000, 0, -1000 / 61) has 62 entries, by rounding: theirs ends at t = -1, the last
    level of the table."""
    pair = Pair.of(*SOURCES["pndm_trailing"], "ddim", tmp_path)
    scheduler = pair.scheduler()
    scheduler.set_timesteps(61)
    assert len(scheduler.timesteps) == 62 and scheduler.timesteps[-1] == -1
    grid = pair.recipe(61).make_grid(pair.schedule)
    assert grid.steps == 61 and grid.t.t[-1] == 15 and np.isfinite(pair.ours(61)).all()


@pytest.mark.parametrize(
    ("source", "sampler"),
    [("zero_snr", "heun"), ("zero_snr", "plms"), ("bare", "heun"), ("dit", None)],
)
def test_the_table_is_the_network_s(source, sampler, tmp_path):
    """Heun and PNDM do not know rescale_betas_zero_snr, and Heun takes missing betas for Stable
    Diffusion's: there `from_config` leaves the table that the network was trained on."""
    pair = Pair.of(*SOURCES[source], sampler or "ddim", tmp_path)
    own = pair.scheduler().own_table
    off = np.max(np.abs(own - pair.schedule.alphas_cumprod))
    assert off > 1e-3 if sampler else off < 1e-5


def test_heun_from_levels_without_signal(tmp_path, monkeypatch):
    """Ours leaves them by Euler's step: after 50 steps it is within 1 % of the limit, theirs not
    within 10 %."""
    limit = Pair.of(*SOURCES["cosine_trailing"], "ddim", tmp_path).ours(1000)[-1]
    pair = Pair.of(*SOURCES["cosine_trailing"], "heun", tmp_path)
    assert not_comparable(pair, 50)
    a, b = pair.ours(50)[-1], pair.theirs(50, monkeypatch)[-1]
    off = [np.abs(z - limit).max() / np.abs(limit).max() for z in (a, b)]
    assert off[0] < 0.01 and off[1] > 0.1


def test_the_last_noise_of_ddpm(tmp_path, monkeypatch):
    """With an offset theirs adds noise to the finished image; ours is the mean."""
    settings = dict(**LINEAR, variance_type="fixed_large", steps_offset=1, clip_sample=False)
    pair = Pair.of("DDPMScheduler", settings, "ddpm", tmp_path)
    noisy, clean = (pair.theirs(5, monkeypatch, last_noise=k)[-1] for k in (1.0, 0.0))
    ours = pair.ours(5, last_noise=1.0)[-1]
    assert (
        np.abs(ours - clean).max() < 1e-5 * np.abs(clean).max() < 1e-2 * np.abs(noisy - clean).max()
    )


def test_no_image_in_noise(tmp_path, monkeypatch):
    """eps where alpha = 0 says nothing of the image: theirs draws NaN."""
    settings = dict(**SD, rescale_betas_zero_snr=True, timestep_spacing="trailing")
    scheduler = diffusers.DDIMScheduler(**settings)
    scheduler.save_pretrained(tmp_path)
    scheduler.set_timesteps(4)
    z = scheduler.step(torch.ones(1, 1), scheduler.timesteps[0], 2 * torch.ones(1, 1)).prev_sample
    assert not torch.isfinite(z).all() or scheduler.config.clip_sample
    raises(ValueError, "scheduler_config.json: rescale_betas_zero_snr", partial(
        read_scheduler, tmp_path))  # fmt: skip
    assert Pair.of("EulerDiscreteScheduler", settings, "euler", tmp_path).ours(4).shape[0] == 4


def test_rounded_times_that_repeat(tmp_path):
    """DPM-Solver with karras on the cosine table tells 998 twice at first; theirs, called without a
    first index as by their text to image, looks its place up by the time and skips a level."""
    pair = Pair.of(*SOURCES["cosine_karras"], "dpmpp_2m", tmp_path)
    scheduler = pair.source
    scheduler.set_timesteps(7)
    z = torch.zeros(1, 1)
    with pytest.raises(IndexError):
        for t in scheduler.timesteps:
            z = scheduler.step(z, t, z).prev_sample
    assert math.isfinite(pair.ours(7).sum())
