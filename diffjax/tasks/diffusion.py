"""The diffusion task: a denoising network, its loss, and everything that is drawn from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.diffusion import likelihood
from diffjax.diffusion.grids import make_grid
from diffjax.diffusion.guidance import Guidance, classifier_free
from diffjax.diffusion.levels import CLEAN, Level
from diffjax.diffusion.predictions import Prediction, check_ends
from diffjax.diffusion.process import check_weights, denoising_loss, diffuse, network_output
from diffjax.diffusion.recipes import make_recipe
from diffjax.diffusion.sampling import Denoiser, Estimate
from diffjax.diffusion.schedules import Schedule
from diffjax.diffusion.timesteps import Times, Uniform
from diffjax.diffusion.weightings import Simple, Weighting
from diffjax.keys import Rng, normal, root, stream
from diffjax.ranges import Classes, GreyLevels, NonNegative, Pixels, Probability
from diffjax.tasks import diffusion_draws as draws
from diffjax.tasks import diffusion_likelihood as likelihoods
from diffjax.tasks.augment_label import told_of_augmentation
from diffjax.tasks.base import Batch, LossOutput, Params, Variables
from diffjax.tasks.conditions import (
    ByClass,
    ByImage,
    ByText,
    Condition,
    Told,
    against,
    as_given,
    dropped,
    tell,
)
from diffjax.tasks.latents import Latents


@dataclass(frozen=True)
class DiffusionTask:
    """Diffusion of pixels or of a codec's latents; told nothing, or a class, a text, an image.

    Attributes:
      network: `(x, noise_input [B], *, label, tokens, token_mask, extra, train) -> [B, H, W, C']`;
        one with `augment_dim` n > 0 is trained on batches with `augment [B, n]`, its `extra`.
      image_shape: (H, W, C) of one `image` of a batch, or (D,) of one point.
      schedule, prediction, weighting, times: the axes of the loss.
      num_classes: classes conditioned on, 0 for none; label `num_classes` is the null class.
      label_drop: share of training labels replaced by the null class.
      text: the frozen tower that reads `tokens`; None for no text.
      caption_drop: share of training captions replaced by the empty one.
      hint: how another image, the batch's `hint`, is seen: "beside" or as "tokens"; see `ByImage`.
      hint_drop: share of training hints replaced by zeros.
      latents: the frozen codec whose latents are diffused; None for the images themselves.
      learned_variance: the network also predicts where its variance lies, C' = 2 C
        (Nichol & Dhariwal 2021, eq. 15), trained by the bound.
      vlb_weight: lambda of the hybrid loss, on the bound in bits per dimension (eq. 16).
      levels: values that a pixel takes, for the likelihood: 256 for 8 bits.
    """

    network: nn.Module
    image_shape: tuple[Pixels, ...]
    schedule: Schedule
    prediction: Prediction
    weighting: Weighting = field(default_factory=Simple)
    times: Times = field(default_factory=Uniform)
    num_classes: Classes = 0
    label_drop: Probability = 0.0
    text: ByText | None = None
    caption_drop: Probability = 0.0
    hint: Literal["beside", "tokens"] | None = None
    hint_drop: Probability = 0.0
    latents: Latents | None = None
    learned_variance: bool = False
    vlb_weight: NonNegative = 0.001
    levels: GreyLevels = 256

    def __post_init__(self) -> None:
        check_ends(self.schedule, self.prediction)
        check_weights(self.schedule, self.prediction, self.weighting)
        if self.label_drop and not self.num_classes:
            raise ValueError(
                f"task.label_drop={self.label_drop} without classes: set task.num_classes, or 0"
            )
        if self.caption_drop and self.text is None:
            raise ValueError(
                f"task.caption_drop={self.caption_drop} without a text section: add it, or set 0"
            )
        if self.hint_drop and self.hint is None:
            raise ValueError(f"task.hint_drop={self.hint_drop} without task.hint: set it, or 0")
        for c in self.conditions:
            if not 0 <= c.drop <= 1:
                raise ValueError(f"{c.knob}={c.drop} lies outside [0, 1]")
        if self.learned_variance and not self.schedule.discrete:
            raise ValueError(
                "task.learned_variance=True needs a table of steps: use schedule linear, cosine, "
                f"..., not {type(self.schedule).__name__}"
            )

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """All that the network is told, beside the noise level."""
        named = (
            ByClass(self.num_classes, self.label_drop) if self.num_classes else None,
            replace(self.text, drop=self.caption_drop) if self.text else None,
            ByImage(self.hint, self.hint_drop) if self.hint else None,
        )
        return tuple(c for c in named if c is not None)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is diffused: the image's, or its latents'."""
        return self.image_shape if self.latents is None else self.latents.shape(self.image_shape)

    def init(self, key: Array, batch_spec: Mapping[str, Any]) -> Variables:
        frozen = {} if self.latents is None else self.latents.init(self.image_shape)
        for c in self.conditions:
            frozen |= c.init(batch_spec)
        x = jnp.zeros((1, *self.shape), jnp.float32)
        given = {
            c.field: jnp.zeros((1, *batch_spec[c.field].shape[1:]), batch_spec[c.field].dtype)
            for c in self.conditions
        }
        told: dict[str, Any] = dict(tell(self.conditions, frozen, given, x))
        if "beside" in told:
            x = jnp.concatenate([x, told.pop("beside")], axis=-1)
        got = self.network.init(key, x, jnp.zeros((1,)), **told, train=False)
        return Variables(got["params"], {}, frozen)

    def _output(
        self, params: Params, z: Array, level: Level, told: Told, **kw: Any
    ) -> tuple[Array, Array | None]:
        """The network's prediction and, with learned variance, its v; `level` [] or [B]."""
        told = dict(told)
        beside = told.pop("beside", None)
        network = partial(self.network.apply, {"params": params}, **told, **kw)
        out = network_output(network, z, level, self.schedule, self.prediction, beside)
        if not self.learned_variance:
            return out, None
        out, v = jnp.split(out, 2, axis=-1)
        return out, v

    def estimate(self, params: Params, z: Array, level: Level, told: Told, **kw: Any) -> Estimate:
        """The denoiser: x_hat of `z [B, ...] float32` at a level, told what `tell` says."""
        out, v = self._output(params, z, level, told, **{"train": False, **kw})
        return Estimate(self.prediction.to_x(out, z, level), v)

    def loss(
        self,
        params: Params,
        model_state: Params,
        frozen: Params,
        batch: Batch,
        rng: Rng,
        train: bool,
    ) -> LossOutput:
        """`L_simple` under the weighting, plus `vlb_weight * T * L_t` with learned variance."""
        x = batch["image"]
        if self.latents is not None:
            x = self.latents.encode(frozen, x, rng)
        t = self.times(self.schedule, rng)
        level = self.schedule.level(t)
        eps = normal(rng.rowwise("noise"), x.shape[1:])
        z = diffuse(x, eps, level)
        given = {c.field: batch[c.field] for c in self.conditions}
        given = dropped(self.conditions, given, rng) if train else given
        told = tell(self.conditions, frozen, given, z)
        # Microbatches share a key and differ in their first row.
        dropout = jax.random.fold_in(rng.batch("dropout"), rng.rows[0])
        kw = told_of_augmentation(self.network, batch, train)
        if train:
            kw["rngs"] = {"dropout": dropout}
        out, v = self._output(params, z, level, told, train=train, **kw)
        loss, mse = denoising_loss(
            out, x, eps, level, self.schedule, self.prediction, self.weighting
        )
        metrics = {"mse": mse}
        if v is not None:
            # The mean learns from the simple loss alone (Nichol & Dhariwal 2021, section 3.1).
            x_hat = jax.lax.stop_gradient(self.prediction.to_x(out, z, level))
            table = make_grid(self.schedule, int(self.schedule.t_max + 1), "linspace")
            bound = likelihood.bound_term(
                Estimate(x_hat, v), x, z, level, self._below(t), "learned", self.levels,
                decoder_log_std=likelihood.decoder_log_std(table),
            )  # fmt: skip
            bound = bound / likelihood.LOG2 * (self.schedule.t_max + 1)
            metrics["vlb"] = bound
            loss = loss + self.vlb_weight * bound
        return LossOutput(loss, metrics, model_state)

    def _below(self, t: Array) -> Level:
        """The level one table entry cleaner than t, the clean end below 0."""
        lower = self.schedule.level(jnp.maximum(t - 1, 0))
        pick = partial(jnp.where, t > 0)
        return Level(*(pick(a, jnp.float32(b)) for a, b in zip(lower, CLEAN, strict=True)))

    def denoiser(
        self, variables: Variables, asked: Any, guidance: Guidance, negative: Any, z: Array
    ) -> Denoiser:
        """The guided denoiser of what is `asked` for, see `as_given`; `negative` stands in for
        the null where given. `z [B, ...]` is shaped like the states that it will see."""
        self._check_guidance(guidance, negative is not None)
        given = as_given(self.conditions, asked)
        other = {} if negative is None else as_given(self.conditions, negative, partial=True)
        wanted, unwanted = (
            tell(self.conditions, variables.frozen, g, z)
            for g in (given, against(self.conditions, given, other))
        )
        return classifier_free(partial(self.estimate, variables.params), wanted, unwanted, guidance)

    def _check_guidance(self, guidance: Guidance, negative: bool) -> None:
        if guidance.guided and not self.conditions:
            raise ValueError(
                "guidance needs a class-conditional model, or one that is told a text or a hint; "
                "this one has no classes (task.num_classes=0)"
            )
        if guidance.guided and not negative and not any(c.drop for c in self.conditions):
            knob = self.conditions[0].knob
            null = "null class" if knob.endswith("label_drop") else "null condition"
            raise ValueError(
                f"guidance needs a {null}, but the model was trained with {knob}=0: train with "
                f"{knob.removeprefix('task.')} > 0, or say what is not wanted (negative)"
            )
        if guidance.clip and self.latents is not None:
            raise ValueError("clip=True bounds pixels to [-1, 1]; latents have no such bounds")

    def noise_levels(self, which: str = "states", **recipe: Any) -> np.ndarray:
        """`sigma / alpha` of each frame of `trajectory`, `[T] float64`."""
        choice = make_recipe(**recipe)
        ratio = choice.rows(self.schedule).at.ratio
        if which == "estimates":
            return ratio
        return np.append(ratio, choice.make_grid(self.schedule).s.ratio[-1])

    def validation_loss(self, variables: Variables, seed: Array, batch: Batch) -> dict[str, Array]:
        """The training loss without dropout, [B]."""
        size = len(batch["image"])
        rng = Rng(stream(root(seed), "validation"), jnp.arange(size), size)
        out = self.loss(*variables, batch, rng, False)
        return {"loss": out.loss, **out.metrics}

    def nfe(self, **recipe: Any) -> dict[str, Any]:
        """The protocol of a sampling recipe, `nfe` and every default spelled out."""
        choice = make_recipe(**recipe)
        # Told before anything is trained: negative labels are arguments of `sample` alone.
        self._check_guidance(choice.guidance, False)
        return choice.describe(self.schedule)

    def predict_fns(self) -> Mapping[str, Callable[..., Any]]:
        """By name; see `diffusion_draws` and `diffusion_likelihood`."""
        drawn = (draws.sample, draws.trajectory, draws.encode, draws.decode)
        bounds = (likelihoods.bits_per_dim, likelihoods.flow_bits_per_dim)
        # Of latents there are densities, but none of the images they stand for.
        bounds = bounds if self.latents is None else ()
        fns = {fn.__name__: partial(fn, self) for fn in (*drawn, *bounds)}
        return {**fns, "validation_loss": self.validation_loss}
