"""Two spiral arms in the plane, their exact denoiser, and a loader of points for the train loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.spatial import KDTree

from diffjax.diffusion.levels import Level, broadcast_to
from diffjax.diffusion.sampling import Estimate

ARMS = 2
BOTH = ARMS  # the null class: a point of either arm

# (z [B, 2], level, label [B]) -> Estimate.
PointDenoiser = Callable[[Array, Level, Array], Estimate]


@dataclass(frozen=True)
class Spiral:
    """`x = curve(u, arm) + noise eps`, u uniform: so the density, its score and its denoiser are
    known, but for a sum over points along the curve.

    Attributes:
      turns: of each arm about the centre.
      inner: radius where the arms begin; they end at 1.
      noise: standard deviation of the points about the curve.
      nodes: points per arm that stand for the curve.
    """

    turns: float = 1.25
    inner: float = 0.15
    noise: float = 0.04
    nodes: int = 400

    def curve(self, u: np.ndarray, arm: np.ndarray | int) -> np.ndarray:
        """`[..., 2]` on the curve; u in [0, 1], spread so that u is nearly even in length."""
        radius = np.sqrt(self.inner**2 + u * (1 - self.inner**2))
        angle = 2 * np.pi * self.turns * radius + np.pi * np.asarray(arm)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)

    def draw(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Points `[count, 2] float32` and their arms `[count] int32`."""
        arm = rng.integers(0, ARMS, count)
        x = self.curve(rng.random(count), arm) + self.noise * rng.standard_normal((count, 2))
        return x.astype(np.float32), arm.astype(np.int32)

    @cached_property
    def centres(self) -> np.ndarray:
        """Nodes `[ARMS, nodes, 2]`, arm by arm from the centre outwards."""
        u = (np.arange(self.nodes) + 0.5) / self.nodes
        return np.stack([self.curve(u, arm) for arm in range(ARMS)])

    def estimate(self, z: Array, level: Level, label: Array) -> Estimate:
        """The exact denoiser `E[x | z, arm]`, label BOTH for either arm; `z [B, 2]`."""
        centres = jnp.asarray(self.centres, jnp.float32).reshape(-1, 2)
        owner = jnp.repeat(jnp.arange(ARMS), self.nodes)
        alpha, sigma = broadcast_to(level.alpha, z), broadcast_to(level.sigma, z)
        var = (alpha * self.noise) ** 2 + sigma**2
        square = jnp.sum((z[:, None] - jnp.reshape(alpha, (-1, 1, 1)) * centres) ** 2, -1)
        other = (label[:, None] != BOTH) & (label[:, None] != owner)
        share = jax.nn.softmax(jnp.where(other, -jnp.inf, -square / (2 * var)), -1)
        centre = share @ centres
        return Estimate(centre + alpha * self.noise**2 / var * (z - alpha * centre))

    @cached_property
    def _tree(self) -> KDTree:
        return KDTree(self.centres.reshape(-1, 2))

    def nearest(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of points `[N, 2]`: distance to the curve, arm, and node along it in [0, nodes)."""
        distance, index = self._tree.query(np.asarray(x, np.float64))
        arm, node = np.divmod(np.asarray(index), self.nodes)
        return np.asarray(distance), arm, node


@dataclass(frozen=True)
class PointLoader:
    """Fresh points for every step, a function of (seed, step); see `diffjax.train.run.Loader`."""

    spiral: Spiral
    batch_size: int
    seed: int

    def batch(self, step: int, rows: Any = None) -> Mapping[str, np.ndarray]:
        x, arm = self.spiral.draw(self.batch_size, np.random.default_rng((self.seed, step)))
        keep = slice(None) if rows is None else rows
        return {"image": x[keep], "label": arm[keep]}

    def iterate(self, start_step: int) -> Iterator[Mapping[str, np.ndarray]]:
        step = start_step
        while True:
            yield self.batch(step)
            step += 1

    def batch_spec(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        return {
            "image": jax.ShapeDtypeStruct((self.batch_size, 2), jnp.float32),
            "label": jax.ShapeDtypeStruct((self.batch_size,), jnp.int32),
        }

    def fingerprint(self) -> Mapping[str, Any]:
        return {"source": repr(self.spiral), "seed": self.seed, "batch_size": self.batch_size}
