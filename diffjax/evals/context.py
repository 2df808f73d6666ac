"""Context that every evaluator is built from: predict functions, data, features, names, a cache."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from diffjax.choices import check_values, hints_of, pick, unknown
from diffjax.data.evaluation import ReadWhenAsked
from diffjax.evals.drawing import balanced_labels
from diffjax.evals.factor_classifier import FactorClassifier
from diffjax.evals.features import FeatureExtractor


class ClipScorer(Protocol):
    """Image and text towers of a trained CLIP, ready to use; `name` says which."""

    @property
    def name(self) -> str: ...

    def images(self, images: np.ndarray) -> np.ndarray:
        """`[N, H, W, 3] float32 in [-1, 1]` -> unit rows `[N, E]`."""
        ...

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Texts -> unit rows `[N, E]`."""
        ...


@dataclass(frozen=True, eq=False)
class EvalContext:
    """Shared by the evaluators of a run; holds no weights of the model under evaluation.

    Attributes:
      predict_fns: the task's pure functions `(variables, ...)`.
      train, test: `image [N, H, W, C] float32 in [-1, 1]`, `label [N] int32`.
      features: what generated images are compared in; None where no evaluator needs it.
      class_names: by label; the numbers themselves where empty.
      conditional: False for a model that draws without classes: its samples are of one class,
        "all", whatever labels the data have.
      cache_dir: where drawn samples are kept; None keeps none.
      nfe: network evaluations per sample of `sample(**pred_kw)`; or a mapping of all that its
        recipe amounts to, "nfe" among it, which then stands in protocols and captions.
      noise_levels: `[T]` noise levels (sigma / alpha) of the frames of `trajectory(**pred_kw)`.
      batch_sharding: of evaluation batches over several devices.
      others: further splits by name.
      factors: factor of the data's records -> its words, where their truth is known.
      tokenize: texts -> `tokens [N, L] int32`; None where the run has no tokenizer.
      detokenize: the way back.
      drawn_by: fields of a split that samples are drawn by, beside the class: tokens, images.
      clip_scorer: a CLIP that says how well images fit texts; None where there is none.
      factor_classifier: says which factors a picture shows; None where there is none.
      tried: what `shapes` has found, to be shared by the contexts of one task.
    """

    predict_fns: Mapping[str, Callable[..., Any]]
    train: Mapping[str, np.ndarray]
    test: Mapping[str, np.ndarray]
    features: FeatureExtractor | None = None
    class_names: Sequence[str] = ()
    conditional: bool = True
    cache_dir: Path | None = None
    nfe: Callable[..., int | Mapping[str, Any]] | None = None
    noise_levels: Callable[..., Any] | None = None
    batch_sharding: jax.sharding.Sharding | None = None
    others: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    factors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tokenize: Callable[[Sequence[str]], np.ndarray] | None = None
    detokenize: Callable[[np.ndarray], Sequence[str]] | None = None
    drawn_by: Sequence[str] = ()
    clip_scorer: ClipScorer | None = None
    factor_classifier: FactorClassifier | None = None
    tried: dict[Any, Any] = field(default_factory=dict)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """One name per class."""
        if not self.conditional:
            return ("all",)
        if self.class_names:
            return tuple(str(n) for n in self.class_names)
        if "label" not in self.train:
            return ("all",)
        return tuple(str(k) for k in range(int(np.max(self.train["label"])) + 1))

    def split(self, name: str) -> Mapping[str, np.ndarray]:
        """The arrays of "train", "test" or one of `others`."""
        splits = {"train": self.train, "test": self.test, **self.others}
        if name not in splits:
            raise unknown("split", name, splits)
        return splits[name]

    def outline(self, name: str) -> Mapping[str, jax.ShapeDtypeStruct]:
        """The shapes of a split's arrays, which need not have been read."""
        arrays = self.split(name)
        if isinstance(arrays, ReadWhenAsked):
            return arrays.outline
        return {
            k: jax.ShapeDtypeStruct(np.shape(v), np.asarray(v).dtype) for k, v in arrays.items()
        }

    def chosen(self, name: str, where: Mapping[str, int]) -> dict[str, np.ndarray]:
        """The examples of a split whose fields have the values of `where`.

        Raises:
          ValueError: an unknown split or field, or no such example.
        """
        arrays = self.split(name)
        keep = np.ones(len(arrays["image"]), bool)
        for key, value in where.items():
            if key not in arrays or np.ndim(arrays[key]) != 1:
                raise unknown(
                    "field of `where`:", key, [k for k, v in arrays.items() if np.ndim(v) == 1]
                )
            keep &= np.asarray(arrays[key]) == value
        if not keep.any():
            raise ValueError(f"no example of split {name!r} has {dict(where)}")
        return {k: np.asarray(v)[keep] for k, v in arrays.items()}

    def labels(self, name: str) -> np.ndarray:
        """`label [N] int32` of a split; zeros where the data have none, or samples no class."""
        arrays = self.split(name)
        if not self.conditional:
            return np.zeros(len(arrays["image"]), np.int32)
        return np.asarray(arrays.get("label", np.zeros(len(arrays["image"]))), np.int32)

    def cond(self, count: int, split: str = "test", start: int = 0) -> Any:
        """Conditions of samples `start` .. `start` + `count` - 1: `label [count] int32`, the
        classes in turn; or, where it is not the class alone, a mapping of it by name: the examples
        of a split in turn."""
        label = balanced_labels(start + count, len(self.names))[start:]
        if not self.drawn_by:
            return label
        arrays = self.split(split)
        rows = np.arange(start, start + count) % len(arrays["image"])
        held = {name: np.asarray(arrays[name])[rows] for name in self.drawn_by if name in arrays}
        return self.cond_of({**held, "label": label}, split)

    def cond_of(self, examples: Mapping[str, Any], split: str) -> Any:
        """Conditions of samples like `examples` of a split: their `label [N]`, or a mapping by
        name; arrays, or their shapes.

        Raises:
          ValueError: they lack a field.
        """
        if not self.drawn_by:
            return examples["label"]
        lacks = [name for name in self.drawn_by if name not in examples]
        if lacks:
            raise ValueError(
                f"samples are drawn by {lacks[0]}, which split {split!r} has not: add a transform "
                "that makes it to data.eval_transforms"
            )
        names = [*self.drawn_by, *(["label"] if self.conditional else [])]
        return {name: examples[name] for name in names}

    def cond_names(self, cond: Any) -> list[str]:
        """A name for each row of `cond`: its text, or its class."""
        if isinstance(cond, Mapping) and "tokens" in cond and self.detokenize is not None:
            return list(self.detokenize(cond["tokens"]))
        label = cond.get("label") if isinstance(cond, Mapping) else cond
        count = len(next(iter(cond.values()))) if isinstance(cond, Mapping) else len(cond)
        return [""] * count if label is None else [self.names[k] for k in label]

    def recipe(self, pred_kw: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        """`options` and what `nfe` knows of a sampling run: its protocol.

        Raises:
          ValueError: from `nfe`, for an option of the recipe that does not exist.
        """
        if self.nfe is None:
            return {**options, "nfe": None}
        got = self.nfe(**dict(pred_kw))
        return {**options, **(got if isinstance(got, Mapping) else {"nfe": int(got)})}

    def extractor(self) -> FeatureExtractor:
        """The feature extractor, or an error that says which argument is missing."""
        if self.features is None:
            raise ValueError("this evaluation compares features: give EvalContext(features=...)")
        return self.features

    @functools.cached_property
    def _compiled(self) -> dict[str, Callable[..., Any]]:
        return {}

    def compiled(self, pred: str) -> Callable[..., Any]:
        """The jitted predict function, one for all evaluators: each shape is compiled once.

        Raises:
          ValueError: for a function that does not exist, naming the nearest.
        """
        if pred not in self._compiled:
            self._compiled[pred] = jax.jit(self.bind(pred)[0])
        return self._compiled[pred]

    def shapes(self, pred: str, pred_kw: Mapping[str, Any], variables: Any, *inputs: Any) -> Any:
        """By shape, what a predict function gives of `inputs`; all are ShapeDtypeStructs."""
        leaves, tree = jax.tree.flatten((variables, *inputs))
        said = [(x.shape, str(x.dtype)) for x in leaves]
        key = (pred, repr(sorted(dict(pred_kw).items())), str(tree), str(said))
        if key not in self.tried:
            self.tried[key] = jax.eval_shape(self.bind(pred, pred_kw)[0], variables, *inputs)
        return self.tried[key]

    def bind(self, pred: str, pred_kw: Any = ()) -> tuple[Callable[..., Any], dict[str, Any]]:
        """The predict function with its options, and all of those with its own defaults.

        Raises:
          ValueError: for a function or an option that does not exist, naming the nearest, or a
            value outside its range.
        """
        fn = self.predict_fns[pick("predict function", pred, self.predict_fns)]
        chosen = dict(pred_kw)
        parameters = inspect.signature(fn).parameters.values()
        options = {
            p.name: p.default
            for p in parameters
            if p.kind is p.KEYWORD_ONLY
            or (p.kind is not p.VAR_KEYWORD and p.default is not p.empty)
        }
        open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
        for key in chosen:
            if key not in options and not open_ended:
                raise unknown(f"option of predict function {pred!r}:", key, options)
        check_values("pred_kw", chosen, hints_of(fn))
        # A default of None stands for "not given" and says nothing in a protocol.
        silent = (None, inspect.Parameter.empty)
        defaults = {k: v for k, v in options.items() if not any(v is s for s in silent)}
        return functools.partial(fn, **chosen), {**defaults, **chosen}
