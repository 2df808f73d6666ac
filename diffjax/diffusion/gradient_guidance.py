"""Guidance by the gradient of a log likelihood (Dhariwal & Nichol 2021, section 4; Nichol et al.
2021, section 2.3: of CLIP's)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.diffusion.levels import Level, broadcast_to
from diffjax.diffusion.sampling import Denoiser, Estimate
from diffjax.ranges import Guided, MaybeAmount, Positive

# (z, x_hat, at) -> [B]: log p(y | z) of what is wanted, up to what z does not change.
LogLikelihood = Callable[[Array, Array, Level], Array]


@dataclass(frozen=True)
class ClipGuidance:
    """Settings of guidance by a CLIP's gradient.

    Attributes:
      scale: s in `score + s grad log p(text | z)`; 0 for none. May be an array [], then it is never
        taken for 0.
      cutouts: square cut-outs of the image that the CLIP sees in its place, each by itself; 0 for
        the whole image. A CLIP that is told the noise level sees the whole.
      cutout_power: of the uniform number by which a cut-out's side lies between the CLIP's own size
        (power large) and the image's.
    """

    scale: Guided | Array = 0.0
    cutouts: MaybeAmount = 0
    cutout_power: Positive = 1.0

    @property
    def on(self) -> bool:
        """Whether there is any."""
        return isinstance(self.scale, Array) or self.scale != 0

    @property
    def static(self) -> ClipGuidance:
        """The choices without the scale: two that differ in it alone are equal, where both have
        one."""
        return replace(self, scale=1.0) if self.on else ClipGuidance()

    def scaled(self, scale: Any) -> ClipGuidance:
        """The choices with another scale, where they have one."""
        return replace(self, scale=jnp.asarray(scale)) if self.on else self


def guide_by_gradient(
    denoise: Denoiser, log_likelihood: LogLikelihood, scale: float | Array
) -> Denoiser:
    """The denoiser of `score + scale grad_z log p(y | z)`, its estimate moved by `scale sigma^2 /
    alpha` times the gradient, through x_hat where the likelihood reads that.

    Where z holds no signal (alpha = 0) an estimate does not move.
    """

    def inside(z: Array, at: Level, to: Level) -> Estimate:
        def fit(z: Array) -> tuple[Array, Estimate]:
            estimate = denoise(z, at, to)
            # Rows by themselves: the gradient of the sum is each row's own.
            return log_likelihood(z, estimate.x, at).sum(), estimate

        gradient, estimate = jax.grad(fit, has_aux=True)(z)
        alpha, sigma = broadcast_to(at.alpha, z), broadcast_to(at.sigma, z)
        signal = alpha > 0
        gain = jnp.where(signal, sigma**2 / jnp.where(signal, alpha, 1.0), 0.0)
        return Estimate(estimate.x + scale * gain * gradient, estimate.v)

    return inside
