"""The task of latent diffusion's autoencoder: error, perceptual distance, bottleneck, adversary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.choices import pick
from diffjax.keys import Rng, normal, root, stream
from diffjax.models.autoencoder import Autoencoder, Posterior
from diffjax.models.discriminator import PatchDiscriminator
from diffjax.models.perceptual import Perceptual
from diffjax.objectives.adversarial import GAN_LOSSES, adaptive_weight, gradient_of, with_gradient
from diffjax.objectives.elbo import kl_to_prior
from diffjax.ranges import Exponent, NonNegative, Pixels, Whole
from diffjax.task import Batch, LossOutput, Params, Variables
from diffjax.tasks.adversary import DISCRIMINATOR, Discriminator

PERCEPTUAL = "perceptual"
_LAST = ("decoder", "conv_out", "kernel")


class Passed(NamedTuple):
    """Outputs of the autoencoder.

    Attributes:
      image: reconstruction `[B, H, W, C] float32`.
      pull: gradient with respect to it -> gradient with respect to the decoder's last kernel.
      bottleneck: its loss per dimension of the image, `[B]`.
      metrics: of the bottleneck.
      moved: the collections that training moves.
    """

    image: Array
    pull: Callable[[Array], Array]
    bottleneck: Array
    metrics: dict[str, Array]
    moved: Params


@dataclass(frozen=True)
class AutoencoderTask:
    """Esser et al. 2021, section 3.1; Rombach et al. 2022, section 3.1 and appendix G.

    One loss, each of whose terms reaches only the parameters that it is for: the discriminator's
    are those under "discriminator", for an optimizer's `parts`.

    Attributes:
      network: the autoencoder.
      image_shape: (H, W, C).
      perceptual: a network under "perceptual" of the frozen ones, or None.
      discriminator: or None.
      error: of pixels in [-1, 1]: "l1", the absolute difference, or "l2", the square.
      perceptual_weight: of the perceptual distance; the mean error over pixels and channels has
        the weight one.
      kl_weight: of "kl": of its KL in nats over the sum of errors, which is what 1e-6 is in the
        paper; all terms are then divided by H W C.
      log_variance: of "kl": where the posterior's log variance begins; None for about 0. A short
        run then need not first learn to be louder than its own noise.
      commitment_weight, codebook_weight: of "vq", beta of van den Oord et al. 2017, eq. 3, and what
        multiplies both its terms.
      game: of the adversarial loss, a key of `GAN_LOSSES`.
      disc_weight: of the generator's loss, times the adaptive weight.
      disc_start: updates before the adversary enters, and before it is trained.
      adaptive: weigh the generator's loss by eq. 7; the weight is a batch's, or a microbatch's.
    """

    network: Autoencoder
    image_shape: tuple[Pixels, ...]
    perceptual: Perceptual | None = None
    discriminator: PatchDiscriminator | None = None
    error: Literal["l1", "l2"] = "l1"
    perceptual_weight: NonNegative = 1.0
    kl_weight: NonNegative = 1e-6
    log_variance: Exponent | None = None
    commitment_weight: NonNegative = 0.25
    codebook_weight: NonNegative = 1.0
    game: str = "hinge"
    disc_weight: NonNegative = 0.5
    disc_start: Whole = 0
    adaptive: bool = True

    # No classes are conditioned on.
    num_classes: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if not isinstance(self.network, Autoencoder):
            raise ValueError(
                f"task 'autoencoder' trains a model of type 'autoencoder', not "
                f"{type(self.network).__name__}"
            )
        pick("task.game", self.game, GAN_LOSSES)
        weights = ("perceptual_weight", "kl_weight", "commitment_weight", "codebook_weight",
                   "disc_weight", "disc_start")  # fmt: skip
        for name in weights:
            if getattr(self, name) < 0:
                raise ValueError(f"task.{name}={getattr(self, name)} must be at least 0")
        h, w, c = self.image_shape
        f, channels = self.network.factor, self.network.image_channels
        if h % f or w % f or c != channels:
            raise ValueError(
                f"images of {h} x {w} x {c}: the autoencoder needs sides divisible by {f} and "
                f"{channels} channels"
            )

    def init(self, key: Array, batch_spec: Mapping[str, Any]) -> Variables:
        del batch_spec  # the shape of an image is the task's own
        image = jnp.zeros((1, *self.image_shape), jnp.float32)
        made = dict(self.network.init(stream(key, "network"), image))
        params, frozen = dict(made.pop("params")), {}
        if self.network.bottleneck == "kl" and self.log_variance is not None:
            quant, channels = params["quant"], self.network.latent_channels
            bias = quant["bias"].at[channels:].set(self.log_variance)
            params["quant"] = {**quant, "bias": bias}
        if self.discriminator is not None:
            discriminator = dict(self.discriminator.init(stream(key, DISCRIMINATOR), image))
            params[DISCRIMINATOR] = discriminator.pop("params")
            made |= {name: {DISCRIMINATOR: tree} for name, tree in discriminator.items()}
        if self.perceptual is not None:
            seen = self.perceptual.init(stream(key, PERCEPTUAL), image, image)
            frozen[PERCEPTUAL] = seen["params"]
        return Variables(params, made, frozen)

    def codec_variables(self, variables: Variables) -> dict[str, Params]:
        """The task's variables that `network.apply` takes."""
        return self._own(variables.params, variables.model_state)

    def _own(self, params: Params, model_state: Params) -> dict[str, Params]:
        collections = {"params": params, **model_state}
        own = {
            name: {k: tree for k, tree in trees.items() if k != DISCRIMINATOR}
            for name, trees in collections.items()
        }
        return {name: trees for name, trees in own.items() if trees}

    def loss(
        self,
        params: Params,
        model_state: Params,
        frozen: Params,
        batch: Batch,
        rng: Rng,
        train: bool,
    ) -> LossOutput:
        """All terms per dimension of the image, `[B]`; in evaluation without the adversary's."""
        image = batch["image"]
        passed = self._pass(params, model_state, image, rng, train)
        state = {**model_state, **passed.moved}
        near = lambda x: self._distance(frozen, image, x)  # noqa: E731
        if self.discriminator is None or not train:
            distance, parts = near(passed.image)
            return LossOutput(distance + passed.bottleneck, {**parts, **passed.metrics}, state)
        discriminator = Discriminator(self.discriminator, params, state)
        real, fake, state = discriminator.logits(image, jax.lax.stop_gradient(passed.image))
        begun = jnp.asarray(rng.step >= self.disc_start, jnp.float32)
        trained = begun * GAN_LOSSES[self.game].discriminator(real, fake)
        distance, parts, gradient = gradient_of(near, passed.image)
        fool = lambda x: (GAN_LOSSES[self.game].generator(discriminator.fake_logits(x)), ())  # noqa: E731
        fooled, _, gan_grad = gradient_of(fool, passed.image)
        weight = begun * self.disc_weight
        if self.adaptive:
            size = len(image)  # Of means over the batch, as the paper has them.
            ours, theirs = (passed.pull(g / size) for g in (gradient, gan_grad))
            weight = weight * adaptive_weight(ours, theirs)
        made = with_gradient(distance + weight * fooled, passed.image, gradient + weight * gan_grad)
        metrics = {
            "generator": fooled,
            "discriminator": trained,
            "disc_weight": weight,
            "logits_real": _mean(real),
            "logits_fake": _mean(fake),
        }
        loss = made + passed.bottleneck + trained
        return LossOutput(loss, {**parts, **passed.metrics, **metrics}, state)

    def _pass(
        self, params: Params, model_state: Params, image: Array, rng: Rng, train: bool
    ) -> Passed:
        own, dims = self._own(params, model_state), image[0].size
        z: Any = self.network.apply(own, image, method="encode")
        moved: Params = {}
        if isinstance(z, Posterior):
            noise = normal(rng.rowwise("posterior"), z.mean.shape[1:])
            kl = kl_to_prior(z.mean, z.log_variance).sum((1, 2, 3))
            bottleneck, metrics = self.kl_weight * kl / dims, {"kl": kl}
            z = z.sample(noise) if train else z.mean
        else:
            quantised, moved = self._quantised(own, z, train)
            pulls = self.commitment_weight * quantised.commitment + quantised.codebook
            bottleneck, z = self.codebook_weight * pulls, quantised.z
            metrics = {"commitment": quantised.commitment}
        outer, layer, name = _LAST

        def decoded(kernel: Array) -> Array:
            decoder = own["params"][outer]
            last = {**decoder, layer: {**decoder[layer], name: kernel}}
            held = {**own, "params": {**own["params"], outer: last}}
            image: Any = self.network.apply(held, z, method="decode")
            return image

        made, pull = jax.vjp(decoded, own["params"][outer][layer][name])
        return Passed(made, lambda g: pull(g)[0], bottleneck, metrics, moved)

    def _quantised(self, own: Params, z: Array, train: bool) -> tuple[Any, Params]:
        """The codes of `z`, and the collections that moved with them."""
        mutable = [name for name in own if name != "params"] if train else []
        got, moved = self.network.apply(own, z, train, method="quantise", mutable=mutable)
        return got, dict(moved)

    def _distance(self, frozen: Params, image: Array, made: Array) -> tuple[Array, dict]:
        """The weighted error `[B]`, and its parts."""
        gap = made - image
        each = jnp.abs(gap) if self.error == "l1" else jnp.square(gap)
        total = error = _mean(each)
        parts = {"error": error}
        if self.perceptual is not None:
            seen = self._perceived(frozen, image, made)
            parts["perceptual"] = seen
            total = total + self.perceptual_weight * seen
        return total, parts

    def _perceived(self, frozen: Params, image: Array, made: Array) -> Array:
        assert self.perceptual is not None
        seen: Any = self.perceptual.apply({"params": frozen[PERCEPTUAL]}, image, made)
        return seen

    def _apply(self, variables: Variables, x: Array, method: str) -> Any:
        return self.network.apply(self.codec_variables(variables), x, method=method)

    def encode(self, variables: Variables, image: Array, label: Array | None = None) -> Array:
        """The posterior's mean, or what is to be quantised, `[B, h, w, C] float32`; labels are not
        read."""
        del label
        z = self._apply(variables, image, "encode")
        return z.mean if isinstance(z, Posterior) else z

    def decode(self, variables: Variables, z: Array, label: Array | None = None) -> Array:
        """Images `[B, H, W, C] float32 in [-1, 1]` of `z [B, h, w, C]`, which "vq" quantises
        first; labels are not read."""
        del label
        if self.network.bottleneck == "vq":
            z = self._apply(variables, z, "quantise").z
        return jnp.clip(self._apply(variables, z, "decode"), -1.0, 1.0)

    def reconstruct(self, variables: Variables, image: Array) -> Array:
        """`decode(encode(image))`."""
        return self.decode(variables, self.encode(variables, image))

    def codes(self, variables: Variables, image: Array) -> Array:
        """Codes of `image` under "vq", `[B, h, w] int32`."""
        return self._apply(variables, self.encode(variables, image), "quantise").index

    def perceptual_distance(self, variables: Variables, image: Array, made: Array) -> Array:
        """`[B] float32`, as trained on."""
        return self._perceived(variables.frozen, image, made)

    def validation_loss(self, variables: Variables, seed: Array, batch: Batch) -> dict[str, Array]:
        """The loss without the adversary, of the posterior's mean, and its parts, [B]."""
        size = len(batch["image"])
        rng = Rng(stream(root(seed), "validation"), jnp.arange(size), size)
        out = self.loss(*variables, batch, rng, False)
        return {"loss": out.loss, **out.metrics}

    def predict_fns(self) -> Mapping[str, Callable[..., Any]]:
        fns = [self.encode, self.decode, self.reconstruct, self.validation_loss]
        fns += [self.codes] if self.network.bottleneck == "vq" else []
        fns += [self.perceptual_distance] if self.perceptual is not None else []
        return {fn.__name__: fn for fn in fns}


def _mean(x: Array) -> Array:
    return x.astype(jnp.float32).reshape(len(x), -1).mean(-1)
