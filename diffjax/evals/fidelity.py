"""The numbers of one set of samples against real features, each with a jackknife error bar."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from diffjax.evals.features import Extracted
from diffjax.evals.subsets import disjoint_subsets, shared_counts
from diffjax.metrics.frechet import (
    Moments,
    distance_to,
    jackknife,
    jackknife_kept,
    jackknife_std,
    moments,
)
from diffjax.metrics.kernel import subset_mmds
from diffjax.metrics.nearest import copy_ratio
from diffjax.metrics.precision_recall import subset_manifolds


class Measured(NamedTuple):
    """A value and its standard error (None where groups = 0 asked for none)."""

    value: float
    std: float | None


@dataclass(frozen=True)
class Fidelity:
    """How to compare.

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

    def frechet(self, features: np.ndarray, label: np.ndarray, reference: Moments) -> Measured:
        """Distance of `features [N, D]` to the reference; balanced groups by `label [N]`."""
        distance = distance_to(reference)

        def value(x: np.ndarray) -> float:
            return distance(moments(x))

        std = None
        if self.groups:
            groups = min(self.groups, len(features) // 2)
            std = float(jackknife(value, features, groups, strata=label))
        return Measured(value(features), std)

    def matched(
        self, features: np.ndarray, label: np.ndarray, counts: np.ndarray, reference: Moments
    ) -> Measured:
        """Mean distance of the disjoint subsets that hold `counts [K]` images of each class."""
        parts = disjoint_subsets(label, counts, seed=0)
        each = [self.frechet(features[i], label[i], reference) for i in parts]
        value = float(np.mean([m.value for m in each]))
        stds = [m.std for m in each if m.std is not None]
        return Measured(value, float(np.linalg.norm(stds) / len(stds)) if stds else None)

    def manifolds(
        self, real: np.ndarray, fake: np.ndarray, label: np.ndarray
    ) -> dict[str, Measured]:
        """Kernel distance, precision, recall, density and coverage of equally many images."""
        n = min(len(real), len(fake), self.manifold_size)
        real = real[np.random.default_rng(0).permutation(len(real))[:n]].astype(np.float64)
        fake, label = fake[:n].astype(np.float64), label[:n]

        names = ("kernel", "precision", "recall", "density", "coverage")
        keep = np.ones((1, n), bool)
        if self.groups:
            keep = np.concatenate([keep, jackknife_kept(n, min(self.groups, n // 2), 0, label)])
        k = {"precision_k": self.precision_k, "density_k": self.density_k}
        shares = subset_manifolds(real, fake, keep, **k)
        values = np.concatenate([subset_mmds(fake, real, keep)[:, None], shares], axis=1)
        stds = jackknife_std(values[1:]).tolist() if self.groups else [None] * len(names)
        return {n: Measured(v, s) for n, v, s in zip(names, values[0].tolist(), stds, strict=True)}


@dataclass(frozen=True, eq=False)
class RealSide:
    """What samples are compared with; computed once a run.

    Attributes:
      train: features of the training images, the reference.
      reference: their moments.
      test, test_label: held-out features and labels `[M]`: the distance that real images have;
        None where nothing was held out, and then no number compares with it.
    """

    train: Extracted
    reference: Moments
    test: Extracted | None
    test_label: np.ndarray

    @cached_property
    def spatial(self) -> Moments | None:
        """Moments of the reference's spatial features, where the extractor has such."""
        return None if self.train.spatial is None else moments(self.train.spatial)

    def compare(
        self, how: Fidelity, got: Extracted, label: np.ndarray, classes: int
    ) -> tuple[dict[str, Measured], int]:
        """All distances of samples `got` of classes `label [N]`, and the N of the matched ones.

        "frechet" uses all samples, and so does "frechet_spatial" (sFID) of an extractor that has
        spatial features. "frechet_matched" and "frechet_real" are samples and held-out
        images, equally many of each class, against the reference; "frechet_ratio" divides them.
        "copy_ratio" near 0 says that samples are copies of training images.
        """
        out = {"frechet": how.frechet(got.features, label, self.reference)}
        if got.spatial is not None and self.spatial is not None:
            out["frechet_spatial"] = how.frechet(got.spatial, label, self.spatial)
        manifolds = how.manifolds(self.train.features, got.features, label)
        if self.test is None:
            return out | manifolds, 0
        counts = shared_counts(label, self.test_label, classes)
        if counts.sum() >= 4:
            fake = how.matched(got.features, label, counts, self.reference)
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
    value = a.value / max(b.value, 1e-12)
    if a.std is None or b.std is None:
        return Measured(value, None)
    return Measured(value, float(np.hypot(a.std, value * b.std) / max(b.value, 1e-12)))
