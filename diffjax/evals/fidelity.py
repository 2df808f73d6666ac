"""The numbers of one set of samples against real features, each with a jackknife error bar."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from diffjax.evals.features import Extracted
from diffjax.evals.subsets import disjoint_subsets, shared_counts
from diffjax.metrics.frechet import (
    Moments,
    distance_to,
    few_images,
    jackknife,
    jackknife_kept,
    jackknife_std,
    moments,
)
from diffjax.metrics.nearest import copy_ratio
from diffjax.metrics.precision_recall import subset_manifolds
from diffjax.metrics.stratified import stratified_mmd


class Measured(NamedTuple):
    """A value and its standard error (None where groups = 0 asked for none).

    Attributes:
      common: the part of `std` that is the reference's alone; more samples do not lessen it.
      said: what of its protocol is its own.
    """

    value: float
    std: float | None
    common: float = 0.0
    said: Mapping[str, Any] = {}


FEW = "few_images"  # of a protocol


def warn_of_few(numbers: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """One line in the log for each reason to doubt a Frechet distance, of names and protocols."""
    by_reason: dict[str, list[str]] = {}
    for name, said in numbers:
        if FEW in said:
            by_reason.setdefault(said[FEW], []).append(name)
    for few, names in by_reason.items():
        logging.getLogger(__name__).warning(
            "%s: no more images than features (%s): their covariance is singular and the distance "
            "says little; take more images, or narrower features",
            ", ".join(names),
            few,
        )


@dataclass(frozen=True)
class Fidelity:
    """Settings of a comparison.

    Attributes:
      groups: of the jackknife; 0 leaves the error bars out (at 2048 features each group costs
        seconds).
      precision_k, density_k: neighbours (3 and 5 in the papers).
      manifold_size: at most so many images on each side of the kernel distance and the manifolds,
        whose time and memory are quadratic (at 5,000 half a gigabyte).
    """

    groups: int = 20
    precision_k: int = 3
    density_k: int = 5
    manifold_size: int = 5000

    def __post_init__(self) -> None:
        if self.groups == 1 or self.groups < 0:
            raise ValueError(f"groups={self.groups}: a jackknife takes 2 or more, 0 for none")
        if min(self.precision_k, self.density_k) < 1:
            raise ValueError(
                f"precision_k={self.precision_k} and density_k={self.density_k} must be at least 1"
            )

    def check(self, real: int, fake: int) -> None:
        """Raises ValueError where so few images, or so small a manifold_size, tell nothing."""
        n, k = min(real, fake, self.manifold_size), max(self.precision_k, self.density_k)
        groups = min(self.groups, n // 2)
        kept = n - -(-n // groups) if groups else n
        if n < 4 or n <= k or kept <= self.precision_k:
            raise ValueError(
                f"{n} images (of {real} real ones, {fake} samples, manifold_size="
                f"{self.manifold_size}) are too few for precision_k={self.precision_k}, "
                f"density_k={self.density_k} and groups={self.groups}"
            )

    def frechet(
        self,
        features: np.ndarray,
        label: np.ndarray | None,
        reference: Moments,
        clusters: np.ndarray | None = None,
    ) -> Measured:
        """Distance of `features [N, D]` to the reference; the jackknife's groups are balanced by
        `label [N]`, or of whole `clusters [N]` (draws of one text)."""
        distance = distance_to(reference)

        def value(x: np.ndarray) -> float:
            return distance(moments(x))

        std = None
        units = len(features) // 2 if clusters is None else len(np.unique(clusters))
        groups = min(self.groups, units)
        if groups > 1:
            std = float(jackknife(value, features, groups, strata=label, clusters=clusters))
        own = moments(features)
        few = few_images(len(own.mean), samples=own.count, reference=reference.count)
        return Measured(distance(own), std, said={FEW: few} if few else {})

    def matched(
        self,
        features: np.ndarray,
        label: np.ndarray,
        counts: np.ndarray,
        reference: Moments,
        clusters: np.ndarray | None = None,
    ) -> Measured:
        """Mean distance of the disjoint subsets that hold `counts [K]` images of each class."""
        parts = disjoint_subsets(label, counts, seed=0)
        of = [None if clusters is None else clusters[i] for i in parts]
        each = [
            self.frechet(features[i], label[i], reference, c)
            for i, c in zip(parts, of, strict=True)
        ]
        value = float(np.mean([m.value for m in each]))
        stds = [m.std for m in each if m.std is not None]
        std = float(np.linalg.norm(stds) / len(stds)) if stds else None
        return Measured(value, std, said=each[0].said)

    def kernel(
        self,
        real: np.ndarray,
        real_label: np.ndarray,
        fake: np.ndarray,
        label: np.ndarray,
    ) -> Measured:
        """Kernel distance of `fake [N, D]` to `real [M, D]` as mixtures of the classes of `label`
        and `real_label` in the shares that the real images have; zero on average for a perfect
        model. The error bar is of the chance on both sides."""
        share = np.bincount(real_label, minlength=int(label.max()) + 1)
        kept = np.random.default_rng(0).permutation(len(real))[: self.manifold_size]
        n = self.manifold_size
        got = stratified_mmd(fake[:n], real[kept], label[:n], real_label[kept], share)
        return Measured(got.value, *((got.std, got.common) if self.groups else (None, 0.0)))

    def manifolds(
        self,
        real: np.ndarray,
        fake: np.ndarray,
        label: np.ndarray,
        clusters: np.ndarray | None = None,
    ) -> dict[str, Measured]:
        """Precision, recall, density and coverage of equally many images."""
        n = min(len(real), len(fake), self.manifold_size)
        real = real[np.random.default_rng(0).permutation(len(real))[:n]].astype(np.float64)
        fake, label = fake[:n].astype(np.float64), label[:n]

        names = ("precision", "recall", "density", "coverage")
        keep = np.ones((1, n), bool)
        if self.groups:
            whole = None if clusters is None else clusters[:n]
            groups = min(self.groups, n // 2 if whole is None else len(np.unique(whole)))
            keep = np.concatenate([keep, jackknife_kept(n, groups, 0, label, whole)])
        k = {"precision_k": self.precision_k, "density_k": self.density_k}
        values = subset_manifolds(real, fake, keep, **k)
        stds = jackknife_std(values[1:]).tolist() if self.groups else [None] * len(names)
        return {n: Measured(v, s) for n, v, s in zip(names, values[0].tolist(), stds, strict=True)}


@dataclass(frozen=True, eq=False)
class RealSide:
    """Real images that samples are compared with; computed once a run.

    Attributes:
      train, train_label: features and labels of the training images, the reference.
      reference: their moments.
      test, test_label: held-out features and labels `[M]`: the distance that real images have;
        None where nothing was held out, and then no number compares with it.
    """

    train: Extracted
    train_label: np.ndarray
    reference: Moments
    test: Extracted | None
    test_label: np.ndarray

    @cached_property
    def spatial(self) -> Moments | None:
        """Moments of the reference's spatial features, where the extractor has such."""
        return None if self.train.spatial is None else moments(self.train.spatial)

    def compare(
        self,
        how: Fidelity,
        got: Extracted,
        label: np.ndarray,
        classes: int,
        clusters: np.ndarray | None = None,
    ) -> tuple[dict[str, Measured], int]:
        """All distances of samples `got` of classes `label [N]`, and the N of the matched ones.

        Samples of one of `clusters [N]` (0, 1, ... in turn) were drawn by the same text: error bars
        are over those, and the kernel distance takes one sample of each.

        "frechet" uses all samples, and so does "frechet_spatial" (sFID) of an extractor that has
        spatial features. "frechet_matched" and "frechet_real" are samples and held-out
        images, equally many of each class, against the reference; "frechet_ratio" divides them.
        "kernel_real" is the kernel distance that held-out images have.
        "copy_ratio" near 0 says that samples are copies of training images.
        """
        out = {"frechet": how.frechet(got.features, label, self.reference, clusters)}
        if got.spatial is not None and self.spatial is not None:
            out["frechet_spatial"] = how.frechet(got.spatial, label, self.spatial, clusters)
        train, by_class = self.train.features, self.train_label
        n = len(label) if clusters is None else int(clusters.max()) + 1
        out["kernel"] = how.kernel(train, by_class, got.features[:n], label[:n])
        manifolds = how.manifolds(train, got.features, label, clusters)
        if self.test is None:
            return out | manifolds, 0
        if min(len(self.test.features), len(train)) > 1:
            real = how.kernel(train, by_class, self.test.features, self.test_label)
            out["kernel_real"] = real
        counts = shared_counts(label, self.test_label, classes)
        if counts.sum() >= 4:
            fake = how.matched(got.features, label, counts, self.reference, clusters)
            real = how.matched(self.test.features, self.test_label, counts, self.reference)
            out |= {
                "frechet_matched": fake,
                "frechet_real": real,
                "frechet_ratio": ratio(fake, real),
            }
        copies = copy_ratio(got.features, self.test.features, self.train.features)
        out["copy_ratio"] = Measured(copies, None)
        return out | manifolds, int(counts.sum())


def ratio(a: Measured, b: Measured) -> Measured:
    """a / b, with the error bars of both carried to first order."""
    value, said = a.value / max(b.value, 1e-12), {**b.said, **a.said}
    if a.std is None or b.std is None:
        return Measured(value, None, said=said)
    std = float(np.hypot(a.std, value * b.std) / max(b.value, 1e-12))
    return Measured(value, std, said=said)
