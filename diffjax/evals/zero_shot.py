"""Zero-shot classification: images against prompts of class names (Radford et al. 2021, 3.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from diffjax.evals import trial
from diffjax.evals.base import Picture
from diffjax.evals.context import EvalContext
from diffjax.evals.embeddings import (
    Towers,
    article,
    check_labels,
    check_names,
    check_templates,
)
from diffjax.evals.pictures import count_matrix
from diffjax.fingerprints import fingerprint
from diffjax.metrics import classification as metrics
from diffjax.ranges import Amount, Integer
from diffjax.results import Result, protocol
from diffjax.task import Variables


@dataclass(frozen=True, eq=False)
class ZeroShot:
    """Attributes:
    split: whose images are classified.
    templates: prompts with one `{}` for the class name; their embeddings are averaged.
    class_names: one per label; by default the data's own.
    articles: say "an" for "a" before a vowel, as the captions of `shapes` do; published protocols
      leave the template as it is.
    where: field -> value; only such examples count (`{"num_objects": 1}`).
    """

    context: EvalContext
    split: str = "test"
    templates: tuple[str, ...] = ("a photo of a {}.",)
    class_names: tuple[str, ...] = ()
    articles: bool = False
    where: Mapping[str, Integer] = field(default_factory=dict)
    batch_size: Amount = 256

    def __post_init__(self) -> None:
        check_templates(self.templates, "zero_shot")
        check_names(self.names, "zero_shot")
        check_labels(self.context, self.split, self.where, "zero_shot")
        label = self.context.chosen(self.split, self.where)["label"]
        if label.max() >= len(self.names):
            raise ValueError(f"zero_shot: label {label.max()}, but {len(self.names)} class names")
        assert self.towers

    @property
    def names(self) -> tuple[str, ...]:
        return self.class_names or self.context.names

    @cached_property
    def towers(self) -> Towers:
        return Towers(self.context, self.batch_size)

    def _prompts(self) -> list[list[str]]:
        """Per class, every template of its name."""
        said = article if self.articles else str
        return [[said(template.format(name)) for template in self.templates] for name in self.names]

    def trial(self, variables: Variables) -> None:
        """See `Evaluator.trial`."""
        image = self.context.chosen(self.split, self.where)["image"]
        prompts = [prompt for each in self._prompts() for prompt in each]
        tokens = trial.texts(self.context, prompts)
        trial.towers(self.context, variables, image, tokens, self.batch_size)

    def run(self, variables: Variables) -> Iterator[Result | Picture]:
        """Results "accuracy" with its 95 % Wilson ends and "top5"; picture "confusion"."""
        arrays = self.context.chosen(self.split, self.where)
        label = np.asarray(arrays["label"])
        image = self.towers.images(variables, arrays["image"])
        scores = image @ self.towers.classes(variables, self._prompts()).T
        how = protocol(
            split=self.split,
            where=self.where,
            templates=self.templates,
            articles=self.articles,
            classes=fingerprint([np.frombuffer("\n".join(self.names).encode(), np.uint8)]),
            data=fingerprint({"image": arrays["image"], "label": label}),
            num_images=len(label),
        )
        got = metrics.class_accuracy(label, scores)
        yield from got.results("accuracy", how)
        if len(self.names) > 5:
            top = np.argpartition(-scores, 5, axis=1)[:, :5]
            five = metrics.share((top == label[:, None]).any(axis=1))
            yield Result("top5", five.value, five.std, how)
        counts = metrics.confusion_matrix(label, scores.argmax(axis=1), len(self.names))
        note = f"zero-shot accuracy {100 * got.value:.1f} % of {got.count} ({self.split})"
        title = "Zero-shot confusion"
        picture = count_matrix(
            counts, self.names, title=title, note=note, across="predicted", down="true"
        )
        yield Picture("confusion", picture, f"Rows: true class; columns: predicted. {note}.")
