"""Vector quantisation: each latent vector becomes its nearest code (van den Oord et al. 2017)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

# The collection of codes that are averages of the data: no parameters of the optimizer's.
CODEBOOK = "codebook"
_TINY = 1e-12


class Quantised(NamedTuple):
    """Codes in the place of latents.

    Attributes:
      z: the codes `[B, H, W, D] float32`; gradients pass to the latents unchanged.
      index: which codes, `[B, H, W] int32`.
      commitment: `mean (z - sg(code))^2 [B]`, which pulls the latents (eq. 3, without its beta).
      codebook: `mean (sg(z) - code)^2 [B]`, which pulls the codes; 0 where they are averages.
    """

    z: Array
    index: Array
    commitment: Array
    codebook: Array


def nearest(z: Array, table: Array) -> Array:
    """Index `[...] int32` of the row of `table [K, D]` nearest to each of `z [..., D] float32`."""
    # |z|^2 is the same for all codes.
    product = jnp.einsum("...d,kd->...k", z, table, precision="highest")
    return jnp.argmin(jnp.sum(table**2, axis=-1) - 2 * product, axis=-1).astype(jnp.int32)


def _unit(x: Array) -> Array:
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x**2, axis=-1, keepdims=True), _TINY))


class Quantiser(nn.Module):
    """Latents `[B, H, W, D]` to their nearest codes, in float32.

    Attributes:
      codes: size K of the codebook.
      normalise: latents and codes are first projected onto the unit sphere (Yu et al. 2022,
        section 3.2).
      decay: of the codes as averages of the latents that choose them (eq. 6 to 8), in the
        collection `CODEBOOK`, which must be mutable in training; None for codes in `params`.
    """

    codes: int
    normalise: bool = False
    decay: float | None = None

    @nn.compact
    def __call__(self, z: Array, train: bool = False) -> Quantised:
        z = z.astype(jnp.float32)
        shape = (self.codes, z.shape[-1])
        averages = None
        if self.decay is None:
            table = self.param("codes", _first_codes, shape)
        else:
            averages = self._averages(shape)
            table = averages[0].value
        if self.normalise:
            z, table = _unit(z), _unit(table)
        index = nearest(z, table)
        code = table[index]
        axes = tuple(range(1, z.ndim))
        commitment = jnp.mean((z - jax.lax.stop_gradient(code)) ** 2, axes)
        codebook = jnp.mean((jax.lax.stop_gradient(z) - code) ** 2, axes)
        if averages is not None:
            codebook = jnp.zeros_like(codebook)
            if train and not self.is_initializing():
                self._follow(averages, jax.lax.stop_gradient(z), index)
        return Quantised(z + jax.lax.stop_gradient(code - z), index, commitment, codebook)

    def _averages(self, shape: tuple[int, int]) -> tuple[nn.Variable, nn.Variable]:
        def first() -> Array:
            return _first_codes(self.make_rng("params"), shape)

        table = self.variable(CODEBOOK, "codes", first)
        return table, self.variable(CODEBOOK, "counts", jnp.ones, shape[:1])

    def _follow(self, averages: tuple[nn.Variable, nn.Variable], z: Array, index: Array) -> None:
        """One step of the averages. Written as a move of the codes, which leaves those that nobody
        chose exactly where they are: as a quotient of decayed sums they would end as 0 / 0."""
        assert self.decay is not None
        table, counts = averages
        index, z = index.reshape(-1), z.reshape(-1, z.shape[-1])
        chosen = jnp.zeros_like(counts.value).at[index].add(1.0)
        total = jnp.zeros_like(table.value).at[index].add(z)
        new = 1.0 - self.decay
        counts.value = self.decay * counts.value + new * chosen
        move = new * (total - chosen[:, None] * table.value)
        table.value = table.value + move / jnp.maximum(counts.value, _TINY)[:, None]


def _first_codes(key: Array, shape: tuple[int, ...]) -> Array:
    """U(-1/K, 1/K), as the original implementation draws them."""
    bound = 1.0 / shape[0]
    return jax.random.uniform(key, shape, jnp.float32, -bound, bound)
