"""Image embeddings drawn from a prior by text, beside the true ones (Ramesh et al. 2022, sec. 2.2).

A prior is worth its cost where what it draws is nearer to the image's embedding than the text's own
embedding is, and than the embedding of the training image whose text is the nearest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from diffjax.evals import trial
from diffjax.evals.base import Picture
from diffjax.evals.context import EvalContext
from diffjax.evals.drawing import draw
from diffjax.evals.embeddings import Towers, sample_rows, unit
from diffjax.fingerprints import fingerprint
from diffjax.keys import check_seed
from diffjax.metrics.clusters import clustered_error
from diffjax.ranges import Amount, Integer, MaybeAmount, Seed
from diffjax.results import Result, extend
from diffjax.task import Variables


@dataclass(frozen=True, eq=False)
class Prior:
    """Cosines of drawn, of text and of neighbouring embeddings with those of a split's images.

    Attributes:
      pred: predict function of samples, with its options `pred_kw`.
      limit: images that are compared, drawn from the split; 0 for all.
      best_of: embeddings drawn for each text, of which the one most like the text's embedding is
        kept; the paper takes the better of two.
    """

    context: EvalContext
    pred: str = "sample"
    pred_kw: Mapping[str, Any] = field(default_factory=dict)
    split: str = "test"
    where: Mapping[str, Integer] = field(default_factory=dict)
    limit: MaybeAmount = 1000
    best_of: Amount = 2
    seeds: Sequence[Seed] = (0,)
    batch_size: Amount = 256

    def __post_init__(self) -> None:
        for seed in self.seeds:
            check_seed(seed, "seeds")
        self.context.recipe(self.pred_kw, self.context.bind(self.pred, self.pred_kw)[1])
        for split in ("train", self.split):
            if "tokens" not in self.context.split(split):
                raise ValueError(
                    f"prior: split {split!r} has no tokens: its captions need a `tokenize` "
                    "transform in data.eval_transforms"
                )
        assert self.towers

    @cached_property
    def towers(self) -> Towers:
        return Towers(self.context, self.batch_size)

    @cached_property
    def _rows(self) -> dict[str, np.ndarray]:
        arrays = self.context.chosen(self.split, self.where)
        rows = sample_rows(len(arrays["image"]), self.limit)
        return {k: np.asarray(arrays[k])[rows] for k in ("image", "tokens")}

    def trial(self, variables: Variables) -> None:
        """See `Evaluator.trial`."""
        c, (image, tokens) = self.context, (self._rows["image"], self._rows["tokens"])
        trial.towers(c, variables, image, tokens, self.batch_size)
        batch = trial.batch_of(c, {"tokens": tokens}, min(self.batch_size, len(tokens)))
        cond = {"tokens": batch["tokens"]}
        got = c.shapes(self.pred, self.pred_kw, variables, trial.SEED, batch["index"], cond)
        trial.vectors(got, len(batch["tokens"]), self.pred)

    def run(self, variables: Variables) -> Iterator[Result | Picture]:
        """Results "cosine" of the embeddings that are kept, "cosine_any" of each that was drawn,
        "cosine_text" of the texts' own, "cosine_neighbour" of the nearest text's image."""
        rows, train = self._rows, self.context.chosen("train", {})
        true = self.towers.images(variables, rows["image"])
        text = self.towers.tokens(variables, rows["tokens"])
        fn, options = self.context.bind(self.pred, self.pred_kw)
        drawn = np.stack([self._drawn(fn, variables, seed) for seed in self.seeds])
        best = np.einsum("skne,ne->skn", drawn, text).argmax(axis=1)
        kept = np.take_along_axis(drawn, best[:, None, :, None], axis=1)[:, 0]
        nearest = self._neighbours(variables, train, text)
        how = extend(
            self.context.recipe(self.pred_kw, options),
            pred=self.pred,
            split=self.split,
            where=self.where,
            best_of=self.best_of,
            num_images=len(true),
            data=fingerprint(rows),
            seeds=self.seeds,
        )
        texts = np.unique(rows["tokens"], axis=0, return_inverse=True)[1].reshape(-1)
        for name, found in (
            ("cosine", kept),
            ("cosine_any", drawn.mean(axis=1)),
            ("cosine_text", text[None]),
            ("cosine_neighbour", nearest[None]),
        ):
            each = (found * true[None]).sum(axis=-1).mean(axis=0)
            yield Result(name, float(each.mean()), clustered_error(each, texts).std, how)

    def _drawn(self, fn: Any, variables: Variables, seed: int) -> np.ndarray:
        """Unit rows `[best_of, N, E]`: further samples of one seed: two share none."""
        tokens, sharding = self._rows["tokens"], self.context.batch_sharding
        count, size = len(tokens), min(self.batch_size, len(tokens))
        starts = [k * count for k in range(self.best_of)]
        cond = {"tokens": tokens}
        drawn = (draw(fn, variables, seed, cond, size, sharding, start) for start in starts)
        return np.stack([unit(one) for one in drawn])

    def _neighbours(
        self, variables: Variables, train: Mapping[str, np.ndarray], text: np.ndarray
    ) -> np.ndarray:
        """The embeddings of the training images whose texts are the nearest, `[N, E]`."""
        different, first = np.unique(np.asarray(train["tokens"]), axis=0, return_index=True)
        nearest = (text @ self.towers.tokens(variables, different).T).argmax(axis=1)
        wanted, place = np.unique(first[nearest], return_inverse=True)
        image = np.asarray(train["image"])[wanted]
        return self.towers.images(variables, image)[place.reshape(-1)]
