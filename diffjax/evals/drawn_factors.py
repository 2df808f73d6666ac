"""Pictures drawn by text, and what a classifier of factors sees in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from diffjax.choices import unknown
from diffjax.evals import trial
from diffjax.evals.base import Picture
from diffjax.evals.context import EvalContext
from diffjax.evals.drawing import draw
from diffjax.evals.embeddings import sample_rows
from diffjax.evals.factor_accuracy import ALL, complete, factor_hits
from diffjax.evals.factor_classifier import FactorClassifier, Named
from diffjax.evals.pictures import tile_grid
from diffjax.evals.samples import caption
from diffjax.fingerprints import fingerprint
from diffjax.keys import check_seed
from diffjax.metrics.classification import share
from diffjax.metrics.nearest import copy_ratio, nearest
from diffjax.ranges import Amount, Integer, MaybeAmount, Seed, Tiles
from diffjax.results import Result, extend, protocol
from diffjax.task import Variables


@dataclass(frozen=True, eq=False)
class DrawnFactors:
    """Draws the captions of a split's examples, one image each and seed, and asks the run's
    `factor_classifier` for their factors; and for those of the real pictures, which it must know
    for the rest to mean anything.

    Images of one text are no independent draws, whatever their seeds: error bars are over texts.

    Attributes:
      pred, pred_kw: predict function `sample(variables, seed, index, cond, **pred_kw)`.
      split, where: whose captions; an example without one of the factors is left out.
      factors: which of the classifier's are asked for; () for all of them.
      num_prompts: examples, drawn where there are more; 0 for all.
      batch_size: images drawn at a time (they do not depend on it).
      seeds: numbers are over the images of all of them.
      rows: prompts in the picture.
      columns: images of each, of the first seed.
      neighbours: training pictures beside them, nearest first.
    """

    context: EvalContext
    pred: str = "sample"
    pred_kw: Mapping[str, Any] = field(default_factory=dict)
    split: str = "test"
    where: Mapping[str, Integer] = field(default_factory=dict)
    factors: tuple[str, ...] = ()
    num_prompts: MaybeAmount = 0
    batch_size: Amount = 100
    seeds: Sequence[Seed] = (0, 1, 2)
    rows: Tiles = 12
    columns: Tiles = 4
    neighbours: Tiles = 3

    def __post_init__(self) -> None:
        for seed in self.seeds:
            check_seed(seed, "seeds")
        if not self.seeds:
            raise ValueError("seeds is empty: give at least one")
        self.context.recipe(self.pred_kw, self.context.bind(self.pred, self.pred_kw)[1])
        if "tokens" not in self.context.drawn_by:
            raise ValueError("drawn_factors: the run reads no text: give it a text condition")
        judge = self._judge
        judge.check_words(self.context.factors)
        for name in self.factors:
            if name not in judge.words:
                raise unknown(f"factor of {judge.network.name}:", name, judge.words)

    @property
    def _judge(self) -> FactorClassifier:
        judge = self.context.factor_classifier
        if judge is None:
            raise ValueError(
                "drawn_factors: no classifier says what a picture shows: give the config a section "
                "factor_classifier"
            )
        return judge

    @cached_property
    def _asked(self) -> tuple[str, ...]:
        return self.factors or tuple(self._judge.words)

    @cached_property
    def _examples(self) -> dict[str, np.ndarray]:
        """The examples whose captions are drawn."""
        arrays = self.context.chosen(self.split, self.where)
        kept = complete(arrays, self._asked)
        kept = kept[sample_rows(len(kept), self.num_prompts)]
        return {name: x[kept] for name, x in arrays.items()}

    @cached_property
    def _clusters(self) -> np.ndarray:
        """The number of the text of each example, `[prompts] int`."""
        tokens = self._examples["tokens"]
        return np.unique(tokens, axis=0, return_inverse=True)[1].reshape(-1)

    @cached_property
    def _bound(self) -> tuple[Callable[..., Any], dict[str, Any]]:
        fn, options = self.context.bind(self.pred, self.pred_kw)
        return fn, self.context.recipe(self.pred_kw, options)

    def _cond(self, examples: Mapping[str, np.ndarray]) -> Any:
        return self.context.cond_of(examples, self.split)

    def trial(self, variables: Variables) -> None:
        """See `Evaluator.trial`."""
        c, examples = self.context, self._examples
        size = min(self.batch_size, len(examples["image"]))
        cond = self._cond(examples)
        image = trial.drawn(c, self.pred, self.pred_kw, variables, cond, size)
        trial.same_images(c, image, self.split)
        trial.same_images(c, image, "train")
        self._judge.network.shapes(image)

    def _drawn(self, variables: Variables, seed: int, examples: Mapping[str, np.ndarray]) -> Any:
        """An image for the caption of each of `examples`, `[N, H, W, C]`."""
        size = min(self.batch_size, len(examples["image"]))
        sharding = self.context.batch_sharding
        return draw(self._bound[0], variables, seed, self._cond(examples), size, sharding)

    def _hits(self, named: Named, examples: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        asked = {name: named.factors[name] for name in self._asked}
        return factor_hits(asked, {name: examples[name] for name in self._asked})

    def run(self, variables: Variables) -> Iterator[Result | Picture]:
        """For each factor the share of drawn images that show what was asked for, "<factor>", with
        the ends of its 95 % interval over texts, and "all" for the images that show every factor;
        the same of the real pictures, "<factor>_real", "all_real"; "copy_ratio" (see
        `metrics.nearest`; the held-out images are the real pictures); picture "drawn_factors"."""
        examples, judge = self._examples, self._judge
        base = protocol(
            split=self.split,
            where=self.where,
            factors=self._asked,
            data=fingerprint({name: examples[name] for name in ("image", "tokens")}),
            **judge.network.protocol,
        )
        how = extend(
            {**self._bound[1], **base},
            pred=self.pred,
            seeds=self.seeds,
            num_samples=len(self.seeds) * len(examples["image"]),
            num_texts=len(np.unique(self._clusters)),
        )
        seen = [judge(self._drawn(variables, seed, examples)) for seed in self.seeds]
        hits = [self._hits(named, examples) for named in seen]
        clusters = np.tile(self._clusters, len(self.seeds))
        for name in (*self._asked, ALL):
            right = np.concatenate([one[name] for one in hits])
            yield from share(right, clusters=clusters).results(name, how)
        real, of_real = (
            judge(examples["image"], real=True),
            extend(base, num_images=len(examples["image"])),
        )
        for name, right in self._hits(real, examples).items():
            yield from share(right).results(f"{name}_real", of_real)
        shown = np.asarray(self.context.split("train")["image"])
        train = judge(shown, real=True).features
        features = np.concatenate([named.features for named in seen])
        yield Result("copy_ratio", copy_ratio(features, real.features, train), None, how)
        yield self._picture(variables, shown, train)

    def _picture(self, variables: Variables, shown: np.ndarray, train: np.ndarray) -> Picture:
        """Prompts spread over the set: their images, the real picture, and those of training,
        `shown`, whose features `train` are nearest to the first image's."""
        count = len(self._examples["image"])
        rows = np.linspace(0, count - 1, min(self.rows, count)).astype(int)
        examples = {name: x[rows] for name, x in self._examples.items()}
        tiled = {name: np.repeat(x, self.columns, axis=0) for name, x in examples.items()}
        drawn = self._drawn(variables, self.seeds[0], tiled)
        seen = self._judge(drawn)
        right = self._hits(seen, tiled)[ALL].reshape(len(rows), -1).sum(axis=1)
        first = seen.features[:: self.columns]
        found = nearest(first, train, min(self.neighbours, len(train))).index
        drawn = drawn.reshape(len(rows), self.columns, *drawn.shape[1:])
        tiles = np.concatenate([drawn, examples["image"][:, None], shown[found]], axis=1)
        blank = [""] * self.columns
        columns = ["drawn", *blank[1:], "real", "nearest", *[""] * (found.shape[1] - 1)]
        texts = self.context.cond_names(self._cond(examples))
        names = [f"{t}  ({n} of {self.columns})" for t, n in zip(texts, right, strict=True)]
        note = f"{caption(self._bound[1])} · in brackets: drawn right, by the classifier"
        grid = tile_grid(tiles, rows=names, columns=columns, title="Drawn from text", note=note)
        more = (
            "Right of the drawn images the held-out picture, then the training pictures nearest to "
            "the first drawn one, by the classifier's features."
        )
        return Picture("drawn_factors", grid, f"Some of {count} prompts ({self.split}). {more}")
