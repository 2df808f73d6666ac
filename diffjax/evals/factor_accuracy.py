"""A classifier of several factors over a data set: the share of images that it names right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from diffjax.batches import map_batches
from diffjax.choices import unknown
from diffjax.evals import trial
from diffjax.evals.base import Picture
from diffjax.evals.context import EvalContext
from diffjax.fingerprints import fingerprint
from diffjax.metrics.classification import share
from diffjax.ranges import Amount
from diffjax.results import Result, protocol
from diffjax.task import Variables

ALL = "all"  # beside the factors' own names: every one of them


def complete(arrays: Mapping[str, Any], factors: Sequence[str]) -> np.ndarray:
    """`[M] int64`: the examples that have every factor.

    Raises:
      ValueError: a factor that the data hold no number of, or no such example.
    """
    for name in factors:
        if name not in arrays or np.ndim(arrays[name]) != 1:
            numbers = [k for k, v in arrays.items() if np.ndim(v) == 1]
            raise unknown("factor, of which these data hold a number", name, numbers)
    kept = np.flatnonzero(np.all([np.asarray(arrays[name]) >= 0 for name in factors], axis=0))
    if not len(kept):
        raise ValueError(f"no example has all of {', '.join(factors)}")
    return kept


def factor_hits(
    named: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Factor -> whether it is named right, `[N] bool`, and ALL, whether all are."""
    hits = {name: np.asarray(value) == np.asarray(truth[name]) for name, value in named.items()}
    return {**hits, ALL: np.all(list(hits.values()), axis=0)}


@dataclass(frozen=True, eq=False)
class FactorAccuracy:
    """Compares `factor_logits(variables, image)` with the factors of a split's examples, those that
    have every one of them.

    Attributes:
      split: "test", "train" or one of the others.
    """

    context: EvalContext
    pred: str = "factor_logits"
    split: str = "test"
    batch_size: Amount = 256

    def __post_init__(self) -> None:
        self.context.bind(self.pred)
        self.context.split(self.split)

    @cached_property
    def _logits(self) -> Callable[..., Any]:
        return self.context.compiled(self.pred)

    def trial(self, variables: Variables) -> None:
        """See `Evaluator.trial`."""
        batch = trial.batch_of(self.context, self.context.outline(self.split), self.batch_size)
        got = self.context.shapes(self.pred, {}, variables, batch["image"])
        for name, logits in got.items():
            words = trial.vectors(logits, self.batch_size, f"{self.pred} of {name}")
            if words != len(self.context.factors.get(name, ())):
                raise ValueError(f"{self.pred} tells {words} of {name!r} apart, not the data's")
        complete(self.context.split(self.split), tuple(got))

    def run(self, variables: Variables) -> Iterator[Result | Picture]:
        """For each factor the share of images that it is named right of, "<factor>" with its 95 %
        Wilson ends, and "all"."""
        images = {"image": self.context.split(self.split)["image"]}
        logits = map_batches(
            lambda batch: self._logits(variables, batch["image"]),
            images,
            self.batch_size,
            self.context.batch_sharding,
        )
        arrays = self.context.split(self.split)
        kept = complete(arrays, tuple(logits))
        truth = {name: np.asarray(arrays[name])[kept] for name in logits}
        named = {name: x[kept].argmax(axis=1) for name, x in logits.items()}
        data = fingerprint({"image": np.asarray(arrays["image"])[kept]})
        how = protocol(split=self.split, data=data, num_images=len(kept))
        for name, hits in factor_hits(named, truth).items():
            yield from share(hits).results(name, how)
