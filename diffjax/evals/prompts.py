"""Generated scenes asked for by text, and judged by the oracle that reads them from pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from diffjax.data import oracle
from diffjax.data.prompts import Prompt, prompts
from diffjax.data.scene_score import KINDS, score_scene
from diffjax.evals import trial
from diffjax.evals.base import Picture
from diffjax.evals.context import EvalContext
from diffjax.evals.drawing import draw
from diffjax.evals.features import to_uint8
from diffjax.evals.fidelity import Fidelity, warn_of_few
from diffjax.evals.pictures import tile_grid
from diffjax.evals.samples import caption
from diffjax.fingerprints import fingerprint
from diffjax.keys import check_seed, seed_after
from diffjax.metrics.alignment import clip_score
from diffjax.metrics.classification import share
from diffjax.metrics.frechet import moments
from diffjax.ranges import Amount, Integer, MaybeAmount, Seed, Tiles
from diffjax.results import Result, extend, protocol
from diffjax.task import Variables


@dataclass(frozen=True, eq=False)
class Prompts:
    """Draws `num_prompts` captions of a split's scenes, one image each and seed.

    Images of one text are no independent draws, whatever their seeds: every error bar is over
    texts, and `data.prompts` takes as many different ones as there are.

    Attributes:
      pred, pred_kw: predict function `sample(variables, seed, index, cond, **pred_kw)`.
      split, where: whose scenes; `where=dict(num_objects=1)` for those of one object.
      template: of the captions, a key of `data.factors.TEMPLATES`: how much a prompt says; or
        "every", all of them in equal parts.
      num_prompts: so many.
      batch_size: images drawn at a time (they do not depend on it).
      seeds: numbers are over the images of all of them.
      groups: of texts, of the jackknife of the Frechet distance.
      rows, columns: prompts in the picture, and images of each; column j is of seed `seeds[0] + j`.
    """

    context: EvalContext
    pred: str = "sample"
    pred_kw: Mapping[str, Any] = field(default_factory=dict)
    split: str = "test"
    where: Mapping[str, Integer] = field(default_factory=dict)
    template: str = "size"
    num_prompts: Amount = 196
    batch_size: Amount = 100
    seeds: Sequence[Seed] = (0,)
    groups: MaybeAmount = 20
    rows: Tiles = 8
    columns: Tiles = 8

    def __post_init__(self) -> None:
        for seed in self.seeds:
            check_seed(seed, "seeds")
        self.context.recipe(self.pred_kw, self.context.bind(self.pred, self.pred_kw)[1])
        if self.context.tokenize is None:
            raise ValueError("prompts: the run reads no text: give its config a text section")
        if "shape" not in self.context.factors:
            raise ValueError("prompts: the oracle reads generated scenes alone; use 'shapes'")
        if min(self.num_prompts, self.rows, self.columns, len(self.seeds)) < 1:
            raise ValueError("prompts: num_prompts, rows, columns and seeds must be at least one")
        assert self._prompts

    @cached_property
    def _prompts(self) -> list[Prompt]:
        columns = self.context.chosen(self.split, self.where)
        return prompts(columns, self.template, self.num_prompts)

    @property
    def _texts(self) -> list[str]:
        return [p.text for p in self._prompts]

    @cached_property
    def _clusters(self) -> np.ndarray:
        """The number of the text of each image of all seeds, `[prompts x seeds]`."""
        return np.tile(np.unique(self._texts, return_inverse=True)[1], len(self.seeds))

    @cached_property
    def _bound(self) -> tuple[Callable[..., Any], dict[str, Any]]:
        fn, options = self.context.bind(self.pred, self.pred_kw)
        return fn, self.context.recipe(self.pred_kw, options)

    def _drawn(self, variables: Variables, seed: int, texts: Sequence[str]) -> np.ndarray:
        assert self.context.tokenize is not None
        cond = {"tokens": self.context.tokenize(texts)}
        sharding = self.context.batch_sharding
        size = min(self.batch_size, len(texts))
        return draw(self._bound[0], variables, seed, cond, size, sharding)

    def trial(self, variables: Variables) -> None:
        """See `Evaluator.trial`."""
        c, cond = self.context, {"tokens": trial.texts(self.context, self._texts)}
        size = min(self.batch_size, len(self._texts))
        image = trial.drawn(c, self.pred, self.pred_kw, variables, cond, size)
        oracle.check_images(image.shape, np.dtype(np.uint8))
        if c.features is not None:
            Fidelity(self.groups)
            c.features.shapes(image)
            c.features.shapes(c.outline("train")["image"])

    def run(self, variables: Variables) -> Iterator[Result | Picture]:
        """For each of `scene_score.KINDS` its share of the prompts that speak of it, "<kind>",
        with the ends of its 95 % interval over texts, "<kind>_low" and "<kind>_high"; "clip_score"
        and "frechet" where the run has a CLIP and a feature extractor; picture "prompts"."""
        images = np.concatenate([self._drawn(variables, s, self._texts) for s in self.seeds])
        how = extend(
            self._bound[1],
            pred=self.pred,
            split=self.split,
            where=self.where,
            template=self.template,
            data=fingerprint({"tokens": self.context.tokenize(self._texts)}),  # type: ignore[misc]
            num_samples=len(images),
            num_prompts=len(self._prompts),
            num_texts=len(set(self._texts)),
            seeds=self.seeds,
        )
        drawn = oracle.read_batch(to_uint8(images))
        prompts = self._prompts * len(self.seeds)
        found = [score_scene(p.scene, d) for p, d in zip(prompts, drawn, strict=True)]
        for kind in KINDS:
            rows = [i for i, f in enumerate(found) if kind in f]
            if not rows:
                continue
            texts = self._clusters[rows]
            got = share([found[i][kind] for i in rows], clusters=texts)
            of = extend(
                how,
                num_samples=len(rows),
                num_prompts=len(rows) // len(self.seeds),
                num_texts=len(np.unique(texts)),
            )
            yield from got.results(kind, of)
        yield from self._by_networks(images, how)
        yield self._picture(variables)

    def _by_networks(self, images: np.ndarray, how: Mapping[str, Any]) -> Iterator[Result]:
        clip_scorer, extract = self.context.clip_scorer, self.context.features
        if clip_scorer is not None:
            texts = clip_scorer.texts(self._texts * len(self.seeds))
            fits = clip_score(clip_scorer.images(images), texts, clusters=self._clusters)
            yield Result("clip_score", fits.value, fits.std, extend(how, judge=clip_scorer.name))
        if extract is not None:
            real = self.context.chosen("train", self.where)["image"]
            reference = moments(extract(real, real=True).features)
            drawn = extract(images).features
            got = Fidelity(self.groups).frechet(drawn, None, reference, self._clusters)
            warn_of_few([("frechet", got.said)])
            against = protocol(**extract.protocol, reference=fingerprint({"image": real}))
            yield Result("frechet", got.value, got.std, extend({**how, **against, **got.said}))

    def _picture(self, variables: Variables) -> Picture:
        # Spread over the prompts: neighbouring ones are of one shape.
        different = list(dict.fromkeys(self._prompts))
        rows = np.linspace(0, len(different) - 1, min(self.rows, len(different))).astype(int)
        texts = [different[i].text for i in rows]
        seeds = [seed_after(self.seeds[0], j) for j in range(self.columns)]
        tiles = np.stack([self._drawn(variables, seed, texts) for seed in seeds], 1)
        read = oracle.read_batch(to_uint8(tiles.reshape(-1, *tiles.shape[2:])))
        right = [
            sum(
                score_scene(different[row].scene, d)["all"]
                for d in read[i * self.columns : (i + 1) * self.columns]
            )
            for i, row in enumerate(rows)
        ]
        names = [f"{t}  ({n} of {self.columns})" for t, n in zip(texts, right, strict=True)]
        note = f"{caption(self._bound[1])} · in brackets: drawn right, by the oracle"
        picture = tile_grid(tiles, rows=names, title="Drawn from text", note=note)
        counts = f"{len(self._prompts)} prompts, {len(different)} texts"
        return Picture("prompts", picture, f"Some of {counts} ({self.split}), a row each. {note}.")
