"""Laws of guidance by a gradient, on a Gaussian where all is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.diffusion.gradient_guidance import ClipGuidance, guide_by_gradient
from diffjax.diffusion.grids import make_grid
from diffjax.diffusion.levels import Level, take
from diffjax.diffusion.recipes import make_recipe
from diffjax.diffusion.samplers import ddim
from diffjax.diffusion.sampling import Estimate, sample
from diffjax.diffusion.schedules import Cosine

MEAN, STD, SCALE = 0.3, 0.7, 1.5
TILT = np.array([1.0, -0.5, 0.0, 0.25], np.float32)
Z = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)


def denoiser(mean):
    """The exact one of N(mean, STD^2); its v is the estimate's own half."""

    def denoise(z, at, to):
        share = at.alpha * STD**2 / (at.alpha**2 * STD**2 + at.sigma**2)
        x = mean + share * (z - at.alpha * mean)
        return Estimate(x, 0.5 * x)

    return denoise


def of_estimate(z, x, at):
    """A linear "CLIP" of the clean image."""
    return x @ TILT


def of_state(z, x, at):
    """log E[exp(tilt x) | z], but for a constant: what a perfect noise-aware one would say."""
    return denoiser(MEAN)(z, at, at).x @ TILT


def level(t):
    return Level(*(jnp.float32(a) for a in Cosine().level(np.float64(t))))


@pytest.mark.parametrize("fit", [of_estimate, of_state])
@pytest.mark.parametrize("t", [3, 400, 900])
def test_the_guided_score_is_that_of_the_tilted_distribution(fit, t):
    """p(x) exp(s w x) is N(mean + s STD^2 w, STD^2), whose denoiser is known."""
    at = level(t)
    got = guide_by_gradient(denoiser(MEAN), fit, SCALE)(Z, at, at)
    wanted = denoiser(MEAN + SCALE * STD**2 * TILT)(Z, at, at).x
    np.testing.assert_allclose(got.x, wanted, rtol=2e-4, atol=2e-4)
    plain = denoiser(MEAN)(Z, at, at)
    np.testing.assert_allclose(got.v, plain.v, rtol=1e-6)  # variance is the network's
    assert np.abs(got.x - plain.x).max() > 1e-4
    # In the other form: eps moves by -sigma s grad.
    gradient = jax.grad(lambda z: fit(z, denoiser(MEAN)(z, at, at).x, at).sum())(Z)
    eps = lambda x: (Z - at.alpha * x) / at.sigma  # noqa: E731
    np.testing.assert_allclose(
        eps(got.x), eps(plain.x) - at.sigma * SCALE * gradient, rtol=2e-3, atol=2e-3
    )


def test_samples_are_of_the_tilted_distribution():
    grid = make_grid(Cosine(), 200, "trailing")
    rows = ddim(grid)
    z = np.random.default_rng(1).standard_normal((4000, 4)).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), len(z))
    # From the level that it starts at: the exact marginal of the tilted data there.
    start = take(grid.t, 0)
    moved = MEAN + SCALE * STD**2 * TILT
    z = start.alpha * moved + np.hypot(start.alpha * STD, start.sigma) * z
    denoise = guide_by_gradient(denoiser(MEAN), of_estimate, SCALE)
    out = np.asarray(sample(denoise, rows, jnp.float32(z), keys))
    np.testing.assert_allclose(out.mean(0), moved, atol=0.05)
    np.testing.assert_allclose(out.std(0), STD, atol=0.05)


def test_scale_nought_changes_nothing_and_an_estimate_without_signal_does_not_move():
    at = level(500)
    plain = denoiser(MEAN)(Z, at, at).x
    same = guide_by_gradient(denoiser(MEAN), of_estimate, 0.0)(Z, at, at).x
    np.testing.assert_array_equal(same, plain)
    none = Level(jnp.float32(999), jnp.float32(0), jnp.float32(1))
    for fit in (of_estimate, lambda z, x, at: z @ TILT):
        held = guide_by_gradient(denoiser(MEAN), fit, SCALE)(Z, none, none).x
        np.testing.assert_array_equal(held, denoiser(MEAN)(Z, none, none).x)


def test_a_recipe_says_it_where_there_is_any():
    plain, guided = make_recipe(), make_recipe(clip_guidance=2.0, cutouts=4, cutout_power=0.5)
    assert plain.clip == ClipGuidance() == make_recipe(clip_guidance=0.0).clip
    said = guided.describe(Cosine())
    assert {k: said[k] for k in ("clip_guidance", "cutouts", "cutout_power")} == {
        "clip_guidance": 2.0, "cutouts": 4, "cutout_power": 0.5,
    }  # fmt: skip
    assert plain.describe(Cosine()) == {
        k: v for k, v in said.items() if k not in ("clip_guidance", "cutouts", "cutout_power")
    }
    # Scales are numbers of one program; whether there is one is part of it.
    assert guided.clip.static == make_recipe(clip_guidance=7.0, cutouts=4,
                                             cutout_power=0.5).clip.static  # fmt: skip
    assert plain.clip.static != guided.clip.static
    assert guided.plan(Cosine()).clip_scale == np.float32(2.0)
    for wrong in (dict(clip_guidance=1e6), dict(cutouts=-1), dict(cutout_power=0.0)):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            make_recipe(**wrong)
