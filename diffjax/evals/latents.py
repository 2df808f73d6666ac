"""Latents of an autoencoder: active units, traversals, interpolations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import jax
import numpy as np

from diffjax.batches import map_batches
from diffjax.diffusion.interpolation import Way, between
from diffjax.evals import trial
from diffjax.evals.base import Picture
from diffjax.evals.context import EvalContext
from diffjax.evals.pictures import tile_grid
from diffjax.fingerprints import fingerprint, to_host
from diffjax.objectives.elbo import kl_to_prior
from diffjax.ranges import Amount, Positive, Tiles
from diffjax.results import Result, protocol
from diffjax.task import Variables

# A unit is active where the posterior's mean varies more than this over images (Burda et al. 2016,
# section 5.2).
ACTIVE = 0.01


@dataclass(frozen=True, eq=False)
class Latents:
    """Attributes:
    posterior: predict function `(variables, image) -> (mean, log variance) [N, D]`.
    decode: predict function `(variables, z [N, D]) -> image`.
    rows: dimensions in the traversals, those of most KL first; and pairs in the interpolations.
    columns: images in a row of either.
    reach: traversals go from -reach to reach standard deviations of the prior.
    around: the code that traversals start from: the prior's "mean", or the "image" of this split's
      first example.
    path: of interpolations: "linear" or "spherical".
    """

    context: EvalContext
    posterior: str = "posterior"
    decode: str = "decode"
    split: str = "test"
    rows: Tiles = 10
    columns: Tiles = 9
    reach: Positive = 3.0
    around: Literal["mean", "image"] = "image"
    path: Way = "spherical"
    batch_size: Amount = 128

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 2:
            raise ValueError(f"rows {self.rows} must be >= 1, columns {self.columns} must be >= 2")
        for name in (self.posterior, self.decode):
            self.context.bind(name)
        self.context.split(self.split)

    @cached_property
    def _stages(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        posterior, _ = self.context.bind(self.posterior)
        decode, _ = self.context.bind(self.decode)

        def encode(variables: Variables, image: Any) -> Any:
            mean, log_var = posterior(variables, image)
            return mean, kl_to_prior(mean, log_var)

        return jax.jit(encode), jax.jit(lambda v, z: decode(v, z))

    def trial(self, variables: Variables) -> None:
        """See `Evaluator.trial`."""
        split = self.context.outline(self.split)
        if split["image"].shape[0] < 2:
            raise ValueError(f"split {self.split!r} has one image: there is no way between two")
        image = trial.batch_of(self.context, split, self.batch_size)["image"]
        mean, _ = self.context.shapes(self.posterior, {}, variables, image)
        trial.vectors(mean, self.batch_size, self.posterior)
        decoded = self.context.shapes(self.decode, {}, variables, mean)
        decoded = trial.images(decoded, self.batch_size, self.decode)
        trial.same_images(self.context, decoded, self.split, "decoded images")

    def run(self, variables: Variables) -> Iterator[Result | Picture]:
        """Result "active_units"; pictures "traversals" and "interpolations"."""
        arrays = {"image": np.asarray(self.context.split(self.split)["image"])}
        encode, _ = self._stages
        mean, kl = map_batches(
            lambda batch: encode(variables, batch["image"]),
            arrays,
            self.batch_size,
            self.context.batch_sharding,
        )
        how = protocol(split=self.split, data=fingerprint(arrays), num_images=len(mean))
        active = int((mean.var(axis=0) > ACTIVE).sum())
        yield Result("active_units", float(active), None, how)
        yield self._traversals(variables, mean, kl.mean(axis=0))
        yield self._interpolations(variables, arrays, mean)

    def _decoded(self, variables: Variables, z: np.ndarray) -> np.ndarray:
        """`z [R, C, D]` to images `[R, C, H, W, channels]`."""
        flat = self._stages[1](variables, z.reshape(-1, z.shape[-1]).astype(np.float32))
        return to_host(flat).reshape(*z.shape[:2], *flat.shape[1:])

    def _traversals(self, variables: Variables, mean: np.ndarray, kl: np.ndarray) -> Picture:
        shown = np.argsort(-kl, kind="stable")[: self.rows]
        steps = np.linspace(-self.reach, self.reach, self.columns)
        start = np.zeros_like(mean[0]) if self.around == "mean" else mean[0]
        z = np.tile(start, (len(shown), self.columns, 1))
        for row, unit in enumerate(shown):
            z[row, :, unit] = steps
        where = "the prior's mean" if self.around == "mean" else f"an image of {self.split}"
        note = f"one dimension at a time, the others those of {where}"
        picture = tile_grid(
            self._decoded(variables, z),
            rows=[f"z{unit} · {kl[unit]:.2f} nats" for unit in shown],
            columns=[f"{s:+.2g}" for s in steps],
            title="Traversals",
            note=note,
        )
        return Picture("traversals", picture, f"Rows by KL; {note}.")

    def _interpolations(
        self, variables: Variables, arrays: Mapping[str, np.ndarray], mean: np.ndarray
    ) -> Picture:
        pairs = min(self.rows, len(mean) // 2)
        shares = np.linspace(0, 1, self.columns)
        z = between(mean[:pairs], mean[pairs : 2 * pairs], shares, self.path)
        image = arrays["image"]
        tiles = np.concatenate(
            [image[:pairs, None], self._decoded(variables, z), image[pairs : 2 * pairs, None]], 1
        )
        note = f"{self.path}, between the codes of two images of {self.split}"
        picture = tile_grid(
            tiles,
            columns=["image", *(f"{100 * s:.0f} %" for s in shares), "image"],
            title="Interpolations",
            note=note,
        )
        return Picture("interpolations", picture, f"From the left image to the right: {note}.")
