"""The diffusion task: a diffusion model, its weighting and the times that it is trained at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.denoisers.conditions.base import (
    Condition,
    by_name,
    drop_conditions,
    read_fields,
)
from diffjax.denoisers.model import DiffusionModel
from diffjax.denoisers.prior import EmbeddingModel
from diffjax.denoisers.spaces import DataSpace, Space
from diffjax.diffusion import likelihood
from diffjax.diffusion.grids import make_grid
from diffjax.diffusion.levels import CLEAN, Level
from diffjax.diffusion.predictions import Prediction
from diffjax.diffusion.process import check_weights, denoising_loss, diffuse
from diffjax.diffusion.sampling import Estimate
from diffjax.diffusion.schedules import Schedule
from diffjax.diffusion.timesteps import Times, Uniform
from diffjax.diffusion.weightings import Simple, Weighting
from diffjax.generate.predict import describe_recipe, noise_levels, predict_fns
from diffjax.keys import Rng, normal
from diffjax.models.conditioning import Conditioning
from diffjax.ranges import GreyLevels, MaybePixels, NonNegative, Pixels
from diffjax.task import Batch, LossOutput, Params
from diffjax.tasks.augment_label import augment_labels
from diffjax.tasks.crops import check_crop, cropped
from diffjax.tasks.model_task import ModelTask


class Draws(NamedTuple):
    """Random draws for the loss of a batch.

    Attributes:
      x: clean states `[B, *shape] float32`; eps: their noise; z: both at `level` [B].
      t: the schedule's times [B].
      cond: the network's inputs, some rows of each condition dropped.
    """

    x: Array
    eps: Array
    z: Array
    t: Array
    level: Level
    cond: Conditioning


@dataclass(frozen=True)
class DiffusionTask(ModelTask):
    """Training of a diffusion model.

    Attributes:
      model: the network with its space, schedule, prediction and conditions; a network with
        `augment_dim` n > 0 is trained on batches with `augment [B, n]`.
      weighting, times: of the loss.
      vlb_weight: lambda of the hybrid loss of learned variance, on the bound in bits per dimension
        (Nichol & Dhariwal 2021, eq. 16).
      levels: values that a pixel takes, for the likelihood: 256 for 8 bits.
      crop: of upsamplers: the loss is of random squares of so many pixels a side, which networks
        without places bear (Saharia et al. 2022, section 2.5); 0 for whole images.
    """

    model: DiffusionModel
    weighting: Weighting = field(default_factory=Simple)
    times: Times = field(default_factory=Uniform)
    vlb_weight: NonNegative = 0.001
    levels: GreyLevels = 256
    crop: MaybePixels = 0

    def __post_init__(self) -> None:
        check_crop(self.model, self.crop)
        check_weights(self.model.schedule, self.model.prediction, self.weighting)

    def draw(self, params: Params, frozen: Params, batch: Batch, rng: Rng, train: bool) -> Draws:
        """Times, noise and dropped conditions, each row's own."""
        model = self.model
        x = model.space.encode(frozen, batch["image"], rng)
        fields = read_fields(model.conditions, frozen, batch, rng)
        if self.crop:
            x, fields = cropped(model, self.crop, x, fields, rng)
        t = self.times(model.schedule, rng)
        level = model.schedule.level(t)
        eps = normal(rng.rowwise("noise"), x.shape[1:])
        z = diffuse(x, eps, level)
        cond = by_name(model.conditions, fields)
        cond = drop_conditions(model.conditions, fields, rng) if train else cond
        return Draws(x, eps, z, t, level, model.encode(params, frozen, cond, z))

    def predict(
        self, params: Params, drawn: Draws, batch: Batch, rng: Rng, train: bool
    ) -> tuple[Array, Array | None]:
        """The network's output for what was drawn and, with learned variance, its v."""
        kw: dict[str, Any] = augment_labels(self.network, batch, train)
        if train:
            # Microbatches share a key and differ in their first row.
            dropout = jax.random.fold_in(rng.batch("dropout"), rng.rows[0])
            kw["rngs"] = {"dropout": dropout}
        return self.model.output(params, drawn.z, drawn.level, drawn.cond, train=train, **kw)

    def weigh(self, drawn: Draws, out: Array, v: Array | None) -> tuple[Array, dict[str, Array]]:
        """`L_simple` [B] under the weighting, plus `vlb_weight * T * L_t` with learned variance;
        and the metrics."""
        m = self.model
        loss, mse = denoising_loss(
            out, drawn.x, drawn.eps, drawn.level, m.schedule, m.prediction, self.weighting
        )
        if v is None:
            return loss, {"mse": mse}
        # The mean learns from the simple loss alone (Nichol & Dhariwal 2021, section 3.1).
        x_hat = jax.lax.stop_gradient(m.prediction.to_x(out, drawn.z, drawn.level))
        table = make_grid(m.schedule, int(m.schedule.t_max + 1), "linspace")
        bound = likelihood.bound_term(
            Estimate(x_hat, v), drawn.x, drawn.z, drawn.level, self._below(drawn.t), "learned",
            self.levels, decoder_log_std=likelihood.decoder_log_std(table),
        )  # fmt: skip
        bound = bound / likelihood.LOG2 * (m.schedule.t_max + 1)
        return loss + self.vlb_weight * bound, {"mse": mse, "vlb": bound}

    def loss(
        self,
        params: Params,
        model_state: Params,
        frozen: Params,
        batch: Batch,
        rng: Rng,
        train: bool,
    ) -> LossOutput:
        """The loss in its three pieces: `draw`, `predict`, `weigh`."""
        drawn = self.draw(params, frozen, batch, rng, train)
        out, v = self.predict(params, drawn, batch, rng, train)
        loss, metrics = self.weigh(drawn, out, v)
        return LossOutput(loss, metrics, model_state)

    def _below(self, t: Array) -> Level:
        """The level one table entry cleaner than t, the clean end below 0."""
        lower = self.model.schedule.level(jnp.maximum(t - 1, 0))
        pick = partial(jnp.where, t > 0)
        return Level(*(pick(a, jnp.float32(b)) for a, b in zip(lower, CLEAN, strict=True)))

    def noise_levels(self, which: str = "states", **recipe: Any) -> np.ndarray:
        """See `generate.predict.noise_levels`."""
        return noise_levels(self.model, which, **recipe)

    def nfe(self, **recipe: Any) -> dict[str, Any]:
        """See `generate.predict.describe_recipe`."""
        return describe_recipe(self.model, **recipe)

    def predict_fns(self) -> Mapping[str, Callable[..., Any]]:
        """See `generate.predict.predict_fns`; and the validation loss."""
        return {
            **predict_fns(self.model, self.levels),
            "validation_loss": self.validation_loss,
        }


def diffusion_task(
    network: nn.Module,
    image_shape: tuple[Pixels, ...],
    schedule: Schedule,
    prediction: Prediction,
    weighting: Weighting | None = None,
    times: Times | None = None,
    conditions: tuple[Condition, ...] = (),
    space: Space | None = None,
    guide: DiffusionModel | None = None,
    prior: EmbeddingModel | None = None,
    prior_recipe: tuple[tuple[str, Any], ...] = (),
    learned_variance: bool = False,
    vlb_weight: NonNegative = 0.001,
    levels: GreyLevels = 256,
    base: DiffusionModel | None = None,
    base_recipe: tuple[tuple[str, Any], ...] = (),
    crop: MaybePixels = 0,
) -> DiffusionTask:
    """The task of a config's section `dict(type="diffusion", ...)`; see `DiffusionModel` and
    `DiffusionTask`. `space`: None for the data themselves."""
    space = DataSpace(tuple(image_shape)) if space is None else space
    model = DiffusionModel(
        network, space, schedule, prediction, conditions, learned_variance, guide, prior,
        prior_recipe, base, base_recipe,
    )  # fmt: skip
    weighting, times = weighting or Simple(), times or Uniform()
    return DiffusionTask(model, weighting, times, vlb_weight, levels, crop)
