"""The contrastive image-text task: CLIP, SigLIP, and towers that stay locked (LiT)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from diffjax.diffusion.levels import broadcast_to
from diffjax.diffusion.process import diffuse
from diffjax.diffusion.schedules import Schedule
from diffjax.diffusion.timesteps import Uniform
from diffjax.keys import Rng, normal, root
from diffjax.objectives.gradient_cache import chunked_encode
from diffjax.objectives.spread import Contrastive
from diffjax.ranges import Amount, Pixels
from diffjax.task import Batch, LossOutput, Params, Variables

TOWERS = ("image", "text")


@dataclass(frozen=True)
class ClipTask:
    """Attributes:
    network: see `models.clip.CLIP`.
    image_shape: (H, W, 3).
    loss_kind: "softmax" (Radford et al. 2021) or "sigmoid" (Zhai et al. 2023; the network needs
      a `bias`).
    spread: how the loss lies on several devices: "global", "gathered" or "ring".
    chunks: encode a batch in so many parts, the activations of one at a time in memory; the loss
      still sees all pairs (gradient caching, Gao et al. 2021). Not with batch normalisation in
      training, whose statistics are those of a whole batch.
    locked: towers that are not trained ("image": Zhai et al. 2022, LiT); they get no gradient, and
      their batch statistics stay as they are.
    noise: schedule by which images are noised, at times that are uniform over it; the image tower
      is told their level, and what is not noised is the cleanest (Nichol et al. 2021, section 2.3:
      a CLIP that guides diffusion). None for images as they are.
    """

    network: nn.Module
    image_shape: tuple[Pixels, ...]
    loss_kind: str = "softmax"
    spread: str = "global"
    chunks: Amount = 1
    locked: tuple[str, ...] = ()
    noise: Schedule | None = None

    def __post_init__(self) -> None:
        Contrastive(self.loss_kind, self.spread)
        if self.chunks < 1:
            raise ValueError(f"task.chunks={self.chunks} must be at least 1")
        for tower in self.locked:
            if tower not in TOWERS:
                raise ValueError(f"task.locked names {tower!r}; towers are {', '.join(TOWERS)}")
        if (self.noise is not None) != getattr(self.network.image, "noised", False):  # type: ignore
            raise ValueError(
                "task.noise and model.image.noised go together: images of a schedule's levels need "
                "an image tower that is told them, dict(type='vit', noised=True, ...)"
            )
        bias = getattr(self.network, "bias", None)
        if (self.loss_kind == "sigmoid") != (bias is not None):
            raise ValueError(
                f"task.loss_kind={self.loss_kind!r} with model.bias={bias}: the sigmoid loss needs "
                "a bias (-10 in the paper), the softmax loss has none"
            )

    def init(self, key: Array, batch_spec: Mapping[str, Any]) -> Variables:
        if "tokens" not in batch_spec:
            raise ValueError("the clip task needs `tokens`: add a `tokenize` transform to the data")
        image = jnp.zeros((1, *self.image_shape), jnp.float32)
        tokens = jnp.zeros((1, *batch_spec["tokens"].shape[1:]), jnp.int32)
        made = dict(self.network.init(key, image, tokens))
        params = dict(made.pop("params"))
        if self.chunks > 1 and self._normalises(made):
            raise ValueError("task.chunks > 1 does not fit a network with batch normalisation")
        frozen = {tower: params.pop(tower) for tower in self.locked}
        return Variables(params, made, frozen)

    def loss(
        self,
        params: Params,
        model_state: Params,
        frozen: Params,
        batch: Batch,
        rng: Rng,
        train: bool,
    ) -> LossOutput:
        """One loss per pair of `batch`, all other pairs of it being the rivals."""
        variables = {"params": {**params, **frozen}, **model_state}
        inputs = self._noised(batch["image"], batch["tokens"], rng)
        if train and self._normalises(model_state):
            out, model_state = self.network.apply(
                variables, *inputs, train=True, mutable=list(model_state)
            )
        else:
            out = chunked_encode(
                lambda rows: self._towers(variables, *rows), inputs, self.chunks if train else 1
            )
            out = {**out, **self._scale(variables)}
        loss, found = Contrastive(self.loss_kind, self.spread)(
            out["image"], out["text"], out["log_scale"], out.get("bias", 0.0)
        )
        return LossOutput(loss, {**found, "scale": jnp.exp(out["log_scale"])}, model_state)

    def _normalises(self, model_state: Params) -> bool:
        """Whether training uses, and moves, a batch's statistics: the image tower alone has any."""
        return bool(model_state) and "image" not in self.locked

    def _noised(self, image: Array, tokens: Array, rng: Rng) -> tuple[Array, ...]:
        """What the towers are given of a batch: images, each noised by its own draws, texts, and
        the images' levels; without noise nothing is random."""
        if self.noise is None:
            return image, tokens
        level = self.noise.level(Uniform()(self.noise, rng))
        eps = normal(rng.rowwise("noise"), image.shape[1:])
        z = diffuse(image, eps, level)
        return z / broadcast_to(jnp.hypot(level.alpha, level.sigma), z), tokens, level.logsnr

    def _towers(
        self, variables: Params, image: Array, tokens: Array, logsnr: Array | None = None
    ) -> dict[str, Array]:
        out = self.network.apply(variables, image, tokens, logsnr=logsnr)
        assert isinstance(out, dict)
        return {tower: out[tower] for tower in TOWERS}

    def _scale(self, variables: Params) -> dict[str, Array]:
        p = variables["params"]
        scale = {"log_scale": p["logit_scale"]}
        return {**scale, "bias": p["logit_bias"]} if "logit_bias" in p else scale

    def _encode(self, method: str, variables: Variables, x: Array) -> Array:
        held = {"params": {**variables.params, **variables.frozen}, **variables.model_state}
        y = self.network.apply(held, x, method=method)
        assert isinstance(y, jax.Array)
        return y.astype(jnp.float32)

    def encode_image(self, variables: Variables, image: Array) -> Array:
        """`image [B, H, W, 3] float32 in [-1, 1] -> [B, E] float32`, not normalised."""
        return self._encode("encode_image", variables, image)

    def encode_text(self, variables: Variables, tokens: Array) -> Array:
        """`tokens [B, L] int32 -> [B, E] float32`, not normalised."""
        return self._encode("encode_text", variables, tokens)

    def validation_loss(self, variables: Variables, seed: Array, batch: Batch) -> dict[str, Array]:
        """Loss and accuracies [B], within `batch`."""
        size = len(batch["image"])
        rng = Rng(root(seed), jnp.arange(size), size)
        out = self.loss(*variables, batch, rng, False)
        return {"loss": out.loss, **{k: v for k, v in out.metrics.items() if v.ndim == 1}}

    def predict_fns(self) -> Mapping[str, Callable[..., Any]]:
        return {
            "encode_image": self.encode_image,
            "encode_text": self.encode_text,
            "validation_loss": self.validation_loss,
        }
