"""The task of a variational autoencoder: its bound, and what is drawn, encoded and decoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.choices import pick
from diffjax.keys import Rng, normal, per_row, root, stream
from diffjax.models.vae import VAE
from diffjax.objectives.elbo import (
    effective_samples,
    free_bits,
    importance_bound,
    kl_to_prior,
    log_normal,
    reparameterise,
)
from diffjax.objectives.likelihoods import Decoded, Likelihood, bits_per_dim
from diffjax.ranges import Amount, MaybeWidth, NonNegative, Pixels, Width
from diffjax.task import Batch, LossOutput, Params, Variables


@dataclass(frozen=True)
class VaeTask:
    """Kingma & Welling 2014, with the prior N(0, 1).

    Attributes:
      network: encoder and decoder.
      image_shape: (H, W, C).
      likelihood: of `LIKELIHOODS`; one that reads a scale needs a network with one.
      beta: weight of the KL term (Higgins et al. 2017, eq. 4); 1 is the ELBO.
      free_bits, free_groups, free_over: lambda in nats, and its groups: see `elbo.free_bits`.
      samples: of the posterior for every image, K.
      importance_weighted: trains the bound of K importance-weighted samples (Burda et al. 2016)
        in place of the mean of K estimates of the ELBO.
    """

    network: VAE
    image_shape: tuple[Pixels, ...]
    likelihood: Likelihood
    beta: NonNegative = 1.0
    free_bits: NonNegative = 0.0
    free_groups: MaybeWidth = 0
    free_over: Literal["batch", "example"] = "batch"
    samples: Width = 1
    importance_weighted: bool = False

    # No classes are conditioned on.
    num_classes: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if not isinstance(self.network, VAE):
            raise ValueError(
                f"task 'vae' trains a model of type 'vae', not {type(self.network).__name__}"
            )
        for name, least in (("beta", 0), ("free_bits", 0), ("free_groups", 0), ("samples", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"task.{name}={getattr(self, name)} must be at least {least}")
        scale = self.network.scale
        if self.likelihood.scaled and scale == "none":
            raise ValueError(
                f"task.likelihood {type(self.likelihood).__name__} reads a scale, but model.scale "
                "is 'none': set model.scale to 'shared' or 'pixel'"
            )
        if not self.likelihood.scaled and scale != "none":
            raise ValueError(
                f"model.scale={scale!r} is not read by task.likelihood "
                f"{type(self.likelihood).__name__} (a Gaussian of given std, or Bernoulli): set "
                "model.scale='none'"
            )
        if self.importance_weighted and (self.beta != 1 or self.free_bits):
            raise ValueError(
                "task.importance_weighted has one term, not two: leave task.beta at 1 and "
                "task.free_bits at 0"
            )
        if self.free_groups and self.network.latent % self.free_groups:
            raise ValueError(
                f"task.free_groups={self.free_groups} does not divide "
                f"model.latent={self.network.latent}"
            )

    @property
    def whole_batch(self) -> bool:
        """Whether an example's loss depends on the others of its batch."""
        return bool(self.free_bits) and self.free_over == "batch"

    def init(self, key: Array, batch_spec: Mapping[str, Any]) -> Variables:
        del batch_spec  # the shape of an image is the task's own
        image = jnp.zeros((1, *self.image_shape), jnp.float32)
        return Variables(self.network.init(key, image)["params"], {}, {})

    def _posterior(self, params: Params, image: Array, **kw: Any) -> tuple[Array, Array]:
        got: Any = self.network.apply({"params": params}, image, method="encode", **kw)
        return got

    def _decoded(self, params: Params, z: Array, **kw: Any) -> Decoded:
        got: Any = self.network.apply({"params": params}, z, method="decode", **kw)
        return Decoded(*got)

    def _over_samples(
        self, keys: Array, posterior: tuple[Array, Array], count: int, value: Callable[[Array], Any]
    ) -> Any:
        """`value(z [B, D])` of `count` samples of the posterior, stacked; sample k of a row is a
        function of the row's key and k."""

        def one(k: Array) -> Any:
            noise = normal(jax.vmap(jax.random.fold_in, (0, None))(keys, k), posterior[0].shape[1:])
            return value(reparameterise(*posterior, noise))

        if count == 1:
            return jax.tree.map(lambda x: x[None], one(jnp.int32(0)))
        return jax.lax.map(one, jnp.arange(count))

    def _log_weight(
        self, params: Params, target: Array, posterior: tuple[Array, Array], z: Array, **kw: Any
    ) -> Array:
        """`log p(x, z) - log q(z | x)`, `[B]` in nats."""
        prior = log_normal(z, jnp.zeros(()), jnp.zeros(()))
        log_p = self.likelihood.log_prob(self._decoded(params, z, **kw), target)
        return log_p + prior - log_normal(z, *posterior)

    def loss(
        self,
        params: Params,
        model_state: Params,
        frozen: Params,
        batch: Batch,
        rng: Rng,
        train: bool,
    ) -> LossOutput:
        """The negative bound in nats per image: `beta KL - log p(x | z)`, or that of importance
        weights. Metrics: `kl` and `log_likelihood`, or `effective_samples`."""
        del frozen
        target = self.likelihood.target(batch["image"], rng.rowwise("target"))
        # Microbatches share a key and differ in their first row.
        dropout = jax.random.fold_in(rng.batch("dropout"), rng.rows[0])
        kw: dict[str, Any] = {"train": True, "rngs": {"dropout": dropout}} if train else {}
        posterior = self._posterior(params, target, **kw)
        keys = rng.rowwise("posterior")
        if self.importance_weighted:
            weigh = lambda z: self._log_weight(params, target, posterior, z, **kw)  # noqa: E731
            log_w = self._over_samples(keys, posterior, self.samples, weigh)
            metrics = {"effective_samples": effective_samples(log_w)}
            return LossOutput(-importance_bound(log_w), metrics, model_state)
        likely = lambda z: self.likelihood.log_prob(self._decoded(params, z, **kw), target)  # noqa: E731
        log_p = self._over_samples(keys, posterior, self.samples, likely).mean(0)
        kl = kl_to_prior(*posterior)
        rate = free_bits(kl, self.free_bits, self.free_groups, self.free_over)
        metrics = {"kl": kl.sum(-1), "log_likelihood": log_p}
        return LossOutput(self.beta * rate - log_p, metrics, model_state)

    def _given(self, image: Array, seed: Array, name: str) -> tuple[Array, Array]:
        """The likelihood's target for the images, and the keys of their posterior's samples."""
        keys = per_row(stream(root(seed), name), jnp.arange(len(image)))
        target = self.likelihood.target(image, jax.vmap(lambda k: stream(k, "target"))(keys))
        return target, jax.vmap(lambda k: stream(k, "posterior"))(keys)

    def _in_bits(self, nats: Array, target: Array) -> dict[str, Array]:
        """Bits per dimension, where nats are of a mass."""
        size = target[0].size
        return {"bits_per_dim": bits_per_dim(nats, size)} if self.likelihood.discrete else {}

    def elbo(
        self, variables: Variables, seed: Array, batch: Batch, samples: Amount = 1
    ) -> dict[str, Array]:
        """The bound on `log p(x)`, `[B]` each: `nats` = `log_likelihood` - `kl`, and
        `bits_per_dim` where the likelihood is of discrete values. `samples` of the posterior."""
        target, keys = self._given(batch["image"], seed, "elbo")
        p = variables.params
        posterior = self._posterior(p, target)
        likely = lambda z: self.likelihood.log_prob(self._decoded(p, z), target)  # noqa: E731
        log_p = self._over_samples(keys, posterior, samples, likely).mean(0)
        kl = kl_to_prior(*posterior).sum(-1)
        bits = self._in_bits(log_p - kl, target)
        return {"nats": log_p - kl, "log_likelihood": log_p, "kl": kl, **bits}

    def iwae(
        self, variables: Variables, seed: Array, batch: Batch, samples: Amount = 64
    ) -> dict[str, Array]:
        """The importance-weighted bound on `log p(x)`, `[B]` each: `nats`, `bits_per_dim` as in
        `elbo`, and how many of the `samples` it rests on."""
        target, keys = self._given(batch["image"], seed, "iwae")
        posterior = self._posterior(variables.params, target)
        weigh = lambda z: self._log_weight(variables.params, target, posterior, z)  # noqa: E731
        log_w = self._over_samples(keys, posterior, samples, weigh)
        nats = importance_bound(log_w)
        found = {"nats": nats, "effective_samples": effective_samples(log_w)}
        return found | self._in_bits(nats, target)

    def posterior(self, variables: Variables, image: Array) -> tuple[Array, Array]:
        """Mean and log variance of q(z | x), `[B, D] float32` each."""
        return self._posterior(variables.params, self._given(image, jnp.int32(0), "encode")[0])

    def encode(self, variables: Variables, image: Array, label: Array | None = None) -> Array:
        """The posterior's mean, `[B, D] float32`; labels are not read."""
        del label
        return self.posterior(variables, image)[0]

    def decode(self, variables: Variables, z: Array, label: Array | None = None) -> Array:
        """The expected image of `z [B, D]`, `[B, H, W, C] float32 in [-1, 1]`; labels are not
        read."""
        del label
        return self.likelihood.mean(self._decoded(variables.params, z))

    def reconstruct(self, variables: Variables, image: Array) -> Array:
        """`decode(encode(image))`."""
        return self.decode(variables, self.encode(variables, image))

    def sample(
        self,
        variables: Variables,
        seed: Array,
        index: Array,
        label: Array | None = None,
        pixels: Literal["mean", "drawn"] = "mean",
    ) -> Array:
        """Images of the prior, `[B, H, W, C] float32 in [-1, 1]`.

        Args:
          seed: [] int; index: `[B] int32`. Sample n is a function of (seed, index n).
          label: not read.
          pixels: the "mean" of p(x | z), or "drawn" from it.

        Raises:
          ValueError: another word for `pixels`.
        """
        del label
        self.nfe(pixels)
        keys = per_row(stream(root(seed), "sample"), index)
        z = normal(jax.vmap(lambda k: stream(k, "prior"))(keys), (self.network.latent,))
        decoded = self._decoded(variables.params, z)
        if pixels == "mean":
            return self.likelihood.mean(decoded)
        return self.likelihood.draw(decoded, jax.vmap(lambda k: stream(k, "pixels"))(keys))

    def nfe(self, pixels: str = "mean") -> dict[str, Any]:
        """The protocol of `sample`: one evaluation of the decoder.

        Raises:
          ValueError: another word for `pixels`.
        """
        return {"pixels": pick("pixels", pixels, ("mean", "drawn")), "nfe": 1}

    def validation_loss(self, variables: Variables, seed: Array, batch: Batch) -> dict[str, Array]:
        """The training loss without dropout, and its parts, [B]."""
        size = len(batch["image"])
        rng = Rng(stream(root(seed), "validation"), jnp.arange(size), size)
        out = self.loss(*variables, batch, rng, False)
        return {"loss": out.loss, **out.metrics}

    def predict_fns(self) -> Mapping[str, Callable[..., Any]]:
        fns = (self.elbo, self.iwae, self.posterior, self.encode, self.decode, self.reconstruct,
               self.sample, self.validation_loss)  # fmt: skip
        return {fn.__name__: fn for fn in fns}
