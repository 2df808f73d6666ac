"""The last steps of a grid by strength, and how many evaluations a recipe really runs."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.diffusion.grids import Grid, last_steps
from diffjax.diffusion.guidance import classifier_free
from diffjax.diffusion.recipes import make_recipe
from diffjax.diffusion.sampling import Estimate, sample
from diffjax.diffusion.schedules import Cosine, ScaledLinear

SCHEDULE = ScaledLinear()


def counted(recipe, strength):
    """(evaluations of the sampler, images that the network saw of one), by running it."""
    seen = []

    def estimate(z, at, to, cond):
        seen.append(len(z))
        return Estimate(0.1 * z)

    guided = classifier_free(estimate, jnp.zeros((1, 2)), jnp.zeros((1, 2)), recipe.guidance)
    rows = recipe.rows(SCHEDULE, strength)
    import jax

    with jax.disable_jit():
        sample(guided, rows, jnp.ones((1, 2)), jax.random.split(jax.random.key(0), 1))
    return len(seen), sum(seen)


@pytest.mark.parametrize(
    ("options", "strength"),
    [
        (dict(sampler="ddim", steps=4), 0.5),
        (dict(sampler="heun", steps=4), 0.5),
        (dict(sampler="pndm", steps=8), 0.6),
        (dict(sampler="heun", steps=3, guidance=2.0), 1.0),
        (dict(sampler="euler", steps=6, guidance=2.0, guidance_low=0.5, guidance_high=5.0), 0.9),
    ],
    ids=str,
)
def test_the_protocol_counts_what_is_run(options, strength):
    recipe = make_recipe(**options)
    said = recipe.describe(SCHEDULE, strength)
    assert (said["nfe"], recipe.passes(SCHEDULE, strength)) == counted(recipe, strength)
    assert said["steps"] == options["steps"]


def test_the_least_strength_that_is_named_works_and_less_does_not():
    for steps in (*range(1, 60), 97, 250, 999, 1000):
        levels = SCHEDULE.level(np.arange(steps))
        grid = Grid(levels, levels, SCHEDULE)
        with pytest.raises(ValueError, match=rf"none of {steps} step") as error:
            last_steps(grid, math.nextafter(1 / steps, 0) * 0.99)
        assert "\n" not in str(error.value)
        least = float(str(error.value).partition("take ")[2].split()[0])
        assert last_steps(grid, least).steps == 1
        assert least <= 1.01 / steps + 1e-12


@pytest.mark.parametrize("strength", [-0.1, 1.01, float("nan")])
def test_a_strength_outside_is_refused(strength):
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
        make_recipe(steps=4).rows(Cosine(), strength)


def test_all_of_a_grid_is_the_grid():
    whole = make_recipe(steps=7).make_grid(SCHEDULE)
    np.testing.assert_array_equal(last_steps(whole, 1.0).t.alpha, whole.t.alpha)
    half = last_steps(whole, 0.5)
    np.testing.assert_array_equal(half.t.alpha, whole.t.alpha[-3:])
    np.testing.assert_array_equal(half.s.alpha, whole.s.alpha[-3:])
