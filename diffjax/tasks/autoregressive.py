"""The task of an autoregressive prior: codes of image embeddings, each by text and those before it
(Ramesh et al. 2022, section 2.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from diffjax.denoisers.autoregressive import AutoregressiveModel, Prefix
from diffjax.denoisers.codes import CODES
from diffjax.denoisers.conditions.base import (
    Condition,
    by_name,
    drop_conditions,
    read_fields,
)
from diffjax.denoisers.embeddings import EmbeddingSpace
from diffjax.diffusion.likelihood import LOG2
from diffjax.generate.codes import describe_codes, sample_codes
from diffjax.generate.embeddings import encode_image, encode_text
from diffjax.keys import Rng
from diffjax.ranges import Pixels, Share
from diffjax.task import Batch, LossOutput, Params, Variables
from diffjax.tasks.model_task import ModelTask


@dataclass(frozen=True)
class AutoregressivePriorTask(ModelTask):
    """Training by cross-entropy; the loss is in nats per code.

    Attributes:
      model: the network with its space and conditions.
    """

    model: AutoregressiveModel

    def draw(
        self, params: Params, frozen: Params, batch: Batch, rng: Rng | None
    ) -> tuple[Array, Array, Prefix]:
        """Embeddings `[B, E]`, their codes `[B, K]` and what these are predicted by; with chance,
        `rng`, a share of each condition is dropped."""
        model = self.model
        x = model.space.encode(frozen, batch["image"], rng)
        fields = read_fields(model.conditions, frozen, batch, rng)
        cond = by_name(model.conditions, fields)
        if rng is not None:
            cond = drop_conditions(model.conditions, fields, rng)
        prefix = model.prefix(params, frozen, cond, model.dots(frozen, cond, x))
        return x, model.codes.encode(frozen[CODES], x), prefix

    def loss(
        self,
        params: Params,
        model_state: Params,
        frozen: Params,
        batch: Batch,
        rng: Rng,
        train: bool,
    ) -> LossOutput:
        """Cross-entropy in nats per code; metrics: `first_nats`, of the first code, which the text
        alone tells."""
        _, codes, prefix = self.draw(params, frozen, batch, rng if train else None)
        nats = self.model.nats(params, codes, prefix)
        return LossOutput(nats.mean(1), {"first_nats": nats[:, 0]}, model_state)

    def code_likelihood(self, variables: Variables, seed: Array, batch: Batch) -> dict[str, Array]:
        """Minus the log-likelihood of images' codes, given their texts and the buckets of their
        cosines, `[B]` each and per code: `nats` and `bits`.

        Beside them `untrained_nats`, log V, for the logits of an untrained network are zero (see
        `AutoregressivePrior`), `gaussian_nats` (see `Codes.gaussian_nats`), and `explained`: of the
        training embeddings' variance, what decoded codes leave of an image's subtracted, a share
        whose mean is that of the variance which codes keep.
        """
        del seed  # There is no chance.
        params, _, frozen = variables
        model, held = self.model, frozen[CODES]
        x, codes, prefix = self.draw(params, frozen, batch, None)
        nats = model.nats(params, codes, prefix).mean(1)
        lost = jnp.square(x - model.codes.decode(held, codes)).sum(1)
        return {
            "nats": nats,
            "bits": nats / LOG2,
            "untrained_nats": jnp.full(len(x), math.log(model.codes.buckets)),
            "gaussian_nats": model.codes.gaussian_nats(held, codes).mean(1),
            "explained": 1 - lost / held["variance"].sum(),
        }

    def nfe(self, **recipe: Any) -> dict[str, Any]:
        """See `generate.codes.describe_codes`."""
        return describe_codes(self.model, **recipe)

    def predict_fns(self) -> Mapping[str, Callable[..., Any]]:
        """`sample`, of embeddings, `encode_image` and `encode_text`, `code_likelihood` and
        `validation_loss`."""
        return {
            "sample": partial(sample_codes, self.model),
            "encode_image": partial(encode_image, self.model),
            "encode_text": partial(encode_text, self.model),
            "code_likelihood": self.code_likelihood,
            "validation_loss": self.validation_loss,
        }


def autoregressive_prior_task(
    network: nn.Module,
    image_shape: tuple[Pixels, ...],
    conditions: tuple[Condition, ...] = (),
    space: EmbeddingSpace | None = None,
    variance: Share | None = None,
) -> AutoregressivePriorTask:
    """The task of a config's section `dict(type="autoregressive_prior", ...)`.

    Args:
      network, conditions, space: see `AutoregressiveModel`.
      image_shape: of one `image` of a batch, which is the space's.
      variance: share of the embeddings' variance that codes explain, in place of a number of
        `model.components`, which is found by it before the network is built; None for 0.99.
    """
    del image_shape, variance
    return AutoregressivePriorTask(AutoregressiveModel(network, space, conditions))  # type: ignore[arg-type]
