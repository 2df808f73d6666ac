"""Codes of image embeddings: their first principal components, each in buckets (Ramesh et al. 2022,
section 2.2, the autoregressive prior)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.denoisers.frozen import placeholders
from diffjax.metrics.pca import PrincipalComponents, explained, fit, project, reconstruct
from diffjax.task import Params

# Of the frozen variables of a model that predicts them.
CODES = "codes"


def quantise(x: Array, low: Array, high: Array, buckets: int) -> Array:
    """Buckets `[..., K] int32` of numbers `x [..., K]`, equally wide between `low` and `high [K]`;
    what lies beyond them is in the first or the last."""
    place = (x - low) / _span(low, high) * buckets
    return jnp.clip(jnp.floor(place), 0, buckets - 1).astype(jnp.int32)


def dequantise(codes: Array, low: Array, high: Array, buckets: int) -> Array:
    """The middles `[..., K] float32` of buckets `codes [..., K]`, see `quantise`."""
    return low + (codes + 0.5) / buckets * _span(low, high)


def _span(low: Array, high: Array) -> Array:
    """A coordinate that is the same everywhere has all its values in one bucket."""
    return jnp.maximum(high - low, 1e-12)


@dataclass(frozen=True)
class Codes:
    """Embeddings as sequences of buckets, and the buckets of their cosines with their texts'.

    Its variables are `mean [E]`, `components [E, E]`, `variance [E]` (see `PrincipalComponents`),
    `low` and `high [E]`, between which the coordinates of the training set lie, and, with
    `dot_buckets`, `dots [dot_buckets - 1]`, between which its cosines are parted into equal shares.

    Attributes:
      width: E, of the embeddings.
      components: K, the first so many principal components.
      buckets: of each.
      dot_buckets: of the cosines; 0 for none.

    Raises:
      ValueError: more components than there are, or one bucket for all cosines.
    """

    width: int
    components: int
    buckets: int
    dot_buckets: int = 0

    def __post_init__(self) -> None:
        if self.components > self.width:
            raise ValueError(
                f"model.components={self.components}, but the embeddings have {self.width} "
                f"elements: take at most {self.width}"
            )
        if self.dot_buckets == 1:
            raise ValueError(
                "model.dot_buckets=1 says nothing of a cosine: take 2 and more, or 0 for no token"
            )

    def init(self) -> Params:
        """See `placeholder_variables`."""
        e = self.width
        shapes = {"mean": (e,), "components": (e, e), "variance": (e,), "low": (e,), "high": (e,)}
        shapes |= {"dots": (self.dot_buckets - 1,)} if self.dot_buckets else {}
        return placeholders({k: jax.ShapeDtypeStruct(s, jnp.float32) for k, s in shapes.items()})

    def encode(self, held: Params, x: Array) -> Array:
        """Codes `[B, K] int32` of embeddings `x [B, E]`; `held` are the variables."""
        low, high = self._ends(held)
        return quantise(project(pca_of(held), x, self.components), low, high, self.buckets)

    def decode(self, held: Params, codes: Array) -> Array:
        """Embeddings `[B, E] float32` at the middles of the buckets `codes [B, K]`."""
        low, high = self._ends(held)
        return reconstruct(pca_of(held), dequantise(codes, low, high, self.buckets))

    def gaussian_nats(self, held: Params, codes: Array) -> Array:
        """`[B, K] float32`, what each code costs where coordinates are independent and normal, of
        the training set's variances."""
        std = jnp.sqrt(jnp.maximum(held["variance"][: self.components], 1e-12))
        low, high = (end / std for end in self._ends(held))
        edges = low + jnp.arange(1, self.buckets)[:, None] / self.buckets * (high - low)
        below = jax.scipy.stats.norm.cdf(edges)
        ends = jnp.zeros((1, self.components))
        mass = jnp.diff(jnp.concatenate([ends, below, ends + 1]), axis=0)
        chosen = jnp.take_along_axis(mass, codes, axis=0)
        return -jnp.log(jnp.maximum(chosen, jnp.finfo(jnp.float32).tiny))

    def dots(self, held: Params, text: Array, image: Array) -> Array:
        """Buckets `[B] int32` of the cosines of embeddings `[B, E]`; 0 without buckets."""
        if not self.dot_buckets:
            return jnp.zeros(len(image), jnp.int32)
        return jnp.searchsorted(held["dots"], cosine(text, image), side="right").astype(jnp.int32)

    def top_dots(self, uniform: Array, top: Any) -> Array:
        """Buckets `[B] int32` out of the highest share `top` of the cosines, by chance: `uniform
        [B]` in [0, 1); 0 without buckets."""
        if not self.dot_buckets:
            return jnp.zeros(uniform.shape, jnp.int32)
        place = jnp.ceil(self.dot_buckets * (1 - top * uniform)) - 1
        return jnp.clip(place, 0, self.dot_buckets - 1).astype(jnp.int32)

    @property
    def no_dot(self) -> int:
        """The bucket of a pair whose text says nothing."""
        return self.dot_buckets

    def _ends(self, held: Params) -> tuple[Array, Array]:
        return held["low"][: self.components], held["high"][: self.components]


def cosine(a: Array, b: Array) -> Array:
    """Of rows `[B, E]`, `[B] float32`; 0 with a row of zeros."""
    a, b = (x.astype(jnp.float32) for x in (a, b))
    sizes = jnp.linalg.norm(a, axis=-1) * jnp.linalg.norm(b, axis=-1)
    return (a * b).sum(-1) / jnp.maximum(sizes, 1e-12)


def pca_of(held: Params) -> PrincipalComponents:
    """The principal components among the variables of `Codes`."""
    return PrincipalComponents(*(held[name] for name in PrincipalComponents._fields))


def fit_codes(
    embeddings: Sequence[np.ndarray], cosines: np.ndarray | None, dot_buckets: int
) -> dict[str, np.ndarray]:
    """Variables of `Codes`, float32, fitted in float64.

    Args:
      embeddings: of a training set, in batches `[n, E]`; they are gone through twice.
      cosines: `[N]`, of these with their texts'; read with `dot_buckets`.

    Raises:
      ValueError: embeddings that are all the same, or not finite.
    """
    pca = fit(embeddings)
    if not pca.variance[0] > 0:
        raise ValueError("the embeddings of the training images are all the same: train their CLIP")
    held = {k: np.asarray(v, np.float32) for k, v in pca._asdict().items()}
    each = [np.asarray(project(pca_of(held), x)) for x in embeddings]
    held["low"] = np.min([x.min(axis=0) for x in each], axis=0)
    held["high"] = np.max([x.max(axis=0) for x in each], axis=0)
    if dot_buckets:
        assert cosines is not None
        shares = np.arange(1, dot_buckets) / dot_buckets
        held["dots"] = np.quantile(np.asarray(cosines, np.float64), shares).astype(np.float32)
    return held


def share_of(held: Params, components: int) -> float:
    """Share of the training embeddings' variance that their first components explain."""
    return float(explained(held["variance"])[components - 1])
