"""The variational bound in bits per dimension, and the exact likelihood of the probability flow."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.diffusion.grids import Grid
from diffjax.diffusion.levels import Level, broadcast_to, take
from diffjax.diffusion.process import diffuse, mean_flat, posterior
from diffjax.diffusion.sampling import Denoiser, Estimate
from diffjax.keys import normal, stream
from diffjax.objectives.elbo import gaussian_kl

LOG2 = math.log(2.0)


def discretized_gaussian_log_likelihood(
    x: Array, mean: Array, log_std: Array, levels: int
) -> Array:
    """`log p(x)` per dimension in nats, x one of `levels` even values in [-1, 1]: the Gaussian's
    mass in x's bin, the outer bins open (Ho et al. 2020, eq. 13)."""
    half = 1.0 / (levels - 1)
    inverse = jnp.exp(-log_std)
    log_cdf, log_sf = jax.scipy.stats.norm.logcdf, jax.scipy.stats.norm.logsf
    # The bin lies in [far, near], mirrored to the lower tail, where its mass does not cancel.
    width = 2 * half * inverse
    middle = -jnp.abs(x - mean) * inverse
    near, far = middle + width / 2, middle - width / 2
    # In float32 the two ends of a very thin bin have one mass: take density times width there.
    thin = width < 1e-3
    drop = jnp.where(thin, -1.0, log_cdf(far) - log_cdf(near))
    inner = jnp.where(
        thin,
        jax.scipy.stats.norm.logpdf(middle) + jnp.log(width),
        log_cdf(near) + jnp.log(-jnp.expm1(drop)),
    )
    below, above = (x - mean + half) * inverse, (x - mean - half) * inverse
    return jnp.where(x < -1 + half, log_cdf(below), jnp.where(x > 1 - half, log_sf(above), inner))


def decoder_log_std(grid: Grid) -> float:
    """Log standard deviation of `p(x | z)` on a grid's last step, whose own posterior has none.

    On a table, the posterior's of the step before, as Ho et al. 2020 and Nichol & Dhariwal 2021
    computed their published bounds; on a continuous schedule `sigma / alpha` of the last level
    (Kingma et al. 2021, appendix C).
    """
    last = take(grid.t, -1)
    if grid.schedule.discrete and grid.steps > 1:
        _, log_small, _ = posterior(jnp.zeros(()), jnp.zeros(()), take(grid.t, -2), last)
        return 0.5 * float(log_small)
    return float(np.log(last.ratio))


def log_variance(estimate: Estimate, log_small: Array, log_large: Array, variance: str) -> Array:
    """The reverse step's log variance: fixed, or interpolated by the network's v
    (Nichol & Dhariwal 2021, eq. 15)."""
    if variance == "learned":
        if estimate.v is None:
            raise ValueError("variance='learned' needs a network trained to predict it")
        share = (estimate.v + 1) / 2
        return share * log_large + (1 - share) * log_small
    if variance not in ("small", "large"):
        raise ValueError(f"variance={variance!r} is unknown; known: small, large, learned")
    chosen = log_small if variance == "small" else log_large
    return jnp.broadcast_to(chosen, estimate.x.shape)


def bound_term(
    estimate: Estimate,
    x: Array,
    z: Array,
    t: Level,
    s: Level,
    variance: str,
    levels: int,
    decoder_log_std: Array | float | None = None,
) -> Array:
    """One term of the bound, nats per dimension `[B]`: `KL(q(z_s|z_t,x) || p(z_s|z_t))`, or where
    s is clean the decoder's `-log p(x|z_t)` (Ho et al. 2020, eq. 5 and 13).

    Args:
      estimate: the network's at z.
      x, z: `[B, ...] float32`; x one of `levels` even values in [-1, 1].
      t, s: levels, [] or [B].
      variance: small, large or learned.
      levels: values a pixel can take (256 for 8 bits).
      decoder_log_std: stands in for the posterior's log standard deviation where s is clean and
        that is -inf (function `decoder_log_std`); None takes sigma_t. With learned variance it is
        the lower end of the range.
    """
    mean, log_small, log_large = posterior(z, x, t, s)
    clean = broadcast_to(s.sigma, x) == 0
    log_small, log_large = broadcast_to(log_small, x), broadcast_to(log_large, x)
    first = log_large if decoder_log_std is None else 2 * decoder_log_std
    log_small = jnp.where(clean, first, log_small)
    if variance == "large":
        log_large = jnp.where(clean, first, log_large)
    log_var = log_variance(estimate, log_small, log_large, variance)
    guess, _, _ = posterior(z, estimate.x, t, s)
    kl = gaussian_kl(mean, log_small, guess, log_var)
    decoder = -discretized_gaussian_log_likelihood(x, guess, 0.5 * log_var, levels)
    return mean_flat(jnp.where(clean, decoder, kl))


def variational_bound(
    denoise: Denoiser,
    grid: Grid,
    x: Array,
    keys: Array,
    variance: str = "large",
    levels: int = 256,
) -> dict[str, Array]:
    """The bound on `-log2 p(x)` in bits per dimension, every term of the grid evaluated once.

    Args:
      denoise: the model.
      grid: steps down to the clean end; the full table for the published protocol.
      x: `[B, ...] float32`, one of `levels` even values in [-1, 1].
      keys: `[B]`, one per example.

    Returns:
      `total`, `prior`, `diffusion`, `decoder` [B] in bits per dimension, `terms` [N, B] (first
      the noisiest), and `mse` [N, B] of eps.

    Raises:
      ValueError: the grid stops short of the clean end, where alone there is a decoder.
    """
    if grid.s.sigma[-1] != 0:
        raise ValueError("the bound needs a grid down to the clean end: make_grid(final='clean')")
    shape = x.shape[1:]
    rows = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), (grid.t, grid.s))
    first = decoder_log_std(grid)

    def one(_: None, scanned: tuple[Array, tuple[Level, Level]]):
        i, (t, s) = scanned
        step_keys = jax.vmap(lambda k: jax.random.fold_in(stream(k, "bound"), i))(keys)
        eps = normal(step_keys, shape)
        z = diffuse(x, eps, t)
        estimate = denoise(z, t, s)
        eps_hat = (z - broadcast_to(t.alpha, z) * estimate.x) / broadcast_to(t.sigma, z)
        term = bound_term(estimate, x, z, t, s, variance, levels, first)
        return None, (term / LOG2, mean_flat((eps - eps_hat) ** 2))

    _, (terms, mse) = jax.lax.scan(one, None, (jnp.arange(grid.steps), rows))
    alpha, sigma = float(grid.t.alpha[0]), float(grid.t.sigma[0])
    prior_std = float(np.asarray(grid.schedule.prior_std(Level(0.0, alpha, sigma))))
    prior = mean_flat(
        gaussian_kl(alpha * x, jnp.float32(2 * math.log(sigma)), jnp.zeros_like(x),
                    jnp.float32(2 * math.log(prior_std)))
    ) / LOG2  # fmt: skip
    return {
        "total": prior + terms.sum(0),
        "prior": prior,
        "diffusion": terms[:-1].sum(0),
        "decoder": terms[-1],
        "terms": terms,
        "mse": mse,
    }


def flow_log_likelihood(
    denoise: Denoiser,
    grid: Grid,
    x: Array,
    keys: Array,
    probes: int | None = 1,
) -> tuple[Array, Array]:
    """Exact `log p(x)` in nats by the probability-flow ODE (Song et al. 2021b, eq. 39 and 40).

    With `y = z / alpha` and `r = sigma / alpha` it is `dy/dr = (y - x_hat) / r`, whose divergence
    per `d log r` is `D - tr(d x_hat / d y)`. The state goes by Heun's method in r over the grid's
    levels, from its least (x is taken to lie there) to its noisiest, where the prior is a Gaussian;
    of the divergence D is integrated exactly, and the trace, which lies in [0, D], by trapezia.

    Args:
      denoise: the model, differentiable in z.
      grid: the levels visited; finer is more exact.
      x: `[B, ...] float32` at the grid's least level.
      keys: `[B]`, one per example, for the probes.
      probes: Rademacher vectors of Hutchinson's estimate of the divergence, held fixed along the
        path; None takes the exact trace (one vjp per dimension).

    Returns:
      log-likelihood per example [B] in nats, and the state at the noisy end `[B, ...]`.

    Raises:
      ValueError: a grid that starts without signal, where `sigma / alpha` has no end.
    """
    if grid.t.alpha[0] < 1e-8:
        raise ValueError(
            "the probability flow is integrated in sigma / alpha, which is infinite at the grid's "
            "first level (alpha = 0): take another spacing or schedule"
        )
    up = [np.asarray(a)[::-1].copy() for a in grid.t]
    levels = Level(*(jnp.asarray(a, jnp.float32) for a in up))
    guess = _estimate_and_trace(denoise, x, keys, probes)

    def step(carry: tuple[Array, Array], pair: tuple[Level, Level]):
        y, traced = carry
        low, high = pair
        dr = high.ratio - low.ratio
        x1, trace1 = guess(y, low)
        d1 = (y - x1) / low.ratio
        x2, trace2 = guess(y + dr * d1, high)
        d2 = (y + dr * d1 - x2) / high.ratio
        gap = jnp.log(high.ratio) - jnp.log(low.ratio)
        return (y + dr * (d1 + d2) / 2, traced + gap * (trace1 + trace2) / 2), None

    pairs = jax.tree.map(lambda a: a[:-1], levels), jax.tree.map(lambda a: a[1:], levels)
    first, last = (Level(*(a[i] for a in up)) for i in (0, -1))
    (y, traced), _ = jax.lax.scan(step, (x / float(first.alpha), jnp.zeros(len(x))), pairs)
    z = y * float(last.alpha)
    std = float(np.asarray(grid.schedule.prior_std(last)))
    size = math.prod(x.shape[1:])
    log_prior = -0.5 * (mean_flat((z / std) ** 2) + math.log(2 * math.pi * std**2)) * size
    # d log r integrates to log(r_last / r_first), and z = alpha y turns r into sigma.
    return log_prior + size * float(np.log(last.sigma / first.sigma)) - traced, z


def _estimate_and_trace(
    denoise: Denoiser, x: Array, keys: Array, probes: int | None
) -> Callable[[Array, Level], tuple[Array, Array]]:
    """`(y, level) -> (x_hat, tr(d x_hat / d y) [B])`."""
    shape = x.shape[1:]
    size = math.prod(shape)
    if probes is None:
        basis = jnp.eye(size).reshape(size, 1, *shape)
        vectors = jnp.broadcast_to(basis, (size, *x.shape))
        scale = 1.0
    else:
        probe_keys = [jax.vmap(lambda k, n=n: stream(k, f"probe{n}"))(keys) for n in range(probes)]
        draw = jax.vmap(lambda k: jax.random.rademacher(k, shape, jnp.float32))
        vectors = jnp.stack([draw(k) for k in probe_keys])
        scale = 1.0 / probes

    def both(y: Array, level: Level) -> tuple[Array, Array]:
        # The density changes by the flow at the level itself, whatever step is taken along it.
        value, pull = jax.vjp(lambda u: denoise(u * level.alpha, level, level).x, y)
        traces = jax.lax.map(lambda v: jnp.sum((pull(v)[0] * v).reshape(len(y), -1), 1), vectors)
        return value, scale * traces.sum(0)

    return both
