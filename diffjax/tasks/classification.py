"""The classification task: a network that names an image's class, and lends its features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array

from diffjax.keys import Rng, root
from diffjax.ranges import Classes, Decay, Pixels
from diffjax.task import Batch, LossOutput, Params, Variables


def smoothed_cross_entropy(logits: Array, label: Array, smoothing: float) -> Array:
    """Cross-entropy of `logits [B, K]` against `label [B]` in nats, `[B]`: of the target a share
    `smoothing` lies evenly on all K (Szegedy et al. 2016)."""
    hot = jax.nn.one_hot(label, logits.shape[-1])
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(hot, smoothing))


@dataclass(frozen=True)
class Classifier(ABC):
    """A network read as a classifier, whatever its logits are of.

    Attributes:
      network: `(image [B, H, W, C], *, train) -> (logits [B, K], {"features": [B, D]})`.
      image_shape: (H, W, C).
    """

    network: nn.Module
    image_shape: tuple[Pixels, ...]

    def init(self, key: Array, batch_spec: Mapping[str, Any]) -> Variables:
        del batch_spec  # the shape of an image is the task's own
        image = jnp.zeros((1, *self.image_shape), jnp.float32)
        return Variables(self.network.init(key, image, train=False)["params"], {}, {})

    @abstractmethod
    def compare(self, logits: Array, batch: Batch) -> tuple[Array, Array]:
        """`[B] float32` each: the loss of `logits [B, K] float32`, and 1 where they are right."""

    def loss(
        self,
        params: Params,
        model_state: Params,
        frozen: Params,
        batch: Batch,
        rng: Rng,
        train: bool,
    ) -> LossOutput:
        """See `Task.loss`; units are dropped in training by one mask for a whole microbatch."""
        dropout = jax.random.fold_in(rng.batch("dropout"), rng.rows[0])
        kw: dict[str, Any] = {"rngs": {"dropout": dropout}} if train else {}
        logits, _ = self.network.apply({"params": params}, batch["image"], train=train, **kw)
        loss, right = self.compare(logits.astype(jnp.float32), batch)
        return LossOutput(loss, {"accuracy": right}, model_state)

    def logits(self, variables: Variables, image: Array) -> Array:
        """`[B, K] float32`."""
        return self._forward(variables, image)[0].astype(jnp.float32)

    def features(self, variables: Variables, image: Array) -> Array:
        """The penultimate layer, `[B, D] float32`."""
        return self._forward(variables, image)[1]["features"].astype(jnp.float32)

    def features_and_logits(self, variables: Variables, image: Array) -> tuple[Array, Array]:
        """Both of one forward pass."""
        logits, out = self._forward(variables, image)
        return out["features"].astype(jnp.float32), logits.astype(jnp.float32)

    def _forward(self, variables: Variables, image: Array) -> Any:
        return self.network.apply({"params": variables.params}, image, train=False)

    def validation_loss(self, variables: Variables, seed: Array, batch: Batch) -> dict[str, Array]:
        """Loss and accuracy [B]."""
        size = len(batch["image"])
        rng = Rng(root(seed), jnp.arange(size), size)
        out = self.loss(*variables, batch, rng, False)
        return {"loss": out.loss, **out.metrics}


@dataclass(frozen=True)
class ClassificationTask(Classifier):
    """Attributes:
    network, image_shape: see `Classifier`; its logits are of the classes.
    num_classes: K.
    label_smoothing: in [0, 1).
    """

    num_classes: Classes
    label_smoothing: Decay = 0.0

    def compare(self, logits: Array, batch: Batch) -> tuple[Array, Array]:
        """Cross-entropy in nats against smoothed labels."""
        loss = smoothed_cross_entropy(logits, batch["label"], self.label_smoothing)
        return loss, (logits.argmax(-1) == batch["label"]).astype(jnp.float32)

    def predict_fns(self) -> Mapping[str, Callable[..., Any]]:
        return {
            "logits": self.logits,
            "features": self.features,
            "features_and_logits": self.features_and_logits,
            "validation_loss": self.validation_loss,
        }
