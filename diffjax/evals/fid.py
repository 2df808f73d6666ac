"""The papers' protocol: samples against a file of reference statistics, drawn and forgotten batch
by batch, so that 50,000 images of any size fit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.choices import construct, pick
from diffjax.data.arrays import ArraySource
from diffjax.evals import trial
from diffjax.evals.base import Picture
from diffjax.evals.compare import METRICS, Settings, compare
from diffjax.evals.context import EvalContext
from diffjax.evals.drawing import balanced_labels, draw
from diffjax.evals.features import STAND_IN, Extracted
from diffjax.evals.reference import Reference, check_protocol, read_reference
from diffjax.evals.samples import caption, sample_grid
from diffjax.evals.sides import FeatureSet, Running, measure
from diffjax.fingerprints import fingerprint
from diffjax.keys import check_seed
from diffjax.ranges import Amount, Seed
from diffjax.results import Result, extend, protocol
from diffjax.task import Variables

_SHOWN = 100  # samples in the picture


@dataclass(frozen=True, eq=False)
class FID:
    """Draws `num_samples` samples and compares them with a reference by `metrics`.

    They are of the classes in turn, or of a split's texts or images where the run draws by these.

    Attributes:
      reference: `.npz` of statistics, and of images where `metrics` compare image by image (mu and
        sigma of pytorch-fid, guided-diffusion or edm; `experiments.fid --save` writes one).
      metrics: names in `evals.compare.METRICS` of Inception's kind.
      pred, pred_kw: predict function `sample(variables, seed, index, cond, **pred_kw)`.
      split: whose texts or images, "test" by default; not read by runs that draw by class.
      num_samples: N.
      batch_size: samples drawn at a time (the samples do not depend on it).
      seed: of the samples.
      settings: options of `evals.compare.Settings`.

    Raises:
      ValueError: a file that cannot be read, that was measured under another protocol, or that
        lacks what a metric compares.
    """

    context: EvalContext
    reference: str
    metrics: Sequence[str] = ("fid", "inception_score")
    pred: str = "sample"
    pred_kw: Mapping[str, Any] = field(default_factory=dict)
    split: str | None = None
    num_samples: Amount = 50_000
    batch_size: Amount = 250
    seed: Seed = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_seed(self.seed)
        _ = self._bound  # What is wrong with the recipe is said before anything is trained.
        if self.split is not None and not self.context.drawn_by:
            raise ValueError(
                f"split={self.split!r} is not read: this run draws by no text or image of a split"
            )
        self.context.split(self._split)
        construct(Settings, "evaluator 'fid': settings", self.settings)
        for name in self.metrics:
            if METRICS[pick("metric", name, METRICS)].extractor != "inception":
                raise ValueError(f"{name} is no metric of FID's network: leave it out")
        if self.num_samples < 2:
            raise ValueError(f"num_samples {self.num_samples}: a covariance needs two or more")
        held, what = self._held, self.reference
        check_protocol(what, held, self.context.extractor().protocol)
        if self._keeps("b") and held.images is None:
            raise ValueError(
                f"{what} holds no images (arr_0), which one of {', '.join(self.metrics)} compares "
                "with: take a file that has them, or leave the metric out"
            )
        if "sfid" in self.metrics and held.moments is not None and held.spatial is None:
            raise ValueError(f"{what} holds no mu_s and sigma_s, which sfid compares with")

    def _keeps(self, side: str) -> bool:
        return any(side in METRICS[name].rows for name in self.metrics)

    @property
    def _split(self) -> str:
        return self.split or "test"

    def _cond(self, start: int) -> Any:
        """The conditions of the batch that begins with sample `start`."""
        count = min(self.batch_size, self.num_samples - start)
        return self.context.cond(count, self._split, start)

    @cached_property
    def _held(self) -> Reference:
        return read_reference(self.reference)

    @cached_property
    def _bound(self) -> tuple[Callable[..., Any], dict[str, Any]]:
        fn, options = self.context.bind(self.pred, self.pred_kw)
        return fn, self.context.recipe(self.pred_kw, options)

    @cached_property
    def _real(self) -> FeatureSet:
        held, file = self._held, Path(self.reference)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:10]
        if held.moments is not None and not self._keeps("b"):
            return FeatureSet(file.name, digest, held.moments, held.spatial)
        assert held.images is not None  # statistics or images: the file holds one of them
        source = ArraySource(held.images, name=file.name, fingerprint=digest)
        seen = measure(file.name, source, self.context.extractor(), self._keeps("b"))
        if held.moments is None:
            return seen
        # guided-diffusion's files: moments of all images, and some of them to draw rows from.
        return FeatureSet(file.name, digest, held.moments, held.spatial, seen.rows)

    def _drawn(self, variables: Variables) -> tuple[FeatureSet, np.ndarray]:
        """The samples' side, and the first of them."""
        extract, sampler = self.context.extractor(), self._bound[0]
        pooled, spatial = Running(), Running()
        kept: list[Extracted] = []
        first: list[np.ndarray] = []
        for start in range(0, self.num_samples, self.batch_size):
            cond = self._cond(start)
            sharding = self.context.batch_sharding
            images = draw(
                sampler, variables, self.seed, cond, self.batch_size, sharding, start=start
            )
            first += [images] if start < _SHOWN else []
            got = extract(images, start=start)
            pooled.add(got.features)
            if got.spatial is not None:
                spatial.add(got.spatial)
            kept += [got._replace(spatial=None)] if self._keeps("a") else []
        rows = None
        if kept:
            logits = [x.logits for x in kept if x.logits is not None]
            joined = np.concatenate(logits) if logits else None
            rows = Extracted(np.concatenate([x.features for x in kept]), joined)
        side = FeatureSet("samples", "", pooled.result(), spatial.result(), rows, **self._strata())
        return side, np.concatenate(first)[:_SHOWN]

    def _strata(self) -> dict[str, np.ndarray]:
        """Clusters of samples: those of one class, or of one example of the split."""
        if not self.context.drawn_by:
            return {"label": balanced_labels(self.num_samples, len(self.context.names))}
        examples = len(self.context.split(self._split)["image"])
        return {"clusters": np.arange(self.num_samples) % examples}

    def _of_split(self) -> dict[str, Any]:
        """The protocol of the texts or images that samples are drawn by."""
        if not self.context.drawn_by:
            return {}
        arrays = self.context.split(self._split)
        said = fingerprint({name: np.asarray(arrays[name]) for name in self.context.drawn_by})
        return {"split": self._split, "data": said}

    def trial(self, variables: Variables) -> None:
        """See `Evaluator.trial`."""
        image = trial.drawn(
            self.context, self.pred, self.pred_kw, variables, self._cond(0), self.batch_size
        )
        got = self.context.extractor().shapes(image)
        held = self._held
        if held.images is not None:
            self.context.extractor().shapes(trial.shape_of(held.images))
        if self.context.extractor() is STAND_IN:
            return
        if held.moments is not None and len(held.moments.mean) != got.features.shape[1]:
            raise ValueError(
                f"{self.reference} is of {len(held.moments.mean)} features, but "
                f"{self.context.extractor().name} gives {got.features.shape[1]}"
            )

    def run(self, variables: Variables) -> Iterator[Result | Picture]:
        """The numbers of `metrics`, and a picture of the first samples."""
        drawn, first = self._drawn(variables)
        how = protocol(**{**self._bound[1], **self.context.extractor().protocol})
        settings, by = Settings(**self.settings), self._of_split()
        for s in compare(self.metrics, settings, drawn, self._real, how):
            said = extend(s.protocol, pred=self.pred, seed=self.seed, **by)
            yield Result(s.name, s.value, s.std, said)
        side = int(len(first) ** 0.5)
        tiles = first[: side * side].reshape(side, side, *first.shape[1:])
        note = f"{caption(self._bound[1])} · seed {self.seed}".removeprefix(" · ")
        yield sample_grid(tiles, (), note)
