"""Retrieval between images and texts, and from image to image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from diffjax.evals import trial
from diffjax.evals.base import Picture
from diffjax.evals.context import EvalContext
from diffjax.evals.embeddings import Towers, features, unit
from diffjax.evals.pictures import tile_grid
from diffjax.fingerprints import fingerprint
from diffjax.metrics.classification import share
from diffjax.metrics.retrieval import first_relevant_ranks, recall_at
from diffjax.ranges import Amount, Integer, Tiles
from diffjax.results import Result, protocol
from diffjax.task import Variables


@dataclass(frozen=True, eq=False)
class Retrieval:
    """Text to image and image to text over a split; pairs with equal tokens are the same text.

    Attributes:
      at: the k of the recalls.
      pictures: text queries drawn with their first `shown` images.
    """

    context: EvalContext
    split: str = "test"
    where: Mapping[str, Integer] = field(default_factory=dict)
    at: tuple[Amount, ...] = (1, 5, 10)
    pictures: Tiles = 8
    shown: Tiles = 8
    batch_size: Amount = 256

    def __post_init__(self) -> None:
        arrays = self.context.chosen(self.split, self.where)
        if "tokens" not in arrays:
            raise ValueError(
                f"retrieval: split {self.split!r} has no tokens: its captions need a `tokenize` "
                "transform in data.eval_transforms"
            )
        if any(k < 1 for k in self.at):
            raise ValueError(f"retrieval: at={self.at}; recall is at k >= 1")
        assert self.towers

    @cached_property
    def towers(self) -> Towers:
        return Towers(self.context, self.batch_size)

    def trial(self, variables: Variables) -> None:
        """See `Evaluator.trial`."""
        arrays = self.context.chosen(self.split, self.where)
        image, tokens = arrays["image"], arrays["tokens"]
        trial.towers(self.context, variables, image, tokens, self.batch_size)

    def run(self, variables: Variables) -> Iterator[Result | Picture]:
        """Results "text_to_image_r1" ..., "image_to_text_r1" ..., picture "text_to_image"."""
        arrays = self.context.chosen(self.split, self.where)
        tokens = np.asarray(arrays["tokens"])
        different, text_of = np.unique(tokens, axis=0, return_inverse=True)
        text_of = text_of.reshape(-1)
        image = self.towers.images(variables, arrays["image"])
        text = self.towers.tokens(variables, different)
        scores, keys = text @ image.T, np.arange(len(different))
        how = protocol(
            split=self.split,
            where=self.where,
            data=fingerprint({"image": arrays["image"], "tokens": tokens}),
            num_images=len(tokens),
            num_texts=len(different),
        )
        # Images that share a caption look for the same text, and find it or not together.
        for name, ranks, clusters in (
            ("text_to_image", first_relevant_ranks(scores, keys, text_of), None),
            ("image_to_text", first_relevant_ranks(scores.T, text_of, keys), text_of),
        ):
            for k in self.at:
                got = recall_at(ranks, k, clusters)
                yield Result(f"{name}_r{k}", got.value, got.std, how)
        yield self._picture(arrays, different, text_of, scores)

    def _picture(self, arrays: Any, different: Any, text_of: Any, scores: np.ndarray) -> Picture:
        decode = self.context.detokenize or (lambda rows: [str(i) for i in range(len(rows))])
        # Spread over the set: neighbouring scenes say nothing of the whole.
        chosen = np.linspace(0, len(different) - 1, min(self.pictures, len(different))).astype(int)
        order = np.argsort(-scores[chosen], axis=1, kind="stable")[:, : self.shown]
        names = [
            f"{text}  ({(text_of[o] == c).sum()} of {min(self.shown, (text_of == c).sum())})"
            for text, o, c in zip(decode(different[chosen]), order, chosen, strict=True)
        ]
        note = "nearest images first; in brackets: shown images that have this very caption"
        grid = tile_grid(
            arrays["image"][order], rows=names, title="Images found by text", note=note
        )
        return Picture("text_to_image", grid, f"Images found by text ({self.split}): {note}.")


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest images of images: a picture, and how many neighbours share the class.

    Attributes:
      pred: predict function of features; they are compared by their angle.
      pictures: queries drawn with their `shown` nearest images.
    """

    context: EvalContext
    pred: str = "encode_image"
    split: str = "test"
    where: Mapping[str, Integer] = field(default_factory=dict)
    pictures: Tiles = 8
    shown: Tiles = 8
    batch_size: Amount = 256

    def __post_init__(self) -> None:
        self.context.bind(self.pred)
        if len(self.context.chosen(self.split, self.where)["image"]) < 2:
            raise ValueError("neighbours: a single image has no neighbour")

    def trial(self, variables: Variables) -> None:
        """See `Evaluator.trial`."""
        image = self.context.chosen(self.split, self.where)["image"]
        trial.encoded(self.context, self.pred, variables, image, self.batch_size)

    def run(self, variables: Variables) -> Iterator[Result | Picture]:
        """Result "same_class" over the first neighbours, picture "neighbours"."""
        arrays = self.context.chosen(self.split, self.where)
        rows = features(self.context, self.pred, self.batch_size)
        image = unit(rows(variables, arrays["image"]))
        scores = image @ image.T
        np.fill_diagonal(scores, -np.inf)
        shown = min(self.shown, len(image) - 1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :shown]
        how = protocol(
            split=self.split,
            where=self.where,
            pred=self.pred,
            data=fingerprint({"image": arrays["image"]}),
            num_images=len(image),
        )
        if "label" in arrays:
            label = np.asarray(arrays["label"])
            got = share(label[order[:, 0]] == label)
            yield Result("same_class", got.value, got.std, how)
        chosen = np.linspace(0, len(image) - 1, min(self.pictures, len(image))).astype(int)
        tiles = np.concatenate([chosen[:, None], order[chosen]], axis=1)
        columns = ("query", *(str(i + 1) for i in range(tiles.shape[1] - 1)))
        grid = tile_grid(arrays["image"][tiles], columns=columns, title="Nearest images")
        yield Picture("neighbours", grid, f"Left: an image; then its nearest ({self.split}).")
