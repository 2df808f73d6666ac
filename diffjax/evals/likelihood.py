"""Likelihood bounds and losses over a data set, component by component, with standard errors."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np

from diffjax.batches import map_batches
from diffjax.evals import trial
from diffjax.evals.base import Picture
from diffjax.evals.context import EvalContext
from diffjax.fingerprints import fingerprint
from diffjax.keys import check_seed, seed_after, seed_words
from diffjax.ranges import Amount, Seed
from diffjax.results import Result, extend
from diffjax.task import Variables


@dataclass(frozen=True, eq=False)
class Likelihood:
    """Means of what `bits_per_dim(variables, seed, batch, **pred_kw)` gives, a dict of `[B]`.

    Attributes:
      pred: the predict function; any other of this form too. Values that are not `[B]` (codes)
        are left out.
      split: "test" or "train".
      num_images: the first so many of the split; None for all.
      seed: of the noise; batch b is given the seed b after it, so no two batches share their noise.
    """

    context: EvalContext
    pred: str = "bits_per_dim"
    pred_kw: Mapping[str, Any] = field(default_factory=dict)
    split: str = "test"
    num_images: Amount | None = None
    batch_size: Amount = 128
    seed: Seed = 0

    @cached_property
    def _bound(self) -> tuple[Callable[..., Any], dict[str, Any]]:
        fn, options = self.context.bind(self.pred, self.pred_kw)

        def one(variables: Variables, seed: Any, batch: dict[str, Any]) -> Any:
            got = fn(variables, seed, batch)
            return {k: v for k, v in got.items() if v.ndim == 1}

        return jax.jit(one), options

    def __post_init__(self) -> None:
        check_seed(self.seed)
        self.context.bind(self.pred, self.pred_kw)
        self.context.split(self.split)

    def trial(self, variables: Variables) -> None:
        """See `Evaluator.trial`."""
        split = self.context.outline(self.split)
        batch = trial.batch_of(self.context, split, self.batch_size)
        got = self.context.shapes(self.pred, self.pred_kw, variables, trial.SEED, batch)
        shapes = {k: x.shape for k, x in got.items()} if isinstance(got, Mapping) else got
        if (self.batch_size,) not in (shapes.values() if isinstance(got, Mapping) else ()):
            raise ValueError(f"{self.pred} gives {shapes}, no value [{self.batch_size}] by name")

    def run(self, variables: Variables) -> Iterator[Result | Picture]:
        """One scalar per component, "<pred>/<component>"; `std` is the mean's error."""
        bits_per_dim, options = self._bound
        arrays = {k: v[: self.num_images] for k, v in self.context.split(self.split).items()}

        seeds = (seed_words(seed_after(self.seed, number)) for number in itertools.count())
        components = map_batches(
            lambda batch: bits_per_dim(variables, np.asarray(next(seeds), np.uint32), batch),
            arrays,
            self.batch_size,
            self.context.batch_sharding,
        )
        how = extend(
            options,
            pred=self.pred,
            split=self.split,
            data=fingerprint(arrays),
            num_images=len(arrays["image"]),
            seed=self.seed,
        )
        for name, values in components.items():
            x = np.asarray(values, np.float64)
            error = float(x.std(ddof=1) / np.sqrt(len(x))) if len(x) > 1 else None
            yield Result(f"{self.pred}/{name}", float(x.mean()), error, how)
