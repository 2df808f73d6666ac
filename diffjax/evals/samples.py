"""A grid of samples at a fixed seed: the same noise through training, one row per class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np

from diffjax.evals import trial
from diffjax.evals.base import Picture
from diffjax.evals.context import EvalContext
from diffjax.evals.drawing import draw
from diffjax.evals.pictures import tile_grid
from diffjax.keys import check_seed
from diffjax.ranges import Amount, Seed, Tiles
from diffjax.results import Result
from diffjax.task import Variables


def caption(options: Mapping[str, Any]) -> str:
    """The options that a reader looks for first: "ddim · 50 steps · guidance 2"."""
    parts = [str(options["sampler"])] if options.get("sampler") else []
    parts += (
        [f"{options['steps']} step{'s' * (options['steps'] != 1)}"] if options.get("steps") else []
    )
    guidance = options.get("guidance")
    parts += [f"guidance {guidance:g}"] if isinstance(guidance, int | float) else []
    return " · ".join(parts)


def drawn_note(options: Mapping[str, Any], seed: int, negative: str = "") -> str:
    """The line under a picture of samples: "ddim · 50 steps · guidance 2 · seed 0"."""
    note = f"{caption(options)} · seed {seed}".removeprefix(" · ")
    return f"{note} · not: {negative}" if negative else note


def sample_numbers(rows: int, columns: int, shared: bool) -> np.ndarray:
    """The numbers `[columns * rows] int32` of the samples of a grid, column after column; `shared`
    where the rows of a column share their noise, as the prompts of a text do."""
    index = np.arange(rows * columns, dtype=np.int32)
    return index // np.int32(rows) if shared else index


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
      columns: samples of one class; column j of row k is sample j * rows + k, of a prompt sample j,
        so more columns leave the first ones as they were.
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
        if self.prompts and ("tokens" not in self.context.drawn_by or not self.context.tokenize):
            raise ValueError("prompts are given, but the run reads no text: add a text condition")
        self.context.recipe(self.pred_kw, self.context.bind(self.pred, self.pred_kw)[1])

    def trial(self, variables: Variables) -> None:
        """See `Evaluator.trial`."""
        trial.drawn(self.context, self.pred, self.pred_kw, variables, self._cond(), self.batch_size)

    def run(self, variables: Variables) -> Iterator[Result | Picture]:
        """One picture, "samples"."""
        sampler, options = self._bound
        cond, sharding = self._cond(), self.context.batch_sharding
        rows = len(jax.tree.leaves(cond)[0])
        wanted = jax.tree.map(lambda x: np.tile(x, (self.columns,) + (1,) * (x.ndim - 1)), cond)
        count = rows * self.columns
        size = min(self.batch_size, count) if sharding is None else self.batch_size
        index = sample_numbers(rows, self.columns, bool(self.prompts))
        images = draw(sampler, variables, self.seed, wanted, size, sharding, index=index)
        tiles = images.reshape(self.columns, rows, *images.shape[1:]).swapaxes(0, 1)
        named = self.context.conditional or "tokens" in self.context.drawn_by
        names = self.context.cond_names(cond) if named else ()
        yield sample_grid(tiles, names, drawn_note(options, self.seed))

    def _cond(self) -> Any:
        """Of one row each."""
        c = self.context
        if self.prompts:
            assert c.tokenize is not None
            return {"tokens": c.tokenize(self.prompts)}
        if c.drawn_by:
            return c.cond(self.max_rows)
        return c.cond(min(len(c.names) if c.conditional else self.columns, self.max_rows))
