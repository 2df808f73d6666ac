"""Guidance: named branches in, one denoiser out.

All predictions are affine in x_hat, so guiding x_hat equals guiding the network's output, whatever
it predicts: guidance is written once, of x_hat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.diffusion.levels import Level, broadcast_to
from diffjax.diffusion.sampling import Denoiser, Estimate
from diffjax.ranges import Guided, NonNegative, Percentile, Positive, Probability, Reach, Width

# (z, at, to, conditioning) -> Estimate, see `Denoiser`; the conditioning is any tree of arrays
# [B, ...].
ConditionalDenoiser = Callable[[Array, Level, Level, Any], Estimate]

# Names of branches: all that is wanted; its null, or what is not wanted; what is wanted, by the
# guiding network. Others, of one network without some of its conditions, `without` names.
COND, UNCOND, GUIDE = "cond", "uncond", "guide"


def without(names: Sequence[str]) -> str:
    """The branch of the network that is not given the conditions `names`."""
    return f"without {'+'.join(names)}"


class Branch(NamedTuple):
    """A conditional denoiser and what it is given, a tree of `[B, ...]`.

    Branches with one and the same `denoise` run as one batch.
    """

    denoise: ConditionalDenoiser
    cond: Any


class Scales(NamedTuple):
    """The numbers of a `Guidance`, float32 []: see its fields of these names."""

    scale: Any
    autoguidance: Any
    by: tuple[Any, ...]


@dataclass(frozen=True)
class Guidance:
    """Settings of guidance: how strongly, against what, and where.

    A scale is 1 where there is no guidance, and may be an array [], then it is never taken for 1.

    Attributes:
      scale: s in `uncond + s (cond - uncond)`; 0 is unconditional. The paper's w is s - 1
        (Ho & Salimans 2022, eq. 6).
      autoguidance: w in `guide + w (cond - guide)` of a smaller or less trained network
        (Karras et al. 2024a, eq. 3); with the others, `(w - 1) (cond - guide)` more.
      by: (condition, scale), in place of `scale`: what each adds to those before it, in this
        order, `e_0 + sum_k s_k (e_k - e_{k-1})` with e_k given the first k of them, and the
        conditions that are not named in all (Brooks et al. 2023, eq. 3: image, text).
      low, high: guide only where `low < sigma / alpha <= high` (Kynkäänniemi et al. 2024); outside,
        the conditional branch alone is evaluated.
      rescale: phi in [0, 1], pulls the estimate's standard deviation to the conditional one's
        (Lin et al. 2023, eq. 15 and 16).
      threshold: percentile in (0, 100] of |x_hat| for dynamic thresholding (Saharia et al. 2022,
        section 2.3), or None.
      clip: clamp x_hat to [-1, 1] (pixel models; never for latents).
      clip_range: c where it is clamped to [-c, c] (unCLIP's prior: 5).
      channels: guide the first so many channels alone; the others are the conditional estimate's
        (Peebles & Xie 2023, appendix: 3 of 4). None for all.

    Raises:
      ValueError: a `scale` beside scales `by` condition.
    """

    scale: Guided | Array = 1.0
    low: NonNegative = 0.0
    high: Reach = float("inf")
    rescale: Probability = 0.0
    threshold: Percentile | None = None
    clip: bool = False
    clip_range: Positive = 1.0
    channels: Width | None = None
    autoguidance: Guided | Array = 1.0
    by: tuple[tuple[str, Guided | Array], ...] = ()

    def __post_init__(self) -> None:
        if self.by and _on(self.scale):
            raise ValueError(
                "guidance is one scale of all conditions, guidance_by one of each: give one of both"
            )
        if len(dict(self.by)) < len(self.by):
            raise ValueError(
                f"guidance_by names a condition twice: {[name for name, _ in self.by]}"
            )

    @property
    def guided(self) -> bool:
        """Whether more than the conditional estimate is needed."""
        return len(self.branches) > 1

    @property
    def branches(self) -> tuple[str, ...]:
        """Names of the branches that are evaluated where there is guidance, `COND` first."""
        names = [name for name, _ in self.by]
        chain = [without(names[k:]) for k in range(len(names))][::-1]
        uncond = [UNCOND] if _on(self.scale) else []
        guide = [GUIDE] if _on(self.autoguidance) else []
        return (COND, *uncond, *chain, *guide)

    def dropped(self, conditions: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Branch -> those of a network's `conditions` that it is not given; the guiding
        network's, which is given all, is not among them.

        Raises:
          ValueError: a scale by a condition that is none of them.
        """
        named = [name for name, _ in self.by]
        for name in named:
            if name not in conditions:
                raise ValueError(
                    f"guidance_by names the condition {name!r}, which this model does not have "
                    f"(its conditions: {', '.join(conditions) or 'none'})"
                )
        chain = {without(named[k:]): tuple(named[k:]) for k in range(len(named))}
        known = {COND: (), UNCOND: tuple(conditions), **chain}
        return {branch: known[branch] for branch in self.branches if branch in known}

    @property
    def scales(self) -> Scales:
        """The scales, for arguments of a jitted function."""
        return jax.tree.map(
            np.float32, Scales(self.scale, self.autoguidance, tuple(s for _, s in self.by))
        )

    @property
    def static(self) -> Guidance:
        """The guidance without its scales: two with the same branches and choices are equal."""
        return replace(
            self,
            scale=0.0 if _on(self.scale) else 1.0,
            autoguidance=0.0 if _on(self.autoguidance) else 1.0,
            by=tuple((name, 0.0) for name, _ in self.by),
        )

    def scaled(self, scales: Scales) -> Guidance:
        """The guidance with other scales of the branches that it has."""
        names = [name for name, _ in self.by]
        return replace(
            self,
            scale=scales.scale if _on(self.scale) else 1.0,
            autoguidance=scales.autoguidance if _on(self.autoguidance) else 1.0,
            by=tuple(zip(names, scales.by, strict=True)),
        )

    def combine(self, x: Mapping[str, Any]) -> Any:
        """`sum_b w_b x_b` of numbers or arrays by branch, with weights that sum to one."""
        # As differences, so that equal branches leave nothing over, whatever the scale.
        steps = [(UNCOND, self.scale)] if _on(self.scale) else []
        steps += [(without([n for n, _ in self.by[k:]]), s) for k, (_, s) in enumerate(self.by)]
        names = [name for name, _ in steps] + [COND]
        out = x[names[0]]
        for (before, scale), after in zip(steps, names[1:], strict=True):
            out = out + scale * (x[after] - x[before])
        if _on(self.autoguidance):
            out = out + (self.autoguidance - 1) * (x[COND] - x[GUIDE])
        return out


def _on(scale: float | Array) -> bool:
    return isinstance(scale, Array) or scale != 1.0


def guided(branches: Mapping[str, Branch], guidance: Guidance) -> Denoiser:
    """The guided denoiser; its thresholding and clipping are applied as well.

    Args:
      branches: by name, those of `guidance.branches` at least.
      guidance: the choices.

    Raises:
      ValueError: guidance that asks for a branch which is not there.
    """
    for name in guidance.branches:
        if name not in branches:
            raise ValueError(_MISSING.get(name, _NO_BRANCH).format(name))
    wanted = branches[COND]
    needed = {name: branches[name] for name in guidance.branches}

    def combined(z: Array, at: Level, to: Level) -> Estimate:
        estimates = _evaluate(needed, z, at, to)
        x_cond, v = estimates[COND]
        x = guidance.combine({name: estimate.x for name, estimate in estimates.items()})
        if guidance.channels is not None:
            n = guidance.channels
            x = jnp.concatenate([x[..., :n], x_cond[..., n:]], axis=-1)
        return Estimate(_rescaled(x, x_cond, z, at, guidance.rescale), v)

    def plain(z: Array, at: Level, to: Level) -> Estimate:
        return wanted.denoise(z, at, to, wanted.cond)

    inner = combined if guidance.guided else plain
    limited = guidance.low > 0 or guidance.high < float("inf")
    if inner is combined and limited:

        def inner(z: Array, at: Level, to: Level) -> Estimate:
            inside = (at.ratio > guidance.low) & (at.ratio <= guidance.high)
            return jax.lax.cond(inside, combined, plain, z, at, to)

    return bounded(inner, guidance)


_MISSING = {
    UNCOND: "guidance needs an unconditional branch, which is not there",
    GUIDE: "autoguidance needs a guiding network, and none is given: give one, or autoguidance=1",
}
_NO_BRANCH = "guidance_by needs the branch {!r}, which is not there"


def _evaluate(
    branches: Mapping[str, Branch], z: Array, at: Level, to: Level
) -> dict[str, Estimate]:
    """The estimates of all branches, those of one network in one batch."""
    found: dict[str, Estimate] = {}
    for denoise, _ in branches.values():
        names = [name for name, branch in branches.items() if branch.denoise is denoise]
        if names[0] in found:
            continue
        n, conds = len(names), [branches[name].cond for name in names]
        if n == 1:
            found[names[0]] = denoise(z, at, to, conds[0])
            continue
        cond = jax.tree.map(lambda *a: jnp.concatenate(a), *conds)
        x, v = denoise(jnp.concatenate([z] * n), at, to, cond)
        vs = [None] * n if v is None else jnp.split(v, n)
        found |= dict(zip(names, map(Estimate, jnp.split(x, n), vs), strict=True))
    return found


def classifier_free(
    denoise: ConditionalDenoiser, cond: Any, negative: Any, guidance: Guidance
) -> Denoiser:
    """`x_hat = negative + scale (cond - negative)` (Ho & Salimans 2022, eq. 6).

    Args:
      denoise: the conditional denoiser.
      cond: what is wanted, a tree of `[B, ...]`.
      negative: the null condition, or what is not wanted (a negative prompt), shaped like cond.
      guidance: see `guided`.
    """
    return guided({COND: Branch(denoise, cond), UNCOND: Branch(denoise, negative)}, guidance)


def _rescaled(x: Array, x_cond: Array, z: Array, level: Level, phi: float) -> Array:
    """Lin et al. 2023, eq. 15 and 16, on `v = alpha eps - sigma x`, which their network predicts.

    v is x at full noise (alpha = 0, where eps says nothing of x) and eps near the clean end.
    """
    if phi == 0:
        return x
    axes = tuple(range(1, x.ndim))
    alpha, sigma = broadcast_to(level.alpha, x), broadcast_to(level.sigma, x)
    norm2 = alpha**2 + sigma**2
    v, v_cond = (alpha * z - norm2 * x) / sigma, (alpha * z - norm2 * x_cond) / sigma
    ratio = jnp.std(v_cond, axes, keepdims=True) / jnp.std(v, axes, keepdims=True)
    return (alpha * z - sigma * v * (phi * ratio + 1 - phi)) / norm2


def bounded(denoise: Denoiser, guidance: Guidance) -> Denoiser:
    """The denoiser with x_hat thresholded or clipped."""
    if guidance.threshold is None and not guidance.clip:
        return denoise

    def inside(z: Array, at: Level, to: Level) -> Estimate:
        x, v = denoise(z, at, to)
        if guidance.threshold is not None:
            flat = jnp.abs(x).reshape(len(x), -1)
            bound = jnp.maximum(jnp.percentile(flat, guidance.threshold, axis=1), 1.0)
            bound = broadcast_to(bound, x)
            x = jnp.clip(x, -bound, bound) / bound
        bound = guidance.clip_range
        return Estimate(jnp.clip(x, -bound, bound) if guidance.clip else x, v)

    return inside
