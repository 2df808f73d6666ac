"""Likelihoods of an image under a decoder: Gaussian, Bernoulli and discretised logistic.

Images are `[B, ...] float32 in [-1, 1]`; a likelihood first takes from them what it is a
likelihood of (`target`), and gives nats per image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.keys import normal, uniform
from diffjax.ranges import GreyLevels, Positive

# Salimans et al. 2017 keep the log scale of a logistic above this; a pixel that never changes
# would take it to minus infinity.
LEAST_LOG_SCALE = -7.0


class Decoded(NamedTuple):
    """A decoder's output for a batch.

    Attributes:
      location: `[B, ...] float32`, of the image's shape: a mean, or for Bernoulli the logits.
      log_scale: broadcasts to `location`; None where the decoder gives none.
    """

    location: Array
    log_scale: Array | None


class Likelihood(Protocol):
    """p(x | z) of an image."""

    @property
    def scaled(self) -> bool:
        """Whether it reads the decoder's `log_scale`."""
        ...

    @property
    def discrete(self) -> bool:
        """Whether nats are of a mass, so that bits per dimension can be compared."""
        ...

    def target(self, image: Array, keys: Array) -> Array:
        """The target that is modelled of `image [B, ...]`; `keys [B]` for what is random about
        it."""
        ...

    def log_prob(self, decoded: Decoded, target: Array) -> Array:
        """`log p(target | z)` in nats, `[B] float32`."""
        ...

    def mean(self, decoded: Decoded) -> Array:
        """The expected image, `[B, ...] float32 in [-1, 1]`."""
        ...

    def draw(self, decoded: Decoded, keys: Array) -> Array:
        """An image of p(x | z), `[B, ...] float32 in [-1, 1]`, each of its own key."""
        ...


def snap(image: Array, levels: int) -> Array:
    """`image in [-1, 1]` to the nearest of `levels` even values, the ends among them."""
    return jnp.round((image + 1) / 2 * (levels - 1)) / (levels - 1) * 2 - 1


def bits_per_dim(nats: Array, size: int) -> Array:
    """A log-likelihood in nats of `size` dimensions as bits per dimension (less is better)."""
    return -nats / (size * math.log(2.0))


def _sum(x: Array) -> Array:
    return x.reshape(len(x), -1).sum(-1)


def _log_scale(decoded: Decoded) -> Array:
    if decoded.log_scale is None:
        raise ValueError("this likelihood needs a decoder with a scale: model.scale='shared'")
    return jnp.maximum(decoded.log_scale, LEAST_LOG_SCALE)


@dataclass(frozen=True)
class Gaussian:
    """N(x; location, scale^2).

    Attributes:
      std: of every pixel; None takes the decoder's `log_scale` (one for all pixels: Rybkin et al.
        2021, section 3.1).
      levels: values that a pixel takes. Images are then dequantised by uniform noise, and nats are
        a bound on the log of a mass (Theis et al. 2016, section 3.1). None: nats of the density
        of the values as they are, which a learned scale can drive up without end on discrete data.
    """

    std: Positive | None = None
    levels: GreyLevels | None = None

    def __post_init__(self) -> None:
        if self.std is not None and self.std <= 0:
            raise ValueError(f"task.likelihood.std={self.std} must be above 0, or None")
        _check_levels(self.levels)

    @property
    def scaled(self) -> bool:
        return self.std is None

    @property
    def discrete(self) -> bool:
        return self.levels is not None

    def target(self, image: Array, keys: Array) -> Array:
        if self.levels is None:
            return image
        width = 2 / (self.levels - 1)
        return snap(image, self.levels) + width * (uniform(keys, image.shape[1:]) - 0.5)

    def _log_std(self, decoded: Decoded) -> Array:
        return _log_scale(decoded) if self.std is None else jnp.float32(math.log(self.std))

    def log_prob(self, decoded: Decoded, target: Array) -> Array:
        log_std = self._log_std(decoded)
        square = ((target - decoded.location) * jnp.exp(-log_std)) ** 2
        nats = _sum(-0.5 * square - log_std - 0.5 * math.log(2 * math.pi))
        if self.levels is None:
            return nats
        return nats + target[0].size * math.log(2 / (self.levels - 1))

    def mean(self, decoded: Decoded) -> Array:
        return jnp.clip(decoded.location, -1, 1)

    def draw(self, decoded: Decoded, keys: Array) -> Array:
        noise = jnp.exp(self._log_std(decoded)) * normal(keys, decoded.location.shape[1:])
        x = jnp.clip(decoded.location + noise, -1, 1)
        return x if self.levels is None else snap(x, self.levels)


@dataclass(frozen=True)
class Bernoulli:
    """Pixels that are black (-1) or white (1), white with probability sigmoid(location).

    Attributes:
      binarise: how a grey pixel becomes one of both: "threshold" at 0, or "sample", white with
        probability (x + 1) / 2, drawn anew each time (Salakhutdinov & Murray 2008).
    """

    binarise: Literal["threshold", "sample"] = "threshold"

    @property
    def scaled(self) -> bool:
        return False

    @property
    def discrete(self) -> bool:
        return True

    def target(self, image: Array, keys: Array) -> Array:
        if self.binarise == "threshold":
            white = image > 0
        else:
            white = uniform(keys, image.shape[1:]) < (image + 1) / 2
        return jnp.where(white, 1.0, -1.0)

    def log_prob(self, decoded: Decoded, target: Array) -> Array:
        return _sum(jax.nn.log_sigmoid(target * decoded.location))

    def mean(self, decoded: Decoded) -> Array:
        return 2 * jax.nn.sigmoid(decoded.location) - 1

    def draw(self, decoded: Decoded, keys: Array) -> Array:
        white = uniform(keys, decoded.location.shape[1:]) < jax.nn.sigmoid(decoded.location)
        return jnp.where(white, 1.0, -1.0)


@dataclass(frozen=True)
class DiscretisedLogistic:
    """The logistic's mass in the bin of a pixel's value, the outer bins open (Kingma et al. 2016,
    eq. 10; Salimans et al. 2017, eq. 2).

    Attributes:
      levels: values that a pixel takes: 256 for 8 bits.
    """

    levels: GreyLevels = 256

    @property
    def scaled(self) -> bool:
        return True

    @property
    def discrete(self) -> bool:
        return True

    def __post_init__(self) -> None:
        _check_levels(self.levels)

    def target(self, image: Array, keys: Array) -> Array:
        del keys
        return snap(image, self.levels)

    def log_prob(self, decoded: Decoded, target: Array) -> Array:
        return _sum(self.log_mass(decoded, target))

    def log_mass(self, decoded: Decoded, target: Array) -> Array:
        """Per dimension, in nats; `target` of the `levels` even values in [-1, 1]."""
        half = 1 / (self.levels - 1)
        inverse = jnp.exp(-_log_scale(decoded))
        centred = target - decoded.location
        below = jax.nn.log_sigmoid((centred + half) * inverse)  # log F(upper end)
        above = jax.nn.log_sigmoid(-(centred - half) * inverse)  # log (1 - F(lower end))
        # F(b) - F(a) = F(b) (1 - F(a)) (1 - exp(a - b)): no difference of near numbers.
        inner = below + above + jnp.log(-jnp.expm1(-2 * half * inverse))
        return jnp.where(target < -1 + half, below, jnp.where(target > 1 - half, above, inner))

    def mean(self, decoded: Decoded) -> Array:
        """The location, cut to [-1, 1]: the mean but for what the open ends take."""
        return jnp.clip(decoded.location, -1, 1)

    def draw(self, decoded: Decoded, keys: Array) -> Array:
        # Uniform in [0, 1) is 0 at times, whose logit is infinite.
        u = jnp.clip(uniform(keys, decoded.location.shape[1:]), 1e-7, 1 - 1e-7)
        noise = jnp.exp(_log_scale(decoded)) * (jnp.log(u) - jnp.log1p(-u))
        return snap(jnp.clip(decoded.location + noise, -1, 1), self.levels)


def _check_levels(levels: int | None) -> None:
    if levels is not None and levels < 2:
        raise ValueError(f"task.likelihood.levels={levels} must be at least 2 (256 for 8 bits)")


LIKELIHOODS: dict[str, Callable[..., Likelihood]] = {
    "gaussian": Gaussian,
    "bernoulli": Bernoulli,
    "logistic": DiscretisedLogistic,
}
