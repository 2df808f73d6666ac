"""Resamplings of an evaluator's images to its network's size, as published numbers use them.

Each is a matrix along an axis, built in float64, so that the same one serves a whole batch on a
device and single images of any size on the host. Results are float32 and never rounded to levels.
Cubic weights overshoot at edges: as clean-fid does, what leaves 0 .. 255 is cut off there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.choices import pick


def _linear(position: np.ndarray, n: int) -> np.ndarray:
    """Rows that mix the two pixels about `position [m]`, clamped to the `n` there are."""
    position = np.clip(position, 0.0, n - 1.0)
    low = np.floor(position).astype(int)
    weights = np.zeros((len(position), n))
    np.add.at(weights, (np.arange(len(position)), low), 1.0 - (position - low))
    np.add.at(weights, (np.arange(len(position)), np.minimum(low + 1, n - 1)), position - low)
    return weights


def bilinear(n: int, size: int) -> np.ndarray:
    """Pixel centres at halves, no antialiasing: torch's `interpolate`, as in pytorch-fid."""
    return _linear((np.arange(size) + 0.5) * (n / size) - 0.5, n)


def tensorflow(n: int, size: int) -> np.ndarray:
    """TensorFlow 1's bilinear, half a pixel off: inside the graph that FID was defined with."""
    return _linear(np.arange(size) * (n / size), n)


def clean(n: int, size: int) -> np.ndarray:
    """Pillow's bicubic (a = -1/2), widened when it shrinks: Parmar et al. 2022, clean-fid."""
    scale = n / size
    wide = max(scale, 1.0)
    centre = (np.arange(size) + 0.5) * scale
    x = np.abs((np.arange(n) + 0.5 - centre[:, None]) / wide)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    weights = np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
    return weights / weights.sum(axis=1, keepdims=True)


METHODS: dict[str, Callable[[int, int], np.ndarray]] = {
    "bilinear": bilinear,
    "tensorflow": tensorflow,
    "clean": clean,
}
OVERSHOOT = ("clean",)  # has negative weights, so its results are clipped


@functools.lru_cache(maxsize=64)
def _matrix(method: str, n: int, size: int) -> np.ndarray:
    return METHODS[method](n, size).astype(np.float32)


@dataclass(frozen=True)
class Resample:
    """Images to squares of `size` pixels; their shape is not kept.

    Attributes:
      method: a key of `METHODS`.
      size: pixels.
    """

    method: str
    size: int

    def __post_init__(self) -> None:
        pick("resize", self.method, METHODS)

    def __call__(self, image: Any) -> Any:
        """`image [..., H, W, C] float32 -> [..., size, size, C]`, both in [-1, 1].

        Numpy arrays, or such as JAX traces.
        """
        height, width = image.shape[-3:-1]
        if (height, width) == (self.size, self.size):
            return image  # where each of the methods is the identity
        down, across = (_matrix(self.method, n, self.size) for n in (height, width))
        if isinstance(image, jax.Array):
            image = jnp.einsum("oh,...hwc->...owc", down, image, precision="highest")
            image = jnp.einsum("pw,...owc->...opc", across, image, precision="highest")
            return jnp.clip(image, -1.0, 1.0) if self.method in OVERSHOOT else image
        image = np.tensordot(down, image, (1, image.ndim - 3))  # [o, ..., w, c]
        image = np.tensordot(across, image, (1, image.ndim - 2))  # [p, o, ..., c]
        image = np.ascontiguousarray(np.moveaxis(image, (1, 0), (-3, -2)), np.float32)
        return np.clip(image, -1.0, 1.0) if self.method in OVERSHOOT else image
