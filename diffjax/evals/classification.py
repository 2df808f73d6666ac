"""A classifier over a data set: loss, accuracy with its interval, confusion matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np

from diffjax.batches import map_batches
from diffjax.evals import trial
from diffjax.evals.base import Picture
from diffjax.evals.context import EvalContext
from diffjax.evals.pictures import count_matrix
from diffjax.fingerprints import fingerprint
from diffjax.metrics import classification as metrics
from diffjax.ranges import Amount
from diffjax.results import Result, protocol
from diffjax.task import Variables


@dataclass(frozen=True, eq=False)
class Classification:
    """Compares `logits(variables, image)` with the labels of a split ("test" or "train")."""

    context: EvalContext
    pred: str = "logits"
    pred_kw: Mapping[str, Any] = field(default_factory=dict)
    split: str = "test"
    batch_size: Amount = 256

    @cached_property
    def _logits(self) -> Callable[..., Any]:
        fn, _ = self.context.bind(self.pred, self.pred_kw)
        return jax.jit(lambda variables, image: fn(variables, image))

    def __post_init__(self) -> None:
        self.context.bind(self.pred, self.pred_kw)
        self.context.split(self.split)

    def trial(self, variables: Variables) -> None:
        """See `Evaluator.trial`."""
        split = self.context.outline(self.split)
        if "label" not in split:
            raise ValueError(f"the data of split {self.split!r} have no labels")
        batch = trial.batch_of(self.context, split, self.batch_size)
        got = self.context.shapes(self.pred, self.pred_kw, variables, batch["image"])
        classes = trial.vectors(got, self.batch_size, self.pred)
        if classes < len(self.context.class_names):
            raise ValueError(
                f"{self.pred} tells {classes} classes apart, but the data have "
                f"{len(self.context.class_names)}"
            )

    def run(self, variables: Variables) -> Iterator[Result | Picture]:
        """Results "loss" (nats), "accuracy" and its 95 % Wilson ends; picture "confusion"."""
        arrays = dict(self.context.split(self.split))
        logits = map_batches(
            lambda batch: self._logits(variables, batch["image"]),
            arrays,
            self.batch_size,
            self.context.batch_sharding,
        )
        label = np.asarray(arrays["label"])
        how = protocol(split=self.split, data=fingerprint(arrays), num_images=len(label))
        loss = metrics.cross_entropy(label, logits)
        yield Result("loss", float(loss.mean()), float(loss.std() / np.sqrt(len(loss))), how)
        got = metrics.class_accuracy(label, logits)
        yield from got.results("accuracy", how)
        counts = metrics.confusion_matrix(label, logits.argmax(axis=1), logits.shape[1])
        names = self.context.names
        names = names if len(names) == len(counts) else tuple(str(k) for k in range(len(counts)))
        note = f"accuracy {100 * got.value:.1f} % of {got.count} ({self.split})"
        picture = count_matrix(
            counts, names, title="Confusion", note=note, across="predicted", down="true"
        )
        yield Picture("confusion", picture, f"Rows: true class; columns: predicted. {note}.")
