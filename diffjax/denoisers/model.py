"""A diffusion model: a network with its schedule, prediction, space and conditions, as a denoiser.

What training and drawing share. Pure: it holds networks and choices, never their values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from diffjax.denoisers.conditions.base import (
    PARAMS,
    ByName,
    Cond,
    Condition,
    by_name,
    check_cond,
    encode,
    init_conditions,
    negative_cond,
)
from diffjax.denoisers.spaces import Space
from diffjax.diffusion.guidance import UNCOND, Branch, Guidance, guided
from diffjax.diffusion.levels import Level
from diffjax.diffusion.predictions import Prediction, check_ends
from diffjax.diffusion.process import network_output
from diffjax.diffusion.sampling import Denoiser, Estimate
from diffjax.diffusion.schedules import Schedule
from diffjax.keys import stream
from diffjax.models.conditioning import Conditioning
from diffjax.task import Params, Variables


@dataclass(frozen=True)
class DiffusionModel:
    """A denoising network, read as an estimate of the clean state.

    Attributes:
      network: `(x, c_noise [B], cond, augment_labels=..., train=...) -> [B, ..., C']`, see `UNet`.
      space: of the states, see `Space`.
      schedule, prediction: of the network.
      conditions: what it is conditioned by, beside the noise level.
      learned_variance: the network also predicts where its variance lies, C' = 2 C
        (Nichol & Dhariwal 2021, eq. 15).
    """

    network: nn.Module
    space: Space
    schedule: Schedule
    prediction: Prediction
    conditions: tuple[Condition, ...] = ()
    learned_variance: bool = False

    def __post_init__(self) -> None:
        check_ends(self.schedule, self.prediction)
        if self.learned_variance and not self.schedule.discrete:
            raise ValueError(
                "task.learned_variance=True needs a table of steps: use schedule linear, cosine, "
                f"..., not {type(self.schedule).__name__}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one state."""
        return self.space.shape

    @property
    def fields(self) -> list[str]:
        """Of a batch, that samples are drawn by."""
        return list(dict.fromkeys(c.field for c in self.conditions))

    def resized(self, height: int, width: int) -> DiffusionModel:
        """The model of images of another size.

        Raises:
          ValueError: a size that the codec or the network's levels cannot halve so often.
        """
        levels = len(getattr(self.network, "channel_mult", (1,)))
        patch = getattr(self.network, "patch", 1)
        # A codec's factor: how many pixels a side of one element of a state is.
        factor = getattr(getattr(self.space, "codec", None), "factor", 1)
        step = factor * patch * 2 ** (levels - 1)
        if height % step or width % step or min(height, width) < step:
            raise ValueError(
                f"an image of {height} x {width} pixels: both must be multiples of {step}"
            )
        return replace(self, space=self.space.resized(height, width))

    def init(self, key: Array, batch_spec: Mapping[str, Any]) -> Variables:
        """Fresh variables; `batch_spec` name -> ShapeDtypeStruct of one batch. The network's
        parameters, those of conditions among them under `conditions`."""
        conditions_key = stream(key, "conditions")
        own, frozen = init_conditions(self.conditions, conditions_key, batch_spec)
        frozen = {**self.space.init(), **frozen}
        x = jnp.zeros((1, *self.shape), jnp.float32)
        given = {
            c.name: jnp.zeros((1, *batch_spec[c.field].shape[1:]), batch_spec[c.field].dtype)
            for c in self.conditions
        }
        params = {PARAMS: own} if own else {}
        cond = self.encode(params, frozen, given, x)
        got = self.network.init(key, x, jnp.zeros((1,)), cond, train=False)
        return Variables({**got["params"], **params}, {}, frozen)

    def encode(self, params: Params, frozen: Params, given: ByName, x: Array) -> Conditioning:
        """The network's inputs for what is `given` by name; `x [B, ...]` is shaped like the
        states."""
        return encode(self.conditions, params, frozen, given, x)

    def output(
        self, params: Params, z: Array, level: Level, cond: Conditioning, **kw: Any
    ) -> tuple[Array, Array | None]:
        """The network's prediction and, with learned variance, its v; `level` [] or [B]."""
        weights = {k: v for k, v in params.items() if k != PARAMS}
        network = partial(self.network.apply, {"params": weights}, cond=cond, **kw)
        out = network_output(network, z, level, self.schedule, self.prediction)
        if not self.learned_variance:
            return out, None
        out, v = jnp.split(out, 2, axis=-1)
        return out, v

    def estimate(
        self, params: Params, z: Array, level: Level, cond: Conditioning, **kw: Any
    ) -> Estimate:
        """The denoiser: x_hat of `z [B, ...] float32` at a level."""
        out, v = self.output(params, z, level, cond, **{"train": False, **kw})
        return Estimate(self.prediction.to_x(out, z, level), v)

    def denoiser(
        self, variables: Variables, cond: Any, guidance: Guidance, negative: Any, z: Array
    ) -> Denoiser:
        """The guided denoiser of `cond`, see `check_cond`; `negative` stands in for the null where
        it says something. `z [B, ...]` is shaped like the states that it will see."""
        self.check_guidance(guidance, negative is not None)
        given: Cond = check_cond(self.conditions, cond)
        other: Cond = {} if negative is None else check_cond(self.conditions, negative, True)
        wanted = by_name(self.conditions, given)
        nulls = negative_cond(self.conditions, given, other)
        estimate = partial(self.estimate, variables.params)

        def branch(dropped: tuple[str, ...]) -> Branch:
            told = {name: nulls[name] if name in dropped else wanted[name] for name in wanted}
            return Branch(estimate, self.encode(variables.params, variables.frozen, told, z))

        branches = guidance.dropped([c.name for c in self.conditions])
        return guided({name: branch(dropped) for name, dropped in branches.items()}, guidance)

    def check_guidance(self, guidance: Guidance, negative: bool) -> None:
        """Refuses guidance that this model cannot follow.

        Args:
          guidance: of a recipe.
          negative: whether something is said to be unwanted, which needs no null.

        Raises:
          ValueError: no conditions, none with a null, a scale of one that is not there or has no
            null, or clipping of what has no bounds.
        """
        branches = guidance.dropped([c.name for c in self.conditions])
        if len(branches) > 1 and not self.conditions:
            raise ValueError(
                "guidance needs a conditional model; this one has no conditions: add them to the "
                "config (conditions=dict(label=dict(type='class', drop=0.1)))"
            )
        if UNCOND in branches and not negative and not any(c.has_null for c in self.conditions):
            name = self.conditions[0].name
            raise ValueError(
                "guidance needs a null condition, but the model was trained with "
                f"conditions.{name}.drop=0: train with drop > 0, or say what is not wanted "
                "(negative)"
            )
        for name, _ in guidance.by:
            if not negative and not any(c.has_null for c in self.conditions if c.name == name):
                raise ValueError(
                    f"guidance_by scales the condition {name!r}, which the model was trained "
                    f"without a null of: train with conditions.{name}.drop > 0"
                )
        if guidance.clip and not self.space.bounded:
            raise ValueError("clip=True bounds pixels to [-1, 1]; latents have no such bounds")
