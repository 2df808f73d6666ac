"""The two-dimensional study: its data are known exactly, and its claims hold of the exact denoiser
before they are asked of a trained one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.diffusion.levels import Level
from diffjax.diffusion.sampling import Estimate
from diffjax.diffusion.schedules import Cosine
from diffjax.models import build_model
from diffjax.models.conditioning import Conditioning
from experiments.studies.spiral.claims import CLAIMS
from experiments.studies.spiral.measures import Walks, level_of, measure
from experiments.studies.spiral.points import ARMS, BOTH, PointLoader, Spiral

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def spiral():
    """As the study's, with fewer nodes: 0.02 apart, half a deviation of the points."""
    return Spiral(nodes=150)


@pytest.mark.parametrize("label", [0, 1, BOTH])
def test_the_exact_denoiser_is_the_score(spiral, label):
    """Tweedie: x_hat = (z + sigma^2 grad log p(z)) / alpha, the density written out by itself."""
    level = level_of(Cosine(), 0.4)
    arms = range(ARMS) if label == BOTH else [label]
    centres = jnp.asarray(np.concatenate([spiral.centres[a] for a in arms]))
    var = (level.alpha * spiral.noise) ** 2 + level.sigma**2

    def log_p(z):
        return jax.nn.logsumexp(-jnp.sum((z - level.alpha * centres) ** 2, -1) / (2 * var))

    z = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (16, 2)), jnp.float32)
    expected = (z + level.sigma**2 * jax.vmap(jax.grad(log_p))(z)) / level.alpha
    got = spiral.estimate(z, level, jnp.full(16, label)).x
    np.testing.assert_allclose(got, expected, atol=2e-5)


def test_levels_may_differ_within_a_batch(spiral):
    one, two = level_of(Cosine(), 0.2), level_of(Cosine(), 2.0)
    both = Level(*(jnp.stack([a, b]) for a, b in zip(one, two, strict=True)))
    z, label = jnp.array([[0.3, -0.2], [0.5, 0.1]]), jnp.array([0, BOTH])
    got = spiral.estimate(z, both, label).x
    for i, level in enumerate((one, two)):
        alone = spiral.estimate(z[i : i + 1], level, label[i : i + 1]).x
        np.testing.assert_allclose(got[i], alone[0], atol=1e-5)


def test_points_lie_about_their_own_arm(spiral):
    x, arm = spiral.draw(4000, np.random.default_rng(0))
    distance, nearest, node = spiral.nearest(x)
    assert np.mean(nearest == arm) > 0.99 and abs(np.mean(arm) - 0.5) < 0.03
    # Across the curve alone; the mean of |N(0, noise^2)|.
    assert np.mean(distance) == pytest.approx(spiral.noise * (2 / np.pi) ** 0.5, rel=0.1)
    # u is uniform, so every stretch of nodes is as full as another.
    counts = np.bincount(node * 10 // spiral.nodes, minlength=10)
    assert counts.min() > 0.8 * counts.max()


def test_batches_are_a_function_of_seed_and_step(spiral):
    loader = PointLoader(spiral, 32, seed=3)
    resumed = loader.iterate(5)
    np.testing.assert_array_equal(next(resumed)["image"], loader.batch(5)["image"])
    assert not np.array_equal(loader.batch(5)["image"], loader.batch(6)["image"])
    assert not np.array_equal(
        loader.batch(5)["image"], PointLoader(spiral, 32, seed=4).batch(5)["image"]
    )
    rows = np.array([3, 8])
    np.testing.assert_array_equal(loader.batch(5, rows)["label"], loader.batch(5)["label"][rows])


def test_the_exact_denoiser_bears_out_every_claim(spiral):
    results = measure(Walks(spiral.estimate, Cosine(), count=200), spiral)
    for claim in CLAIMS:
        assert claim.holds(results), (claim.label, claim.value(results))


def test_a_denoiser_of_one_gaussian_does_not(spiral):
    """The claims can fail: mean and variance of the data are all that this network learned."""

    def blob(z, level, label):
        var = 0.25 * level.alpha**2 + level.sigma**2
        return Estimate(0.25 * level.alpha / var * z)

    results = measure(Walks(blob, Cosine(), count=100), spiral)
    failed = {claim.label for claim in CLAIMS if not claim.holds(results)}
    assert failed >= {
        "also where it is finest",
        "and what the arm adds to it",
        "a condition is met",
        "guidance narrows",
    }


def test_mlp_is_told_level_and_class():
    model = build_model("mlp", out_channels=2, width=16, depth=1, num_classes=2)
    x, t = jnp.ones((3, 2)), jnp.array([1.0, 500.0, 1.0])
    label = jnp.array([0, 0, 1])
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x, t, Conditioning(label)))
    # Random everywhere: the last layer would start at zero, and let nothing be seen.
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: rng.standard_normal(a.shape).astype(np.float32), shapes)
    apply = jax.jit(model.apply)
    out = apply(params, x, t, Conditioning(label))
    assert out.shape == (3, 2) and out.dtype == jnp.float32
    assert len(np.unique(np.round(out, 5), axis=0)) == 3
    null = apply(params, x, t, Conditioning(jnp.full(3, 2)))
    np.testing.assert_allclose(apply(params, x, t), null, atol=1e-6)
    with pytest.raises(ValueError, match="needs points"):
        model.apply(params, jnp.ones((3, 2, 2)), t)
    with pytest.raises(ValueError, match="not by a context"):
        model.apply(params, x, t, Conditioning(context=jnp.ones((3, 4, 8))))


@pytest.mark.heavy
def test_the_study_as_the_readme_gives_it(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "experiments.studies.spiral"],
        cwd=tmp_path, env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    folder = tmp_path / "runs" / "spiral"
    results = json.loads((folder / "results.json").read_text())
    for claim in CLAIMS:
        assert claim.holds(results), (claim.label, claim.value(results))
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png") == 4 and 'class="badge unmet"' not in page
