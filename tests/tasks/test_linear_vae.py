"""A VAE whose encoder and decoder are linear is probabilistic PCA (Tipping & Bishop 1999): its
bound, its optimum and its likelihood are known."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from diffjax.keys import Rng
from diffjax.models import build_model
from diffjax.task import Variables
from diffjax.tasks import make_task

SHAPE, LATENT, COUNT = (2, 3, 1), 2, 400
SIZE = 6


@functools.cache
def make(**section):
    network = build_model(
        "vae",
        image_shape=SHAPE,
        latent=LATENT,
        encoder=dict(type="mlp", depth=0),
        decoder=dict(type="mlp", depth=0),
        scale="shared",
    )
    section = {"type": "vae", "likelihood": {"type": "gaussian"}, **section}
    return make_task(section, network, SHAPE, 0)


@pytest.fixture(scope="module")
def data():
    """`[COUNT, SIZE]` of two strong directions and noise."""
    rng = np.random.default_rng(3)
    mix = np.linalg.qr(rng.standard_normal((SIZE, SIZE)))[0][:LATENT] * [[1.5], [0.8]]
    noise = 0.3 * rng.standard_normal((COUNT, SIZE))
    return rng.standard_normal((COUNT, LATENT)) @ mix + noise + rng.standard_normal(SIZE)


def batch(x):
    return {"image": x.reshape(len(x), *SHAPE).astype(np.float32)}


def variables(encoder, decoder, log_scale):
    """Of (kernel, bias) of either half."""
    parts = {
        name: {"out": {"kernel": np.float32(kernel), "bias": np.float32(bias)}}
        for name, (kernel, bias) in {"encoder": encoder, "decoder": decoder}.items()
    }
    return Variables({**parts, "log_scale": np.float32(log_scale)}, {}, {})


def principal(x):
    """Variables of the best pPCA (Tipping & Bishop 1999, eq. 7 and 8, R = I) with its posterior,
    and the log-likelihood of every row."""
    mean = x.mean(0)
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    values, vectors = values[::-1], vectors[:, ::-1]
    noise = values[LATENT:].mean()
    w = (vectors[:, :LATENT] * np.sqrt(values[:LATENT] - noise)).T
    # With these directions the posterior's covariance noise / (w w' + noise) is diagonal.
    precision = np.diag(w @ w.T) + noise
    kernel = np.concatenate([w.T / precision, np.zeros((SIZE, LATENT))], axis=1)
    bias = np.concatenate([-mean @ w.T / precision, np.log(noise / precision)])
    log_p = stats.multivariate_normal.logpdf(x, mean, w.T @ w + noise * np.eye(SIZE))
    return variables((kernel, bias), (w, mean), 0.5 * np.log(noise)), log_p


def anywhere():
    rng = np.random.default_rng(1)
    encoder = (0.3 * rng.standard_normal((SIZE, 2 * LATENT)), 0.3 * rng.standard_normal(4))
    return variables(encoder, (0.5 * rng.standard_normal((LATENT, SIZE)), np.ones(SIZE)), -0.4)


def analytic(held, x):
    """The bound of every row in closed form, float64."""
    kernel, bias, w, mean = (
        np.asarray(held.params[name]["out"][part], np.float64)
        for name in ("encoder", "decoder")
        for part in ("kernel", "bias")
    )
    m, log_v = np.split(x @ kernel + bias, 2, axis=1)
    noise = np.exp(2 * float(held.params["log_scale"]))
    square = ((x - m @ w - mean) ** 2).sum(1) + np.exp(log_v) @ (w**2).sum(1)
    kl = 0.5 * (m**2 + np.exp(log_v) - 1 - log_v).sum(1)
    return -0.5 * SIZE * np.log(2 * np.pi * noise) - square / (2 * noise) - kl


def marginal(held, x):
    """log p(x) of every row."""
    w, mean = (np.asarray(held.params["decoder"]["out"][k], np.float64) for k in ("kernel", "bias"))
    cov = w.T @ w + np.exp(2 * float(held.params["log_scale"])) * np.eye(SIZE)
    return stats.multivariate_normal.logpdf(x, mean, cov)


@functools.partial(jax.jit, static_argnums=(0, 1))
def bound(pred, samples, held, seed, given):
    return make().predict_fns()[pred](held, seed, given, samples=samples)


def test_the_bound_equals_its_analytic_value(data):
    held, x = anywhere(), data[:40]
    got = [bound("elbo", 2000, held, s, batch(x))["nats"] for s in range(6)]
    mean, error = np.mean(got, 0), np.std(got, 0, ddof=1).max() / np.sqrt(6)
    exact = analytic(held, x)
    assert error < 0.2 and np.abs(mean - exact).max() < 5 * error
    # Below the log-likelihood by the divergence from the true posterior.
    assert (exact < marginal(held, x)).all()


def test_at_the_closed_form_optimum_bound_and_likelihood_of_ppca_are_one(data):
    """With the exact posterior every sample's weight is p(x): no noise is left."""
    held, log_p = principal(data)
    got = bound("iwae", 3, held, 0, batch(data))
    np.testing.assert_allclose(got["nats"], log_p, atol=2e-3)
    np.testing.assert_allclose(got["effective_samples"], 3, rtol=1e-3)
    np.testing.assert_allclose(analytic(held, data), log_p, atol=1e-4)
    nats = np.mean(bound("elbo", 500, held, 1, batch(data))["nats"])
    assert abs(nats - log_p.mean()) < 0.02


@pytest.mark.parametrize("section", [{}, {"importance_weighted": True}], ids=["elbo", "iwae"])
def test_gradient_ascent_from_a_random_start_reaches_ppcas_likelihood(data, section):
    task, given = make(samples=4, **section), batch(data)
    steps = 800
    optimizer = optax.adam(optax.cosine_decay_schedule(0.03, steps))

    def update(carry, step):
        params, state = carry
        rng = Rng(jax.random.fold_in(jax.random.key(0), step), jnp.arange(COUNT), COUNT)
        grads = jax.grad(lambda p: task.loss(p, {}, {}, given, rng, True).loss.mean())(params)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def trained(params):
        return jax.lax.scan(update, (params, optimizer.init(params)), jnp.arange(steps))[0][0]

    start = jax.jit(task.init)(jax.random.key(5), given)
    held = Variables(trained(start.params), {}, {})
    best = principal(data)[1].mean()
    assert analytic(start, data).mean() < best - 1
    assert best - 0.02 < marginal(held, data).mean() <= best + 1e-6
    if not section:  # the importance-weighted bound does not ask for the best posterior
        assert best - 0.02 < analytic(held, data).mean() <= best + 1e-6


def test_more_importance_samples_raise_the_bound_to_the_log_likelihood(data):
    """With a posterior that is too wide and lies beside the true one."""
    held, log_p = principal(data)
    out = held.params["encoder"]["out"]
    out["bias"] = out["bias"] + np.repeat(np.float32([0.15, 1.0]), LATENT)
    got = [np.mean(bound("iwae", k, held, 0, batch(data))["nats"]) for k in (1, 2, 4, 16, 1024)]
    assert (np.diff(got) > 0.02).all()
    assert got[0] < log_p.mean() - 0.3
    assert abs(got[-1] - log_p.mean()) < 0.005
    np.testing.assert_allclose(got[0], analytic(held, data).mean(), atol=0.15)
