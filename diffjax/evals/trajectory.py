"""Trajectories of samples out of the noise: the frames of a few sampling runs, left to right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np

from diffjax.evals import trial
from diffjax.evals.base import Picture
from diffjax.evals.context import EvalContext
from diffjax.evals.pictures import tile_grid
from diffjax.evals.samples import caption
from diffjax.fingerprints import to_host
from diffjax.keys import check_seed, seed_words
from diffjax.ranges import Seed, Tiles
from diffjax.results import Result
from diffjax.task import Variables


def show_range(frames: np.ndarray) -> np.ndarray:
    """Frames `[T, B, ...]`, each divided by max(1, its 99.5th percentile): noise stays visible."""
    flat = np.abs(frames.reshape(len(frames), -1))
    scale = np.maximum(np.percentile(flat, 99.5, axis=1), 1.0)
    return frames / scale.reshape(-1, *(1,) * (frames.ndim - 1))


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Shows `columns` of the frames of `rows` samples.

    Attributes:
      pred: predict function `trajectory(variables, seed, index, cond, **pred_kw)` that gives
        `[T, B, H, W, C]`, noise first.
      rows: samples; sample n is of class n mod K, and is sample n of the same seed elsewhere.
      columns: frames, evenly spread; the first and the last are among them.
      title: the picture's heading (it says whether frames are z_t or x_hat).
    """

    context: EvalContext
    pred: str = "trajectory"
    pred_kw: Mapping[str, Any] = field(default_factory=dict)
    rows: Tiles = 6
    columns: Tiles = 12
    seed: Seed = 0
    title: str = "From noise to image"

    @cached_property
    def _bound(self) -> tuple[Callable[..., Any], dict[str, Any]]:
        fn, options = self.context.bind(self.pred, self.pred_kw)
        return fn, options

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.rows < 1 or self.columns < 2:
            raise ValueError(f"rows {self.rows} must be >= 1, columns {self.columns} >= 2")
        self.context.bind(self.pred, self.pred_kw)
        if self.context.noise_levels is not None:
            self.context.noise_levels(**dict(self.pred_kw))

    def _column_names(self, shown: np.ndarray, total: int) -> list[str]:
        """The noise level of each shown frame where it is known, else the step."""
        if self.context.noise_levels is None:
            return [f"{i} / {total - 1}" for i in shown]
        levels = np.asarray(self.context.noise_levels(**dict(self.pred_kw)), np.float64)
        if len(levels) != total:
            raise ValueError(f"noise_levels gives {len(levels)} levels for {total} frames")
        large = [np.isinf(v) or v >= 1e3 for v in levels]
        return [f"{'∞' if large[i] else f'{levels[i]:.2g}'}" for i in shown]

    def trial(self, variables: Variables) -> None:
        """See `Evaluator.trial`."""
        cond = jax.tree.map(trial.shape_of, self.context.cond(self.rows))
        index = jax.ShapeDtypeStruct((self.rows,), np.int32)
        got = self.context.shapes(self.pred, self.pred_kw, variables, trial.SEED, index, cond)
        shapes = [x.shape for x in jax.tree.leaves(got)]
        if len(shapes) != 1 or len(shapes[0]) != 5 or not shapes[0][0]:
            raise ValueError(f"{self.pred} gives {shapes}, not frames [T, {self.rows}, H, W, C]")
        if shapes[0][1] != self.rows:
            raise ValueError(f"{self.pred} gives {shapes[0][1]} samples, not {self.rows}")
        self._column_names(np.arange(shapes[0][0]), shapes[0][0])

    def run(self, variables: Variables) -> Iterator[Result | Picture]:
        """One picture, "trajectory"."""
        trajectory, options = self._bound
        index = np.arange(self.rows, dtype=np.int32)
        cond = self.context.cond(self.rows)
        words = np.asarray(seed_words(self.seed), np.uint32)
        frames = to_host(trajectory(variables, words, index, cond))
        shown = np.unique(np.rint(np.linspace(0, len(frames) - 1, self.columns)).astype(int))
        tiles = show_range(frames[shown]).swapaxes(0, 1)
        known = self.context.noise_levels is not None
        above = "above each column: noise level σ/α" if known else "above each column: step"
        note = f"{caption(options)} · {above}".removeprefix(" · ")
        picture = tile_grid(
            tiles,
            rows=self.context.cond_names(cond),
            columns=self._column_names(shown, len(frames)),
            title=self.title,
            note=note,
        )
        yield Picture("trajectory", picture, f"{self.title}. {note}.")
