"""A diffusion model: a network with its schedule, prediction, space and conditions, as a denoiser.

What training and drawing share. Pure: it holds networks and choices, never their values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from diffjax.denoisers.chain import check_base, check_prior, low_resolution_of
from diffjax.denoisers.conditions.base import (
    PARAMS,
    ByName,
    Cond,
    Condition,
    by_name,
    check_cond,
    check_null,
    encode,
    fields_of,
    init_conditions,
    negative_cond,
    zeros_of,
)
from diffjax.denoisers.conditions.image_embedding import ImageEmbeddingCondition
from diffjax.denoisers.frozen import placeholders, variables_of
from diffjax.denoisers.prior import EmbeddingModel
from diffjax.denoisers.spaces import LatentSpace, Space
from diffjax.diffusion.guidance import (
    GUIDE,
    UNCOND,
    Branch,
    ConditionalDenoiser,
    Guidance,
    guided,
)
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
      guide: the model that autoguidance moves away from, a smaller or less trained one of the same
        states (Karras et al. 2024a); its variables are `frozen["guide"]`.
      prior: the model that draws image embeddings which are not given (Ramesh et al. 2022, section
        2.2); its variables are `frozen["prior"]`.
      prior_recipe: its options of `make_recipe` (of a model of codes: of `CodeRecipe`), and
        `best_of`: of so many embeddings the one most like the text's is taken.
      base: the model that draws low-resolution images which are not given, the stage before of a
        cascade (Ho et al. 2021), which may have a base itself; its variables are `frozen["base"]`.
      base_recipe: its options of `make_recipe`.
    """

    network: nn.Module
    space: Space
    schedule: Schedule
    prediction: Prediction
    conditions: tuple[Condition, ...] = ()
    learned_variance: bool = False
    guide: DiffusionModel | None = None
    prior: EmbeddingModel | None = None
    prior_recipe: tuple[tuple[str, Any], ...] = ()
    base: DiffusionModel | None = None
    base_recipe: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        check_ends(self.schedule, self.prediction)
        if self.learned_variance and not self.schedule.discrete:
            raise ValueError(
                "task.learned_variance=True needs a table of steps: use schedule linear, cosine, "
                f"..., not {type(self.schedule).__name__}"
            )
        if self.guide is not None and self.guide.shape != self.shape:
            raise ValueError(
                f"the guide denoises states of shape {self.guide.shape}, but this model "
                f"{self.shape}: take a guide of the same data, and of the same codec"
            )

        check_prior(self.conditions, self.prior)
        check_base(self.conditions, self.base)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one state."""
        return self.space.shape

    @property
    def fields(self) -> list[str]:
        """Fields of a batch that samples are drawn by."""
        drawn = {c.field for c in self.conditions if isinstance(c, ImageEmbeddingCondition)}
        found, own = [], fields_of(self.conditions)
        if self.prior is not None:
            found, own = self.prior.fields, [f for f in own if f not in drawn]
        low = low_resolution_of(self.conditions)
        if self.base is not None and low is not None:
            found, own = [*self.base.fields, *found], [f for f in own if f != low.field]
        return list(dict.fromkeys([*found, *own]))

    @property
    def step(self) -> int:
        """What the sides of images must be multiples of, for the codec and the network's levels."""
        levels = len(getattr(self.network, "channel_mult", (1,)))
        patch = getattr(self.network, "patch", 1)
        # A codec's factor: how many pixels a side of one element of a state is.
        factor = getattr(getattr(self.space, "codec", None), "factor", 1)
        return factor * patch * 2 ** (levels - 1)

    def resized(self, height: int, width: int) -> DiffusionModel:
        """The model of images of another size.

        Raises:
          ValueError: a size that the codec or the network's levels cannot halve so often.
        """
        step = self.step
        if height % step or width % step or min(height, width) < step:
            raise ValueError(
                f"an image of {height} x {width} pixels: both must be multiples of {step}"
            )
        own = low_resolution_of(self.conditions)
        low = None if own is None else own.resized(height, width)
        return replace(
            self,
            space=self.space.resized(height, width),
            conditions=tuple(low if c is own and low else c for c in self.conditions),
            base=self.base and low and self.base.resized(*low.shape[:2]),
        )

    def of_images(self) -> DiffusionModel:
        """The model as it is given images, though the batches that it was trained on held their
        latents."""
        if not isinstance(self.space, LatentSpace) or not self.space.cached:
            return self
        return replace(self, space=self.space.resized(*self.space.decoded_shape[:2]))

    def init(self, key: Array, batch_spec: Mapping[str, Any]) -> Variables:
        """Fresh variables; `batch_spec` name -> ShapeDtypeStruct of one batch. The network's
        parameters, those of conditions among them under `conditions`."""
        conditions_key = stream(key, "conditions")
        own, frozen = init_conditions(self.conditions, conditions_key, batch_spec)
        frozen = {**self.space.init(), **frozen}
        held = {"guide": self.guide, "prior": self.prior, "base": self.base}
        frozen |= {name: _placeholders(model, batch_spec) for name, model in held.items() if model}
        x = jnp.zeros((1, *self.shape), jnp.float32)
        zeros = zeros_of(self.conditions, batch_spec)
        params = {PARAMS: own} if own else {}
        cond = self.encode(params, frozen, zeros, x)
        got = self.network.init(key, x, jnp.zeros((1,)), cond, train=False)
        return Variables({**got["params"], **params}, {}, frozen)

    def encode(self, params: Params, frozen: Params, cond: ByName, x: Array) -> Conditioning:
        """The network's inputs for `cond`, by name; `x [B, ...]` is shaped like the
        states."""
        return encode(self.conditions, params, frozen, cond, x)

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
        cond = check_cond(self.conditions, cond)
        other: Cond = {} if negative is None else check_cond(self.conditions, negative, True)
        positive = by_name(self.conditions, cond)
        nulls = negative_cond(self.conditions, cond, other)

        estimate = self._conditional(variables.params)

        def branch(dropped: tuple[str, ...]) -> Branch:
            inputs = {name: nulls[name] if name in dropped else positive[name] for name in positive}
            return Branch(estimate, self.encode(variables.params, variables.frozen, inputs, z))

        names = guidance.dropped([c.name for c in self.conditions])
        branches = {name: branch(dropped) for name, dropped in names.items()}
        if self.guide is not None and GUIDE in guidance.branches:
            branches[GUIDE] = self.guide.branch(variables.frozen["guide"], cond, z)
        return guided(branches, guidance)

    def branch(self, held: Params, cond: Cond, z: Array) -> Branch:
        """The model as the guide of another: its estimates by those of the fields of `cond` that it
        reads; `held` are its `params` and `frozen`."""
        fields = {c.field for c in self.conditions}
        cond = check_cond(self.conditions, {k: v for k, v in cond.items() if k in fields})
        params, _, frozen = variables_of(held)
        encoded = self.encode(params, frozen, by_name(self.conditions, cond), z)
        return Branch(self._conditional(params), encoded)

    def _conditional(self, params: Params) -> ConditionalDenoiser:
        def estimate(z: Array, at: Level, to: Level, cond: Conditioning) -> Estimate:
            del to  # Networks that jump to a level read it; these estimate the clean state.
            return self.estimate(params, z, at, cond)

        return estimate

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
        if (len(branches) > 1 and not self.conditions) or (UNCOND in branches and not negative):
            check_null(self.conditions)
        for name, _ in guidance.by:
            if not negative and not any(c.has_null for c in self.conditions if c.name == name):
                raise ValueError(
                    f"guidance_by scales the condition {name!r}, which the model was trained "
                    f"without a null of: train with conditions.{name}.drop > 0"
                )
        if GUIDE in guidance.branches and self.guide is None:
            raise ValueError(
                "autoguidance needs a guiding network, and the model has none: add a section "
                "guide=dict(run=..., config=...) to the config, or set autoguidance=1"
            )
        if guidance.clip and not self.space.bounded:
            raise ValueError("clip=True bounds pixels to [-1, 1]; latents have no such bounds")


def _placeholders(model: DiffusionModel | EmbeddingModel, batch_spec: Mapping[str, Any]) -> Params:
    """Those of a frozen model before they are given, see `placeholder_variables`."""
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), batch_spec))
    return placeholders(
        {"params": shapes.params} | ({"frozen": shapes.frozen} if shapes.frozen else {})
    )
