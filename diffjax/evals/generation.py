"""One sampling pass, many numbers: distances, manifolds, class accuracy, and three pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffjax.evals import trial
from diffjax.evals.base import Picture
from diffjax.evals.context import EvalContext
from diffjax.evals.drawing import balanced_labels, cached, draw
from diffjax.evals.features import Extracted
from diffjax.evals.fidelity import Fidelity, Measured, RealSide, warn_of_few
from diffjax.evals.pictures import count_matrix, tile_grid
from diffjax.evals.samples import caption, sample_grid
from diffjax.fingerprints import fingerprint, short_hash
from diffjax.keys import check_seed
from diffjax.metrics.classification import class_accuracy, confusion_matrix, inception_score
from diffjax.metrics.frechet import moments
from diffjax.metrics.nearest import nearest
from diffjax.ranges import Amount, MaybeAmount, Seed, Tiles
from diffjax.results import Result, extend, protocol
from diffjax.task import Variables

# Numbers that describe the held-out images alone: no sampler belongs to their protocol.
REAL = ("frechet_real", "kernel_real", "class_accuracy_real")


@dataclass(frozen=True, eq=False)
class Generation:
    """Draws `num_samples` class-balanced samples for each seed and compares them with real images.

    Attributes:
      pred, pred_kw: predict function `sample(variables, seed, index, cond, **pred_kw)`.
      num_samples: N, for each seed; at least two of every class.
      batch_size: samples drawn at a time (the samples do not depend on it).
      seeds: numbers are means over them, their error bars shrink with them.
      groups, precision_k, density_k, manifold_size: see `Fidelity`.
      columns: samples of each class in the picture.
    """

    context: EvalContext
    pred: str = "sample"
    pred_kw: Mapping[str, Any] = field(default_factory=dict)
    num_samples: Amount = 1000
    batch_size: Amount = 250
    seeds: Sequence[Seed] = (0,)
    groups: MaybeAmount = 20
    precision_k: Amount = 3
    density_k: Amount = 5
    manifold_size: Amount = 5000
    columns: Tiles = 10

    def __post_init__(self) -> None:
        for seed in self.seeds:
            check_seed(seed, "seeds")
        self.context.recipe(self.pred_kw, self.context.bind(self.pred, self.pred_kw)[1])
        self.context.extractor()
        assert self._fidelity
        classes = len(self.context.names)
        if self.num_samples < max(2 * classes, 4):
            raise ValueError(
                f"num_samples {self.num_samples} is too few: {classes} classes need at least "
                f"{max(2 * classes, 4)}"
            )
        if not self.seeds:
            raise ValueError("seeds is empty: give at least one")

    @cached_property
    def _bound(self) -> tuple[Callable[..., Any], dict[str, Any]]:
        fn, options = self.context.bind(self.pred, self.pred_kw)
        return fn, self.context.recipe(self.pred_kw, options)

    @cached_property
    def _fidelity(self) -> Fidelity:
        return Fidelity(self.groups, self.precision_k, self.density_k, self.manifold_size)

    @cached_property
    def _real(self) -> RealSide:
        extract, c = self.context.extractor(), self.context
        train = extract(c.train["image"], real=True)
        reference = moments(train.features)
        held_out = None if c.test is c.train else extract(c.test["image"], real=True)
        return RealSide(train, c.labels("train"), reference, held_out, c.labels("test"))

    @cached_property
    def _label(self) -> np.ndarray:
        return balanced_labels(self.num_samples, len(self.context.names))

    @cached_property
    def _cond(self) -> Any:
        return self.context.cond(self.num_samples)

    @cached_property
    def _again(self) -> np.ndarray | None:
        """The held-out example that each sample is drawn by, where these are asked for again."""
        held = len(self.context.test["image"])
        if isinstance(self._cond, np.ndarray) or held >= self.num_samples:
            return None
        return np.arange(self.num_samples) % held

    @cached_property
    def _protocol(self) -> dict[str, Any]:
        extract = self.context.extractor()
        return protocol(
            **extract.protocol,
            reference=fingerprint(dict(self.context.train)),
            reference_size=len(self.context.train["image"]),
            held_out=fingerprint(dict(self.context.test)),
        )

    def samples(self, variables: Variables, seed: int) -> np.ndarray:
        """The samples of one seed `[N, H, W, C]`, from the cache where they are kept."""
        sampler, options = self._bound
        path = None
        # Several processes might not agree on whether the file is there, and then wait for ever.
        if self.context.cache_dir is not None and jax.process_count() == 1:
            said = [] if isinstance(self._cond, np.ndarray) else [fingerprint(self._cond)]
            facts = [fingerprint(variables), self.pred, options, seed, self.num_samples, *said]
            key = short_hash(facts)
            path = Path(self.context.cache_dir) / f"samples_{key}.npz"
        sharding = self.context.batch_sharding
        make = lambda: draw(sampler, variables, seed, self._cond, self.batch_size, sharding)  # noqa: E731
        return cached(path, self._label, make)

    @property
    def _by_class(self) -> bool:
        """Whether a class was asked for of every sample."""
        return self.context.conditional and "label" in self.context.outline("train")

    def trial(self, variables: Variables) -> None:
        """See `Evaluator.trial`."""
        c = self.context
        image = trial.drawn(c, self.pred, self.pred_kw, variables, self._cond, self.batch_size)
        trial.same_images(c, image, "train")
        got = c.extractor().shapes(image)
        c.extractor().shapes(c.outline("train")["image"])
        if c.test is not c.train:
            c.extractor().shapes(c.outline("test")["image"])
        self._fidelity.check(c.outline("train")["image"].shape[0], self.num_samples)
        if got.logits is not None and self._by_class and got.logits.shape[1] < len(c.names):
            raise ValueError(
                f"samples are of {len(c.names)} classes, but {c.extractor().name} tells "
                f"{got.logits.shape[1]} apart"
            )

    def run(self, variables: Variables) -> Iterator[Result | Picture]:
        """Results (see `RealSide.compare` and `_classified`), three pictures."""
        images = [self.samples(variables, seed) for seed in self.seeds]
        got = [self.context.extractor()(x) for x in images]
        classes = len(self.context.names)
        compared = [
            self._real.compare(self._fidelity, e, self._label, classes, self._again) for e in got
        ]
        yield from self._results([n for n, _ in compared], self._classified(got), compared[0][1])
        yield self._grid(images[0])
        yield self._neighbours(images[0], got[0])
        if got[0].logits is not None and self._by_class:
            yield self._confusion(got)

    def _classified(self, got: Sequence[Extracted]) -> dict[str, Measured]:
        """Share of samples given their class, its 95 % Wilson ends, and the inception score."""
        if any(e.logits is None for e in got):
            return {}
        logits = np.concatenate([e.logits for e in got if e.logits is not None])
        out = {"inception_score": Measured(*inception_score(logits, seed=0))}
        if not self._by_class:
            return out
        hit = class_accuracy(np.tile(self._label, len(got)), logits)
        out |= {r.name: Measured(r.value, r.std) for r in hit.results("class_accuracy", {})}
        if self._real.test is not None and self._real.test.logits is not None:
            real = class_accuracy(self._real.test_label, self._real.test.logits)
            out["class_accuracy_real"] = Measured(real.value, real.std)
        return out

    def _results(
        self, numbers: Sequence[dict[str, Measured]], pooled: dict[str, Measured], matched: int
    ) -> Iterator[Result]:
        """Means over the seeds; shares from all seeds' samples together."""
        options = self._bound[1]
        drawn = extend({**options, **self._protocol}, pred=self.pred, seeds=self.seeds)
        # Every seed meets the same held-out images: more seeds tell no more about those.
        means = {
            name: numbers[0][name] if name in REAL else over_seeds([n[name] for n in numbers])
            for name in numbers[0]
        }
        numbers_of = means | pooled
        warn_of_few((name, value.said) for name, value in numbers_of.items())
        for name, value in numbers_of.items():
            size = matched if name in ("frechet_matched", "frechet_ratio") else self.num_samples
            how = extend(drawn, num_samples=size)
            if name in REAL:
                size = matched if name == "frechet_real" else len(self._real.test_label)
                how = extend(self._protocol, num_samples=size)
            yield Result(name, value.value, value.std, extend(how, **value.said))

    def _grid(self, images: np.ndarray) -> Picture:
        names = self.context.names[:20] if self.context.conditional else ()
        classes = len(self.context.names) if names else min(self.columns, 10)
        columns = min(self.columns, self.num_samples // classes)
        tiles = images[: columns * classes].reshape(columns, classes, *images.shape[1:])
        note = f"{caption(self._bound[1])} · seed {self.seeds[0]}".removeprefix(" · ")
        return sample_grid(tiles.swapaxes(0, 1)[: len(names) or classes], names, note)

    def _neighbours(self, images: np.ndarray, got: Extracted, shown: int = 12) -> Picture:
        """The first samples over their three nearest training images, in feature space."""
        train = np.asarray(self.context.train["image"])
        k = min(3, len(train))
        found = nearest(got.features[:shown], self._real.train.features, k)
        tiles = [images[:shown], *(train[found.index[:, j]] for j in range(k))]
        note = "below each sample: the training images nearest to it in feature space"
        rows = ["sample", *("nearest", "2nd", "3rd")[:k]]
        picture = tile_grid(np.stack(tiles), rows=rows, title="Does it copy?", note=note)
        return Picture("neighbours", picture, f"Samples, and {note}.")

    def _confusion(self, got: Sequence[Extracted]) -> Picture:
        logits = np.concatenate([e.logits for e in got if e.logits is not None])
        label = np.tile(self._label, len(got))
        counts = confusion_matrix(label, logits.argmax(axis=1), len(self.context.names))
        hit = class_accuracy(label, logits)
        note = f"{100 * hit.value:.1f} % of {hit.count} samples are given their class"
        picture = count_matrix(
            counts,
            self.context.names,
            title="What the classifier sees",
            note=note,
            across="class seen by the classifier",
            down="class asked for",
        )
        return Picture("confusion", picture, f"{note}.")


def over_seeds(each: Sequence[Measured]) -> Measured:
    """The mean over seeds; independent draws, so their error bars add in squares, but for what is
    the reference's alone: all seeds share that."""
    value, said = float(np.mean([m.value for m in each])), each[0].said
    bars = [(m.std, m.common) for m in each if m.std is not None]
    if not bars:
        return Measured(value, None, said=said)
    std, common = np.square(bars).T
    shared = float(common.mean())
    own = float((std - common).sum()) / len(bars) ** 2
    return Measured(value, float(np.sqrt(own + shared)), float(np.sqrt(shared)), said)
