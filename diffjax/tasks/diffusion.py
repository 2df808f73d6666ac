"""The diffusion task: a denoising network, its loss, and everything that is drawn from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.diffusion import likelihood
from diffjax.diffusion.grids import make_grid
from diffjax.diffusion.guidance import Guidance, bounded, classifier_free
from diffjax.diffusion.levels import CLEAN, Level, over
from diffjax.diffusion.predictions import Prediction, check_ends
from diffjax.diffusion.process import denoising_loss, diffuse
from diffjax.diffusion.recipes import make_recipe
from diffjax.diffusion.sampling import Denoiser, Estimate
from diffjax.diffusion.schedules import Schedule
from diffjax.diffusion.timesteps import Times, Uniform
from diffjax.diffusion.weightings import Simple, Weighting
from diffjax.keys import Rng, normal, stream, uniform
from diffjax.tasks import diffusion_draws as draws
from diffjax.tasks import diffusion_likelihood as likelihoods
from diffjax.tasks.augment_label import told_of_augmentation
from diffjax.tasks.base import Batch, LossOutput, Params, Variables


@dataclass(frozen=True)
class DiffusionTask:
    """Pixel diffusion, unconditional or by class.

    Attributes:
      network: `(x, noise_input [B], *, label, tokens, token_mask, extra, train) -> [B, H, W, C']`;
        one with `augment_dim` n > 0 is trained on batches with `augment [B, n]`, its `extra`.
      image_shape: (H, W, C) of one image, or (D,) of one point.
      schedule, prediction, weighting, times: the axes of the loss.
      num_classes: classes conditioned on, 0 for none; label `num_classes` is the null class.
      label_drop: share of training labels replaced by the null class.
      learned_variance: the network also predicts where its variance lies, C' = 2 C
        (Nichol & Dhariwal 2021, eq. 15), trained by the bound.
      vlb_weight: lambda of the hybrid loss, on the bound in bits per dimension (eq. 16).
      levels: values that a pixel takes, for the likelihood: 256 for 8 bits.
    """

    network: nn.Module
    image_shape: tuple[int, ...]
    schedule: Schedule
    prediction: Prediction
    weighting: Weighting = field(default_factory=Simple)
    times: Times = field(default_factory=Uniform)
    num_classes: int = 0
    label_drop: float = 0.0
    learned_variance: bool = False
    vlb_weight: float = 0.001
    levels: int = 256

    def __post_init__(self) -> None:
        check_ends(self.schedule, self.prediction)
        if self.label_drop and not self.num_classes:
            raise ValueError(
                f"task.label_drop={self.label_drop} without classes: set task.num_classes, or 0"
            )
        if self.learned_variance and not self.schedule.discrete:
            raise ValueError(
                "task.learned_variance=True needs a table of steps: use schedule linear, cosine, "
                f"..., not {type(self.schedule).__name__}"
            )

    def init(self, key: Array, batch_spec: Mapping[str, Any]) -> Variables:
        if self.num_classes and "label" not in batch_spec:
            raise ValueError(
                f"task.num_classes={self.num_classes}, but the data have no labels: set it to 0"
            )
        image = jnp.zeros((1, *self.image_shape), jnp.float32)
        label = jnp.zeros((1,), jnp.int32) if self.num_classes else None
        got = self.network.init(key, image, jnp.zeros((1,)), label=label, train=False)
        return Variables(got["params"], {}, {})

    def _output(
        self, params: Params, z: Array, level: Level, label: Array | None, **kw: Any
    ) -> tuple[Array, Array | None]:
        """The network's prediction and, with learned variance, its v; `level` [] or [B]."""
        noise_input = jnp.broadcast_to(
            jnp.asarray(self.prediction.noise_input(self.schedule, level), jnp.float32), (len(z),)
        )
        z = over(self.prediction.input_scale(level), z) * z
        out: Any = self.network.apply({"params": params}, z, noise_input, label=label, **kw)
        out = out.astype(jnp.float32)
        if not self.learned_variance:
            return out, None
        out, v = jnp.split(out, 2, axis=-1)
        return out, v

    def estimate(
        self, params: Params, z: Array, level: Level, label: Array | None, **kw: Any
    ) -> Estimate:
        """The denoiser: x_hat of `z [B, ...] float32` at a level."""
        out, v = self._output(params, z, level, label, **{"train": False, **kw})
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
        t = self.times(self.schedule, rng)
        level = self.schedule.level(t)
        eps = normal(rng.rowwise("noise"), x.shape[1:])
        z = diffuse(x, eps, level)
        label = self._dropped(batch["label"], rng, train) if self.num_classes else None
        # Microbatches share a key and differ in their first row.
        dropout = jax.random.fold_in(rng.batch("dropout"), rng.rows[0])
        kw = told_of_augmentation(self.network, batch, train)
        if train:
            kw["rngs"] = {"dropout": dropout}
        out, v = self._output(params, z, level, label, train=train, **kw)
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

    def _dropped(self, label: Array, rng: Rng, train: bool) -> Array:
        if not (train and self.label_drop):
            return label
        drop = uniform(rng.rowwise("label_drop")) < self.label_drop
        return jnp.where(drop, self.num_classes, label)

    def _below(self, t: Array) -> Level:
        """The level one table entry cleaner than t, the clean end below 0."""
        lower = self.schedule.level(jnp.maximum(t - 1, 0))
        pick = partial(jnp.where, t > 0)
        return Level(*(pick(a, jnp.float32(b)) for a, b in zip(lower, CLEAN, strict=True)))

    def denoiser(
        self, variables: Variables, label: Array | None, guidance: Guidance, negative: Array | None
    ) -> Denoiser:
        """The guided denoiser of a batch of labels; `negative` labels stand in for the null
        class where given."""
        params = variables.params
        self._check_guidance(guidance, negative is not None)
        if not self.num_classes:
            return bounded(lambda z, level: self.estimate(params, z, level, None), guidance)
        if label is None:
            raise ValueError("a class-conditional model draws by label: give label [B]")
        null = jnp.full_like(label, self.num_classes) if negative is None else negative
        return classifier_free(partial(self.estimate, params), label, null, guidance)

    def _check_guidance(self, guidance: Guidance, negative: bool) -> None:
        if guidance.guided and not self.num_classes:
            raise ValueError(
                "guidance needs a class-conditional model; this one has no "
                "classes (task.num_classes=0)"
            )
        if guidance.guided and not self.label_drop and not negative:
            raise ValueError(
                "guidance needs a null class, but the model was trained with "
                "task.label_drop=0: train with label_drop > 0, or give negative labels"
            )

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
        rng = Rng(stream(jax.random.key(seed), "validation"), jnp.arange(size), size)
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
        fns = {fn.__name__: partial(fn, self) for fn in (*drawn, *bounds)}
        return {**fns, "validation_loss": self.validation_loss}
