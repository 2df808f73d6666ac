"""Embeddings of noise levels, positions and classes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from diffjax.nn.initialisers import Init
from diffjax.nn.linear import Dense

# (cosines first, last frequency exactly 1/10000). Both conventions are in released weights.
SINUSOIDS: dict[str, tuple[bool, bool]] = {
    "sin_endpoint": (False, True),  # DDPM, DDPM++
    "cos": (True, False),  # iDDPM, ADM, DiT, Stable Diffusion
    "cos_endpoint": (True, True),  # DiT as diffusers has it
    "sin": (False, False),
}


def sinusoid(t: Array, width: int, kind: str, max_period: float = 10_000.0) -> Array:
    """Sinusoidal features `[B, width] float32` of `t [B]` (Vaswani et al. 2017, section 3.5).

    Frequencies fall geometrically from 1 to 1/max_period; `kind` is a key of `SINUSOIDS`.
    """
    if kind not in SINUSOIDS:
        raise ValueError(f"unknown time embedding {kind!r}; have {[*SINUSOIDS, 'fourier']}")
    if width % 2:
        raise ValueError(f"time embedding of odd width {width}; sines and cosines need an even one")
    cos_first, endpoint = SINUSOIDS[kind]
    half = width // 2
    exponent = np.arange(half, dtype=np.float64) / (half - 1 if endpoint else half)
    angle = t.astype(jnp.float32)[:, None] * jnp.asarray(max_period**-exponent, jnp.float32)
    waves = [jnp.cos(angle), jnp.sin(angle)]
    return jnp.concatenate(waves if cos_first else waves[::-1], axis=-1)


def fourier_frequencies(width: int, scale: float, seed: int) -> tuple[float, ...]:
    """`width / 2` fixed frequencies drawn once from N(0, scale^2)."""
    draws = np.random.default_rng(seed).standard_normal(width // 2) * scale
    return tuple(draws.tolist())


def fourier(t: Array, frequencies: tuple[float, ...]) -> Array:
    """Random Fourier features `[B, 2 n] float32` of `t [B]`, sines first (Song et al. 2021, C)."""
    angle = t.astype(jnp.float32)[:, None] * jnp.asarray(
        2 * np.pi * np.asarray(frequencies, np.float64), jnp.float32
    )
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def grid_positions(rows: int, columns: int, width: int) -> np.ndarray:
    """Fixed positions `[rows * columns, width] float32` of a grid, row by row.

    The first half of the features encodes the column, the second half the row, each as sines
    then cosines (Peebles & Xie 2023, following He et al. 2022).
    """
    if width % 4:
        raise ValueError(f"grid positions of width {width}; it must be divisible by 4")
    omega = 10_000.0 ** -(np.arange(width // 4) / (width / 4))

    def line(positions: np.ndarray) -> np.ndarray:
        angle = positions.reshape(-1)[:, None] * omega
        return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)

    y, x = np.mgrid[:rows, :columns].astype(np.float64)
    return np.concatenate([line(x), line(y)], axis=1).astype(np.float32)


class NoiseMLP(nn.Module):
    """Two dense layers with SiLU between: `[B, n] -> [B, width]`."""

    width: int
    init_family: Init
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(self, features: Array) -> Array:
        kinds = {
            "kernel_init": self.init_family.kernel,
            "bias_init": self.init_family.bias,
            "dtype": self.dtype,
        }
        h = Dense(self.width, name="layer1", **kinds)(features)
        return Dense(self.width, name="layer2", **kinds)(jax.nn.silu(h))


class LabelTable(nn.Module):
    """Class vectors: `label [B] int32 -> [B, width] float32`.

    With `null_class` the table has one more row, number `num_classes`: "no class", which label
    dropping trains and classifier-free guidance asks for; it also stands in for `label=None`.
    """

    num_classes: int
    width: int
    init_family: Init
    null_class: bool = True

    @nn.compact
    def __call__(self, label: Array | None, batch: int) -> Array:
        rows = self.num_classes + self.null_class
        table = self.param("table", self.init_family.label, (rows, self.width))
        return table[fill_label(label, batch, self.num_classes, self.null_class)]


def fill_label(label: Array | None, batch: int, num_classes: int, null_class: bool) -> Array:
    """`label [B]`, or the null class for everyone where it is None."""
    if label is not None:
        return label
    if not null_class:
        raise ValueError(
            f"label is None, but this network knows {num_classes} classes and no null class; "
            "pass label [B] int32"
        )
    return jnp.full((batch,), num_classes, jnp.int32)
