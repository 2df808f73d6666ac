"""What every evaluator is built from: predict functions, data, features, names, a cache."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffjax.evals.features import FeatureExtractor


def nearest(name: str, options: Iterable[str]) -> str:
    """The option spelt most like `name`, for an error message."""
    return max(options, key=lambda o: difflib.SequenceMatcher(None, name, o).ratio(), default="")


@dataclass(frozen=True, eq=False)
class EvalContext:
    """Shared by the evaluators of a run; holds no weights of the model under evaluation.

    Attributes:
      predict_fns: the task's pure functions `(variables, ...)`.
      train, test: `image [N, H, W, C] float32 in [-1, 1]`, `label [N] int32`.
      features: what generated images are compared in; None where no evaluator needs it.
      class_names: by label; the numbers themselves where empty.
      cache_dir: where drawn samples are kept; None keeps none.
      nfe: network evaluations per sample of `sample(**pred_kw)`.
      noise_levels: `[T]` noise levels (sigma / alpha) of the frames of `trajectory(**pred_kw)`.
      batch_sharding: of evaluation batches over several devices.
    """

    predict_fns: Mapping[str, Callable[..., Any]]
    train: Mapping[str, np.ndarray]
    test: Mapping[str, np.ndarray]
    features: FeatureExtractor | None = None
    class_names: Sequence[str] = ()
    cache_dir: Path | None = None
    nfe: Callable[..., int] | None = None
    noise_levels: Callable[..., Any] | None = None
    batch_sharding: jax.sharding.Sharding | None = None

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """One name per class."""
        if self.class_names:
            return tuple(str(n) for n in self.class_names)
        return tuple(str(k) for k in range(int(np.max(self.train["label"])) + 1))

    def split(self, name: str) -> Mapping[str, np.ndarray]:
        """The arrays of "train" or "test"."""
        splits = {"train": self.train, "test": self.test}
        if name not in splits:
            raise ValueError(f"split '{name}' is not known; choose from {sorted(splits)}")
        return splits[name]

    def extractor(self) -> FeatureExtractor:
        """The feature extractor, or an error that says which argument is missing."""
        if self.features is None:
            raise ValueError("this evaluation compares features: give EvalContext(features=...)")
        return self.features

    def bind(self, pred: str, pred_kw: Any = ()) -> tuple[Callable[..., Any], dict[str, Any]]:
        """The predict function with its options, and all of those with its own defaults.

        Raises:
          ValueError: for a function or an option that does not exist, naming the nearest.
        """
        if pred not in self.predict_fns:
            raise ValueError(
                f"predict function '{pred}' is not known; the nearest of "
                f"{sorted(self.predict_fns)} is '{nearest(pred, self.predict_fns)}'"
            )
        fn, given = self.predict_fns[pred], dict(pred_kw)
        parameters = inspect.signature(fn).parameters.values()
        options = {
            p.name: p.default
            for p in parameters
            if p.kind is p.KEYWORD_ONLY
            or (p.kind is not p.VAR_KEYWORD and p.default is not p.empty)
        }
        open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
        for key in given:
            if key not in options and not open_ended:
                raise ValueError(
                    f"'{key}' is no option of predict function '{pred}'; the nearest is "
                    f"'{nearest(key, options)}'"
                )
        defaults = {k: v for k, v in options.items() if v is not inspect.Parameter.empty}
        return functools.partial(fn, **given), {**defaults, **given}
