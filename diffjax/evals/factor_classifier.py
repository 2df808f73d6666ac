"""A frozen classifier of several factors, as evaluators ask it what a picture shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from diffjax.evals.features import FeatureExtractor


class Named(NamedTuple):
    """Of N images: `features [N, D] float32`, and factor -> index of its word, `[N] int`."""

    features: np.ndarray
    factors: Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class FactorClassifier:
    """Attributes:
    network: gives the features, and the logits of every word, factor after factor.
    words: factor -> its words.
    """

    network: FeatureExtractor
    words: Mapping[str, tuple[str, ...]]

    def check_words(self, words: Mapping[str, Any]) -> None:
        """Raises ValueError where data whose factors have these `words` mean others by a factor, or
        do not know it."""
        for name, own in self.words.items():
            if tuple(words.get(name, ())) != tuple(own):
                known = ", ".join(words) or "none"
                raise ValueError(
                    f"{self.network.name} was trained on other data: it tells {len(own)} words of "
                    f"{name!r} apart ({', '.join(own[:3])}, ...), which are not those of these "
                    f"data (whose factors are {known}); name one of the same data in "
                    "factor_classifier"
                )

    def __call__(self, image: Any, *, real: bool = False) -> Named:
        """The most likely word of each factor of `image [N, H, W, C] float32 in [-1, 1]`, each
        rounded to 8 bits; see `FeatureExtractor`."""
        got = self.network(image, real=real)
        assert got.logits is not None
        ends = np.cumsum([len(words) for words in self.words.values()])
        heads = np.split(got.logits, ends[:-1], axis=1)
        named = {n: head.argmax(axis=1) for n, head in zip(self.words, heads, strict=True)}
        return Named(got.features, named)
