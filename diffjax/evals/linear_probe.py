"""Linear probe: logistic regression on frozen image features (Radford et al. 2021, A.3)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from diffjax.evals import trial
from diffjax.evals.base import Picture
from diffjax.evals.context import EvalContext
from diffjax.evals.embeddings import check_labels, features, sample_rows
from diffjax.fingerprints import fingerprint
from diffjax.metrics.classification import share
from diffjax.ranges import Amount, Beta, Integer, MaybeAmount
from diffjax.results import Result, protocol
from diffjax.task import Variables

# The paper sweeps 96 values, log-spaced in [1e-6, 1e6], by this coarse grid and then bisection.
COARSE = tuple(10.0**e for e in (-6, -4, -2, 0, 2, 4, 6))
PER_DECADE = 8


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """L-BFGS on an l2-regularised multinomial logistic loss; the regulariser is chosen on a part
    of the training split that is held out, then the whole of it is fitted.

    Attributes:
      pred: predict function of features.
      split: whose accuracy is reported.
      where: field -> value; only such examples are fitted and counted.
      limit: training examples, drawn; 0 for all.
      validation: share of them that chooses the regulariser.
      iterations: of L-BFGS.
    """

    context: EvalContext
    pred: str = "encode_image"
    split: str = "test"
    where: Mapping[str, Integer] = field(default_factory=dict)
    limit: MaybeAmount = 0
    validation: Beta = 0.1
    iterations: Amount = 1000
    batch_size: Amount = 256

    def __post_init__(self) -> None:
        self.context.bind(self.pred)
        for split in ("train", self.split):
            check_labels(self.context, split, self.where, "linear_probe")
        if len(np.unique(self._train()["label"])) < 2:
            raise ValueError(
                "linear_probe: the training examples are of one class; a probe tells two apart"
            )
        if not 0 < self.validation < 1:
            raise ValueError(f"linear_probe: validation={self.validation} must lie in (0, 1)")

    def _train(self) -> dict[str, np.ndarray]:
        """Image and label of the examples that are fitted."""
        arrays = self.context.chosen("train", self.where)
        keep = sample_rows(len(arrays["image"]), self.limit)
        return {k: arrays[k][keep] for k in ("image", "label")}

    def trial(self, variables: Variables) -> None:
        """See `Evaluator.trial`."""
        for image in (
            self._train()["image"],
            self.context.chosen(self.split, self.where)["image"],
        ):
            trial.encoded(self.context, self.pred, variables, image, self.batch_size)

    def run(self, variables: Variables) -> Iterator[Result | Picture]:
        """Results "accuracy" with its Wilson ends and "regulariser" (scikit-learn's C)."""
        rows = features(self.context, self.pred, self.batch_size)
        train, test = self._train(), self.context.chosen(self.split, self.where)
        x, y = rows(variables, train["image"]), train["label"]
        chosen = choose_regulariser(x, y, self.validation, self.iterations)
        model = fit(x, y, chosen, self.iterations)
        got = share(model.predict(rows(variables, test["image"])) == np.asarray(test["label"]))
        how = protocol(
            split=self.split,
            where=self.where,
            pred=self.pred,
            num_train=len(y),
            validation=self.validation,
            iterations=self.iterations,
            data=fingerprint({"image": test["image"], "label": test["label"]}),
            num_images=got.count,
        )
        yield from got.results("accuracy", how)
        yield Result("regulariser", chosen, None, how)


def fit(x: np.ndarray, y: np.ndarray, c: float, iterations: int) -> Any:
    """The logistic regression of `y [N]` on `x [N, D]` at inverse regularisation `c`."""
    with warnings.catch_warnings():
        # The paper stops at its 1,000 iterations too, converged or not.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Few examples of many classes are no sign that the labels are numbers.
        warnings.filterwarnings("ignore", "The number of unique classes")
        return LogisticRegression(C=c, max_iter=iterations, tol=1e-4).fit(x, y)


def choose_regulariser(x: np.ndarray, y: np.ndarray, validation: float, iterations: int) -> float:
    """The C of the paper's log-spaced grid that does best on a held-out part of the rows.

    Coarse values first, then the step around the best one is halved until it is one of the grid.
    """
    order = np.random.default_rng(0).permutation(len(y))
    held = max(1, round(validation * len(y)))
    a, b = order[held:], order[:held]
    scores: dict[float, float] = {}

    def score(exponent: float) -> float:
        if exponent not in scores:
            model = fit(x[a], y[a], 10.0**exponent, iterations)
            scores[exponent] = float((model.predict(x[b]) == y[b]).mean())
        return scores[exponent]

    best = max((float(np.log10(c)) for c in COARSE), key=score)
    step = 1.0
    while step >= 1 / PER_DECADE:
        near = [best] + [e for e in (best - step, best + step) if -6 <= e <= 6]
        best = max(near, key=score)
        step /= 2
    return 10.0**best
