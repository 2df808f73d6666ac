"""Guidance: denoisers in, a denoiser out.

All predictions are affine in x_hat, so guiding x_hat equals guiding the network's output, whatever
it predicts: classifier-free guidance is written once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.diffusion.levels import Level, over
from diffjax.diffusion.sampling import Denoiser, Estimate
from diffjax.ranges import Guided, NonNegative, Percentile, Probability, Reach, Width

# (z, level, conditioning) -> Estimate; the conditioning is any tree of arrays [B, ...].
ConditionalDenoiser = Callable[[Array, Level, Any], Estimate]


@dataclass(frozen=True)
class Guidance:
    """How strongly, and where.

    Attributes:
      scale: s in `uncond + s (cond - uncond)`: 1 is unguided, 0 unconditional. The paper's w is
        s - 1 (Ho & Salimans 2022, eq. 6). May be an array [], then it is never taken for 1.
      low, high: guide only where `low < sigma / alpha <= high` (Kynkäänniemi et al. 2024); outside,
        the unconditional network is not evaluated.
      rescale: phi in [0, 1], pulls the estimate's standard deviation to the conditional one's
        (Lin et al. 2023, eq. 15 and 16).
      threshold: percentile in (0, 100] of |x_hat| for dynamic thresholding (Saharia et al. 2022,
        section 2.3), or None.
      clip: clamp x_hat to [-1, 1] (pixel models; never for latents).
      channels: guide the first so many channels alone; the others are the conditional estimate's
        (Peebles & Xie 2023, appendix: 3 of 4). None for all.
    """

    scale: Guided | Array = 1.0
    low: NonNegative = 0.0
    high: Reach = float("inf")
    rescale: Probability = 0.0
    threshold: Percentile | None = None
    clip: bool = False
    channels: Width | None = None

    @property
    def guided(self) -> bool:
        """Whether an unconditional estimate is needed at all."""
        return isinstance(self.scale, Array) or self.scale != 1.0


def classifier_free(
    denoise: ConditionalDenoiser, cond: Any, negative: Any, guidance: Guidance
) -> Denoiser:
    """`x_hat = negative + scale (cond - negative)` (Ho & Salimans 2022, eq. 6).

    Args:
      denoise: the conditional denoiser.
      cond: what is wanted, a tree of `[B, ...]`.
      negative: the null condition, or what is not wanted (a negative prompt), shaped like cond.
      guidance: the choices; its thresholding and clipping are applied as well.
    """

    def guided(z: Array, level: Level) -> Estimate:
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), cond, negative)
        estimate = denoise(jnp.concatenate([z, z]), level, both)
        x_cond, x_negative = jnp.split(estimate.x, 2)
        x = x_negative + guidance.scale * (x_cond - x_negative)
        if guidance.channels is not None:
            n = guidance.channels
            x = jnp.concatenate([x[..., :n], x_cond[..., n:]], axis=-1)
        v = None if estimate.v is None else jnp.split(estimate.v, 2)[0]
        return Estimate(_rescaled(x, x_cond, z, level, guidance.rescale), v)

    def plain(z: Array, level: Level) -> Estimate:
        return denoise(z, level, cond)

    inner = guided if guidance.guided else plain
    limited = guidance.low > 0 or guidance.high < float("inf")
    if inner is guided and limited:

        def inner(z: Array, level: Level) -> Estimate:
            inside = (level.ratio > guidance.low) & (level.ratio <= guidance.high)
            return jax.lax.cond(inside, guided, plain, z, level)

    return bounded(inner, guidance)


def _rescaled(x: Array, x_cond: Array, z: Array, level: Level, phi: float) -> Array:
    """Lin et al. 2023, eq. 15 and 16, on `v = alpha eps - sigma x`, which their network predicts.

    v is x at full noise (alpha = 0, where eps says nothing of x) and eps near the clean end.
    """
    if phi == 0:
        return x
    axes = tuple(range(1, x.ndim))
    alpha, sigma = over(level.alpha, x), over(level.sigma, x)
    norm2 = alpha**2 + sigma**2
    v, v_cond = (alpha * z - norm2 * x) / sigma, (alpha * z - norm2 * x_cond) / sigma
    ratio = jnp.std(v_cond, axes, keepdims=True) / jnp.std(v, axes, keepdims=True)
    return (alpha * z - sigma * v * (phi * ratio + 1 - phi)) / norm2


def bounded(denoise: Denoiser, guidance: Guidance) -> Denoiser:
    """The denoiser with x_hat thresholded or clipped."""
    if guidance.threshold is None and not guidance.clip:
        return denoise

    def inside(z: Array, level: Level) -> Estimate:
        x, v = denoise(z, level)
        if guidance.threshold is not None:
            flat = jnp.abs(x).reshape(len(x), -1)
            bound = jnp.maximum(jnp.percentile(flat, guidance.threshold, axis=1), 1.0)
            bound = over(bound, x)
            x = jnp.clip(x, -bound, bound) / bound
        return Estimate(jnp.clip(x, -1.0, 1.0) if guidance.clip else x, v)

    return inside
