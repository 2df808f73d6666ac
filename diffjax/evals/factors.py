"""What embeddings know of a scene's factors: arithmetic, and questions turned into captions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from diffjax.choices import unknown
from diffjax.evals.base import Picture, Scalar
from diffjax.evals.context import EvalContext
from diffjax.evals.embeddings import Towers, article, check_templates, unit
from diffjax.evals.protocol import fingerprint, protocol
from diffjax.metrics.classification import share
from diffjax.tasks.base import Variables


def _words(context: EvalContext, factor: str, what: str) -> tuple[str, ...]:
    if factor not in context.factors:
        raise unknown(f"{what}: factor", factor, context.factors)
    return tuple(context.factors[factor])


def _first(values: np.ndarray) -> np.ndarray:
    """A factor of the first object, `[N]`, from `[N]` or one column per object `[N, objects]`."""
    values = np.asarray(values)
    return values if values.ndim == 1 else values[:, 0]


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
    where: Mapping[str, int] = field(default_factory=dict)
    pairs: int = 300
    batch_size: int = 256

    def __post_init__(self) -> None:
        for factor in self.factors:
            _words(self.context, factor, "arithmetic")
        check_templates(tuple(self.factors.values()), "arithmetic")
        self.context.chosen(self.split, self.where)
        assert self.towers

    @cached_property
    def towers(self) -> Towers:
        return Towers(self.context, self.batch_size)

    def run(self, variables: Variables) -> Iterator[Scalar | Picture]:
        """Scalars "word", "factor", and "word_<factor>" for each."""
        arrays = self.context.chosen(self.split, self.where)
        values = {f: _first(arrays[f]) for f in self.factors}
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
            yield Scalar(f"word_{factor}", got.value, got.std, how)
            named.append(right)
            placed.append(owners[best] == factor)
        for name, hits in (("word", named), ("factor", placed)):
            got = share(np.concatenate(hits))
            yield Scalar(name, got.value, got.std, how)

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
    others = np.stack([v for f, v in values.items() if f != factor], axis=1)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(others))
    a, b = np.triu_indices(min(len(order), 800), k=1)
    a, b = order[a], order[b]
    fits = (others[a] == others[b]).all(axis=1) & (values[factor][a] != values[factor][b])
    a, b = a[fits], b[fits]
    if not len(a):
        raise ValueError(f"arithmetic: no two examples differ in {factor!r} alone")
    kept = rng.permutation(len(a))[:count]
    return a[kept], b[kept]


@dataclass(frozen=True, eq=False)
class Questions:
    """Zero-shot question answering: question and candidate answers become captions, and the one
    nearest to the image answers.

    Attributes:
      questions: name -> dict(factor=..., caption=..., where={...}): `caption` holds `{answer}`, and
        may say what is known: `{colour[0]}`, `{shape[1]}`, ... are the words of the example's own
        factors. `where` chooses the examples it is asked of.
    """

    context: EvalContext
    questions: Mapping[str, Mapping[str, object]]
    split: str = "test"
    limit: int = 500
    batch_size: int = 256

    def __post_init__(self) -> None:
        for name, question in self.questions.items():
            what = f"questions.{name}"
            for key in question:
                if key not in ("factor", "caption", "where"):
                    raise unknown(f"key of {what}:", key, ("factor", "caption", "where"))
            for key in ("factor", "caption"):
                if key not in question:
                    raise ValueError(f"{what} needs {key!r}")
            _words(self.context, str(question["factor"]), what)
            if "{answer}" not in str(question["caption"]):
                raise ValueError(f"{what}: caption {question['caption']!r} holds no {{answer}}")
            self.context.chosen(self.split, question.get("where", {}))  # type: ignore[arg-type]
        assert self.towers

    @cached_property
    def towers(self) -> Towers:
        return Towers(self.context, self.batch_size)

    def run(self, variables: Variables) -> Iterator[Scalar | Picture]:
        """One scalar per question: the share answered right."""
        for name, question in self.questions.items():
            where: Mapping[str, int] = question.get("where", {})  # type: ignore[assignment]
            arrays = self.context.chosen(self.split, where)
            arrays = {k: v[: self.limit] for k, v in arrays.items()}
            factor, caption = str(question["factor"]), str(question["caption"])
            answers = _words(self.context, factor, f"questions.{name}")
            texts = [
                article(caption.format(answer=answer, **known))
                for known in self._known(arrays)
                for answer in answers
            ]
            text = self.towers.texts(variables, texts).reshape(
                len(arrays["image"]), len(answers), -1
            )
            image = self.towers.images(variables, arrays["image"])
            scores = np.einsum("nd,nad->na", image, text)
            got = share(scores.argmax(axis=1) == _first(arrays[factor]))
            how = protocol(
                split=self.split,
                where=where,
                caption=caption,
                answers=answers,
                data=fingerprint({"image": arrays["image"]}),
                num_images=got.count,
            )
            yield Scalar(name, got.value, got.std, how)

    def _known(self, arrays: Mapping[str, np.ndarray]) -> Iterator[dict[str, list[str]]]:
        for i in range(len(arrays["image"])):
            yield {
                factor: [words[v] if v >= 0 else "" for v in np.atleast_1d(arrays[factor][i])]
                for factor, words in self.context.factors.items()
                if factor in arrays
            }
