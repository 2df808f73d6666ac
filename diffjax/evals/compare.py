"""Two sets of images compared by name of a metric, as the papers' code computes each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from diffjax.choices import pick
from diffjax.evals.features import Extracted
from diffjax.evals.fidelity import FEW, Fidelity, Measured, warn_of_few
from diffjax.evals.sides import FeatureSet
from diffjax.keys import check_seed
from diffjax.metrics.alignment import clip_score
from diffjax.metrics.classification import inception_score
from diffjax.metrics.frechet import Moments, few_images, frechet_distance, frechet_infinity
from diffjax.metrics.kernel import kernel_distance, rbf_distance, unit_rows
from diffjax.metrics.precision_recall import density_coverage, precision_recall
from diffjax.metrics.stratified import subsets_error
from diffjax.ranges import Amount, MaybeAmount, Seed
from diffjax.results import Result, extend, protocol


@dataclass(frozen=True)
class Settings:
    """Attributes:
    groups: of the jackknife over samples of Frechet distances; 0 for no error bars.
    subset_size, subsets: of KID, cut to the smaller set where that has fewer. Its error bar is the
      standard error of the mean over subsets, not their spread, which papers print.
    splits: of the Inception score.
    precision_k, density_k: neighbours.
    points: sizes through which FID-infinity is drawn, 3 or more.
    seed: of subsets and splits.
    """

    groups: MaybeAmount = 0
    subset_size: Amount = 1000
    subsets: Amount = 100
    splits: Amount = 10
    precision_k: Amount = 3
    density_k: Amount = 5
    points: Amount = 15
    seed: Seed = 2020

    def __post_init__(self) -> None:
        check_seed(self.seed)


class Metric(NamedTuple):
    """A way to compare.

    Attributes:
      compute: `(settings, a, b)` to its numbers by name; `b` is the reference.
      extractor: "inception" or "clip": whose features.
      rows: sides, of "a" and "b", whose features it needs; of others the moments.
      options: the settings that belong to its protocol.
      reference: whether it looks at `b`.
    """

    compute: Callable[[Settings, FeatureSet, FeatureSet], dict[str, Measured]]
    extractor: str = "inception"
    rows: str = ""
    options: tuple[str, ...] = ()
    reference: bool = True


def _moments(side: FeatureSet) -> Moments:
    if side.moments is None:
        raise ValueError(f"{side.name} holds no mean and covariance")
    return side.moments


def _rows(side: FeatureSet, what: str) -> Extracted:
    if side.rows is None:
        raise ValueError(
            f"{what} compares images one by one, but {side.name} holds statistics alone: give its "
            "images, or leave the metric out"
        )
    return side.rows


def _gaussians(a: Moments, b: Moments, std: float | None = None) -> Measured:
    few = few_images(len(a.mean), samples=a.count, reference=b.count)
    return Measured(frechet_distance(a, b), std, said={FEW: few} if few else {})


def _frechet(s: Settings, a: FeatureSet, b: FeatureSet) -> Measured:
    std = None
    if s.groups and a.rows is not None:
        how = Fidelity(groups=s.groups)
        std = how.frechet(a.rows.features, a.label, _moments(b), a.clusters).std
    return _gaussians(_moments(a), _moments(b), std)


def _sfid(s: Settings, a: FeatureSet, b: FeatureSet) -> dict[str, Measured]:
    for side in (a, b):
        if side.spatial is None:
            raise ValueError(f"sfid needs spatial features, which {side.name} does not hold")
    assert a.spatial is not None and b.spatial is not None
    return {"sfid": _gaussians(a.spatial, b.spatial)}


def _kid(s: Settings, a: FeatureSet, b: FeatureSet) -> dict[str, Measured]:
    x, y = _rows(a, "kid").features, _rows(b, "kid").features
    options: dict[str, Any] = {name: getattr(s, name) for name in _K}
    found = kernel_distance(x, y, label=a.label, **options)
    return {"kid": Measured(found.mean, subsets_error(x, y, found, label=a.label, **options))}


def _score(s: Settings, a: FeatureSet, b: FeatureSet) -> dict[str, Measured]:
    logits = _rows(a, "inception_score").logits
    if logits is None:
        raise ValueError("inception_score needs an extractor with logits")
    return {"inception_score": Measured(*inception_score(logits, splits=s.splits, seed=s.seed))}


def _precision(s: Settings, a: FeatureSet, b: FeatureSet) -> dict[str, Measured]:
    what = "precision_recall"
    found = precision_recall(_rows(b, what).features, _rows(a, what).features, s.precision_k)
    return {name: Measured(value, None) for name, value in found._asdict().items()}


def _density(s: Settings, a: FeatureSet, b: FeatureSet) -> dict[str, Measured]:
    what = "density_coverage"
    found = density_coverage(_rows(b, what).features, _rows(a, what).features, s.density_k)
    return {name: Measured(value, None) for name, value in found._asdict().items()}


def _infinity(s: Settings, a: FeatureSet, b: FeatureSet) -> dict[str, Measured]:
    x = _rows(a, "fid_infinity").features
    b_moments, smallest = _moments(b), max(len(x) // 10, 2)
    found = frechet_infinity(x, b_moments, points=s.points, smallest=smallest, seed=s.seed)
    # Where the smallest subsets have a singular covariance, the distance is no line in 1 / N.
    few = few_images(x.shape[1], smallest_subset=smallest, reference=b_moments.count)
    return {"fid_infinity": Measured(found.value, found.std, said={FEW: few} if few else {})}


def _cmmd(s: Settings, a: FeatureSet, b: FeatureSet) -> dict[str, Measured]:
    x, y = _rows(a, "cmmd").features, _rows(b, "cmmd").features
    return {"cmmd": Measured(rbf_distance(unit_rows(x), unit_rows(y)), None)}


def _clip_score(s: Settings, a: FeatureSet, b: FeatureSet) -> dict[str, Measured]:
    if a.texts is None:
        raise ValueError(f"clip_score compares images with their captions; {a.name} has none")
    # Images of one caption are no independent examples of how well images fit captions.
    same = np.unique(a.texts, axis=0, return_inverse=True)[1].reshape(-1)
    found = clip_score(_rows(a, "clip_score").features, a.texts, clusters=same)
    return {"clip_score": Measured(found.value, found.std)}


_K = ("subset_size", "subsets", "seed")
METRICS: dict[str, Metric] = {
    "fid": Metric(lambda s, a, b: {"fid": _frechet(s, a, b)}),
    "sfid": Metric(_sfid),
    "kid": Metric(_kid, rows="ab", options=_K),
    "inception_score": Metric(_score, rows="a", options=("splits", "seed"), reference=False),
    "precision_recall": Metric(_precision, rows="ab", options=("precision_k",)),
    "density_coverage": Metric(_density, rows="ab", options=("density_k",)),
    "fid_infinity": Metric(_infinity, rows="a", options=("points", "seed")),
    "clip_fid": Metric(lambda s, a, b: {"clip_fid": _frechet(s, a, b)}, "clip"),
    "cmmd": Metric(_cmmd, "clip", rows="ab"),
    "clip_score": Metric(_clip_score, "clip", rows="a", reference=False),
}


def compare(
    names: Collection[str], settings: Settings, a: FeatureSet, b: FeatureSet, how: Mapping[str, Any]
) -> Iterator[Result]:
    """The metrics `names` (keys of `METRICS`) of the samples `a` against the reference `b`.

    Args:
      how: the protocol of the features.

    Raises:
      ValueError: an unknown name, or a side that lacks what a metric needs.
    """
    for name in names:
        metric = METRICS[pick("metric", name, METRICS)]
        options = {k: v for k, v in asdict(settings).items() if k in metric.options}
        if "subset_size" in options:
            options["subset_size"] = min(options["subset_size"], a.count, b.count)
        reference = {"reference": b.content, "reference_size": b.count or "unknown"}
        said = protocol(
            **how, **options, num_samples=a.count, **(reference if metric.reference else {})
        )
        found = metric.compute(settings, a, b)
        warn_of_few((number, got.said) for number, got in found.items())
        for number, got in found.items():
            yield Result(number, got.value, got.std, extend(said, **got.said))
