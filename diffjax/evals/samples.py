"""A grid of samples at a fixed seed: the same noise through training, one row per class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np

from diffjax.evals import trial
from diffjax.evals.base import Picture, Scalar
from diffjax.evals.context import EvalContext
from diffjax.evals.drawing import draw
from diffjax.evals.pictures import tile_grid
from diffjax.keys import check_seed
from diffjax.ranges import Amount, Seed, Tiles
from diffjax.tasks.base import Variables


def caption(options: Mapping[str, Any]) -> str:
    """The options that a reader looks for first: "ddim · 50 steps · guidance 2"."""
    parts = [str(options["sampler"])] if options.get("sampler") else []
    parts += (
        [f"{options['steps']} step{'s' * (options['steps'] != 1)}"] if options.get("steps") else []
    )
    guidance = options.get("guidance")
    parts += [f"guidance {guidance:g}"] if isinstance(guidance, int | float) else []
    return " · ".join(parts)


def sample_grid(tiles: np.ndarray, names: Sequence[str], note: str) -> Picture:
    """Picture "samples" of `tiles [R, C, H, W, channels]`, one row per class; `names` is empty
    where samples have none."""
    picture = tile_grid(tiles, rows=names, title="Samples", note=note)
    return Picture("samples", picture, f"{'One row each. ' if names else ''}{note}.")


@dataclass(frozen=True, eq=False)
class Samples:
    """Draws `columns` samples of each class, or of each prompt.

    Attributes:
      pred: predict function `sample(variables, seed, index, label, **pred_kw)`.
      columns: samples of one class; column j of row k is sample j * rows + k, so more columns
        leave the first ones as they were.
      max_rows: classes shown, from class 0; without classes, as many rows as columns at most.
      prompts: texts, one row each; by default those of the test split.
    """

    context: EvalContext
    pred: str = "sample"
    pred_kw: Mapping[str, Any] = field(default_factory=dict)
    columns: Tiles = 10
    max_rows: Tiles = 20
    prompts: Sequence[str] = ()
    batch_size: Amount = 100
    seed: Seed = 0

    @cached_property
    def _bound(self) -> tuple[Callable[..., Any], dict[str, Any]]:
        fn, options = self.context.bind(self.pred, self.pred_kw)
        return fn, self.context.recipe(self.pred_kw, options)

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if min(self.columns, self.max_rows) < 1:
            raise ValueError(f"columns {self.columns} and max_rows {self.max_rows} must be >= 1")
        if self.prompts and ("tokens" not in self.context.asked_by or not self.context.tokenize):
            raise ValueError("prompts are given, but the run reads no text: add a text section")
        self.context.recipe(self.pred_kw, self.context.bind(self.pred, self.pred_kw)[1])

    def trial(self, variables: Variables) -> None:
        """See `Evaluator.trial`."""
        trial.drawn(
            self.context, self.pred, self.pred_kw, variables, self._asked(), self.batch_size
        )

    def run(self, variables: Variables) -> Iterator[Scalar | Picture]:
        """One picture, "samples"."""
        sampler, options = self._bound
        asked = self._asked()
        rows = len(jax.tree.leaves(asked)[0])
        wanted = jax.tree.map(lambda x: np.tile(x, (self.columns,) + (1,) * (x.ndim - 1)), asked)
        sharding = self.context.batch_sharding
        images = draw(sampler, variables, self.seed, wanted, self.batch_size, sharding)
        tiles = images.reshape(self.columns, rows, *images.shape[1:]).swapaxes(0, 1)
        note = f"{caption(options)} · seed {self.seed}".removeprefix(" · ")
        named = self.context.conditional or "tokens" in self.context.asked_by
        yield sample_grid(tiles, self.context.asked_names(asked) if named else (), note)

    def _asked(self) -> Any:
        """Of one row each."""
        c = self.context
        if self.prompts:
            assert c.tokenize is not None
            return {"tokens": c.tokenize(self.prompts)}
        if c.asked_by:
            return c.asked(self.max_rows)
        return c.asked(min(len(c.names) if c.conditional else self.columns, self.max_rows))
