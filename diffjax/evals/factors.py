"""Factors of a scene in embeddings: arithmetic, and questions turned into captions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from diffjax.choices import check, unknown
from diffjax.evals import trial
from diffjax.evals.base import Picture
from diffjax.evals.context import EvalContext
from diffjax.evals.embeddings import Towers, article, check_templates, sample_rows, unit
from diffjax.fingerprints import fingerprint
from diffjax.metrics.classification import share
from diffjax.ranges import Amount, Integer, MaybeAmount
from diffjax.results import Result, protocol
from diffjax.task import Variables


def _words(context: EvalContext, factor: str, what: str) -> tuple[str, ...]:
    if factor not in context.factors:
        raise unknown(f"{what}: factor", factor, context.factors)
    return tuple(context.factors[factor])


def _values(arrays: Mapping[str, np.ndarray], factor: str, what: str) -> np.ndarray:
    """A factor of the first object, `[N]`, stored as `[N]` or per object as `[N, objects]`."""
    if factor not in arrays:
        raise unknown(f"{what}: factor of these data", factor, arrays)
    values = np.asarray(arrays[factor])
    values = values if values.ndim == 1 else values[:, 0]
    if values.min() < 0:
        raise ValueError(f"{what}: some examples have no {factor!r}; choose others with `where`")
    return values


@dataclass(frozen=True, eq=False)
class Arithmetic:
    """The difference of two image embeddings that differ in one factor, named by words.

    A word's direction is its prompt's embedding minus the mean of those of its factor. The pair
    (a, b) is named right where, among the words of all factors, the best along e(a) - e(b) is a's
    own value of the factor that differs (`word`), or any word of that factor (`factor`).

    Attributes:
      factors: factor -> prompt with one `{}` for the word.
      pairs: pairs of images per factor.
    """

    context: EvalContext
    factors: Mapping[str, str]
    split: str = "test"
    where: Mapping[str, Integer] = field(default_factory=dict)
    pairs: Amount = 300
    batch_size: Amount = 256

    def __post_init__(self) -> None:
        check_templates(tuple(self.factors.values()), "arithmetic")
        for factor in self.factors:
            _words(self.context, factor, "arithmetic")
        for factor in self.factors:
            _pairs(self._known(), factor, self.pairs)
        assert self.towers

    def _known(self) -> dict[str, np.ndarray]:
        """Every factor of the chosen examples."""
        arrays = self.context.chosen(self.split, self.where)
        return {factor: _values(arrays, factor, "arithmetic") for factor in self.factors}

    @cached_property
    def towers(self) -> Towers:
        return Towers(self.context, self.batch_size)

    def trial(self, variables: Variables) -> None:
        """See `Evaluator.trial`."""
        image = self.context.chosen(self.split, self.where)["image"]
        prompts = [
            article(prompt.format(word))
            for factor, prompt in self.factors.items()
            for word in _words(self.context, factor, "arithmetic")
        ]
        tokens = trial.texts(self.context, prompts)
        trial.towers(self.context, variables, image, tokens, self.batch_size)

    def run(self, variables: Variables) -> Iterator[Result | Picture]:
        """Results "word", "factor", and "word_<factor>" for each."""
        arrays = self.context.chosen(self.split, self.where)
        values = self._known()
        image = self.towers.images(variables, arrays["image"])
        directions, owners, words = self._directions(variables)
        how = protocol(
            split=self.split,
            where=self.where,
            prompts=dict(self.factors),
            pairs=self.pairs,
            data=fingerprint({"image": arrays["image"]}),
        )
        named, placed = [], []
        for factor in self.factors:
            a, b = _pairs(values, factor, self.pairs)
            best = (unit(image[a] - image[b]) @ directions.T).argmax(axis=1)
            right = (owners[best] == factor) & (words[best] == values[factor][a])
            got = share(right)
            yield Result(f"word_{factor}", got.value, got.std, how)
            named.append(right)
            placed.append(owners[best] == factor)
        for name, hits in (("word", named), ("factor", placed)):
            got = share(np.concatenate(hits))
            yield Result(name, got.value, got.std, how)

    def _directions(self, variables: Variables) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Unit directions `[W, E]` of all words, the factor of each, and its number there."""
        rows, owners, numbers = [], [], []
        for factor, prompt in self.factors.items():
            words = _words(self.context, factor, "arithmetic")
            text = self.towers.texts(variables, [article(prompt.format(w)) for w in words])
            rows.append(unit(text - text.mean(axis=0)))
            owners += [factor] * len(words)
            numbers += range(len(words))
        return np.concatenate(rows), np.array(owners), np.array(numbers)


def _pairs(
    values: Mapping[str, np.ndarray], factor: str, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Up to `count` pairs of rows that differ in `factor` and agree in the others."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(values[factor]))
    a, b = np.triu_indices(min(len(order), 800), k=1)
    a, b = order[a], order[b]
    fits = values[factor][a] != values[factor][b]
    for other in values.keys() - {factor}:
        fits &= values[other][a] == values[other][b]
    a, b = a[fits], b[fits]
    if not len(a):
        raise ValueError(f"arithmetic: no two examples differ in {factor!r} alone")
    kept = rng.permutation(len(a))[:count]
    return a[kept], b[kept]


@dataclass(frozen=True)
class Question:
    """An entry of `Questions.questions`, see there."""

    factor: str
    caption: str
    where: Mapping[str, Integer] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Questions:
    """Zero-shot question answering: question and candidate answers become captions, and the one
    nearest to the image answers.

    Attributes:
      questions: name -> dict(factor=..., caption=..., where={...}): `caption` holds `{answer}`, and
        may say what is known: `{colour[0]}`, `{shape[1]}`, ... are the words of the example's own
        factors. `where` chooses the examples it is asked of.
      limit: examples that a question is asked of, drawn; 0 for all.
    """

    context: EvalContext
    questions: Mapping[str, Mapping[str, object]]
    split: str = "test"
    limit: MaybeAmount = 500
    batch_size: Amount = 256

    def __post_init__(self) -> None:
        for name, question in self.questions.items():
            what = f"questions.{name}"
            check(Question, what, question)
            _words(self.context, str(question["factor"]), what)
            if "{answer}" not in str(question["caption"]):
                raise ValueError(f"{what}: caption {question['caption']!r} holds no {{answer}}")
            _values(self._examples(question), str(question["factor"]), what)
            self._captions(name)
        assert self.towers

    @cached_property
    def towers(self) -> Towers:
        return Towers(self.context, self.batch_size)

    def trial(self, variables: Variables) -> None:
        """See `Evaluator.trial`."""
        for name, question in self.questions.items():
            image = self._examples(question)["image"]
            tokens = trial.texts(self.context, self._captions(name))
            trial.towers(self.context, variables, image, tokens, self.batch_size)

    def run(self, variables: Variables) -> Iterator[Result | Picture]:
        """One scalar per question: the share answered right."""
        for name, question in self.questions.items():
            what, factor = f"questions.{name}", str(question["factor"])
            arrays, answers = self._examples(question), _words(self.context, factor, what)
            text = self.towers.texts(variables, self._captions(name))
            text = text.reshape(len(arrays["image"]), len(answers), -1)
            image = self.towers.images(variables, arrays["image"])
            scores = np.einsum("nd,nad->na", image, text)
            got = share(scores.argmax(axis=1) == _values(arrays, factor, what))
            how = protocol(
                split=self.split,
                where=question.get("where", {}),
                caption=question["caption"],
                answers=answers,
                data=fingerprint({"image": arrays["image"]}),
                num_images=got.count,
            )
            yield Result(name, got.value, got.std, how)

    def _examples(self, question: Mapping[str, object]) -> dict[str, np.ndarray]:
        """The examples that a question is asked of."""
        where: Mapping[str, int] = question.get("where", {})  # type: ignore[assignment]
        arrays = self.context.chosen(self.split, where)
        keep = sample_rows(len(arrays["image"]), self.limit)
        return {k: v[keep] for k, v in arrays.items()}

    def _captions(self, name: str) -> list[str]:
        """Every answer's caption of every example, the answers innermost."""
        question = self.questions[name]
        arrays, caption = self._examples(question), str(question["caption"])
        answers = _words(self.context, str(question["factor"]), f"questions.{name}")
        factors = {f: words for f, words in self.context.factors.items() if f in arrays}
        texts = []
        for i in range(len(arrays["image"])):
            known = {
                factor: [words[v] for v in np.atleast_1d(arrays[factor][i]) if v >= 0]
                for factor, words in factors.items()
            }
            try:
                texts += [article(caption.format(answer=answer, **known)) for answer in answers]
            except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"questions.{name}: caption {caption!r} does not fit example {i} "
                    f"({type(error).__name__}: {error}); it may hold {{answer}} and what `where` "
                    f"leaves of {', '.join(f'{{{f}[0]}}' for f in factors)}"
                ) from None
        return texts
