"""Embeddings of images and texts by a task's predict functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from diffjax.batches import map_batches
from diffjax.evals.context import EvalContext
from diffjax.task import Variables


def features(
    context: EvalContext, pred: str, batch_size: int
) -> Callable[[Variables, np.ndarray], np.ndarray]:
    """`(variables, image [N, H, W, C]) -> [N, E]`, the predict function `pred` over batches.

    Raises:
      ValueError: no such predict function.
    """
    fn = context.compiled(pred)

    def rows(variables: Variables, image: np.ndarray) -> np.ndarray:
        size = min(batch_size, len(image))
        sharding = context.batch_sharding
        return map_batches(lambda b: fn(variables, b["image"]), {"image": image}, size, sharding)

    return rows


@dataclass(frozen=True, eq=False)
class Towers:
    """The image and text towers of `context`'s task, batch by batch.

    Raises:
      ValueError: a task without them, or a run without a tokenizer.
    """

    context: EvalContext
    batch_size: int = 256

    def __post_init__(self) -> None:
        assert self._image and self._text
        if self.context.tokenize is None:
            raise ValueError("this evaluation reads text: give the config a `tokenizer` section")

    @cached_property
    def _image(self) -> Any:
        return features(self.context, "encode_image", self.batch_size)

    @cached_property
    def _text(self) -> Any:
        return self.context.compiled("encode_text")

    def images(self, variables: Variables, image: np.ndarray) -> np.ndarray:
        """`image [N, H, W, C] float32 in [-1, 1]` -> unit rows `[N, E] float32`."""
        return unit(self._image(variables, image))

    def tokens(self, variables: Variables, tokens: np.ndarray) -> np.ndarray:
        """`tokens [N, L] int32` -> unit rows `[N, E] float32`."""
        size, sharding = min(self.batch_size, len(tokens)), self.context.batch_sharding
        rows = map_batches(
            lambda b: self._text(variables, b["tokens"]), {"tokens": tokens}, size, sharding
        )
        return unit(rows)

    def texts(self, variables: Variables, texts: Sequence[str]) -> np.ndarray:
        """Unit rows `[N, E] float32` of `texts`, each different one encoded once."""
        different = list(dict.fromkeys(texts))
        place = {text: i for i, text in enumerate(different)}
        assert self.context.tokenize is not None
        rows = self.tokens(variables, self.context.tokenize(different))
        return rows[[place[text] for text in texts]]

    def classes(self, variables: Variables, prompts: Sequence[Sequence[str]]) -> np.ndarray:
        """One unit row per class `[K, E]`: the mean of the unit embeddings of its `prompts`, made
        unit again (Radford et al. 2021, section 3.1.4). All classes have equally many."""
        rows = self.texts(variables, [prompt for each in prompts for prompt in each])
        return unit(rows.reshape(len(prompts), -1, rows.shape[-1]).mean(axis=1))


def unit(x: np.ndarray) -> np.ndarray:
    """`x [..., E]` with rows of length one."""
    x = np.asarray(x, np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def article(text: str) -> str:
    """`text` with "an" for "a" before a vowel, as captions have it."""
    return re.sub(r"\b([aA])(?= [aeiouAEIOU])", r"\1n", text)


def check_labels(context: EvalContext, split: str, where: Mapping[str, int], what: str) -> None:
    """Raises ValueError unless the examples of `split` with `where` have labels."""
    if "label" not in context.chosen(split, where):
        raise ValueError(f"{what}: the data of split {split!r} have no labels")


def sample_rows(count: int, limit: int) -> np.ndarray:
    """`limit` of `count` rows (0: all) in their order, drawn: data may lie sorted by class."""
    if not 0 < limit < count:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).permutation(count)[:limit])


def check_names(names: Sequence[str], what: str) -> tuple[str, ...]:
    """`names`, at least one, none empty, none twice: a class that stands twice shares its images
    with itself and halves the accuracy in silence."""
    names = tuple(names)
    if not names:
        raise ValueError(f"{what}: no class names")
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(f"{what}: {', '.join(map(repr, twice))} stands more than once")
    if not all(n.strip() for n in names):
        raise ValueError(
            f"{what}: name {names.index(next(n for n in names if not n.strip()))} is empty"
        )
    return names


def check_templates(templates: Sequence[str], what: str) -> tuple[str, ...]:
    """`templates`, at least one, each with one `{}` and no other brace."""
    for template in templates:
        if template.count("{}") != 1 or set("{}") & set(template.replace("{}", "")):
            raise ValueError(f"{what}: template {template!r} must hold one {{}}")
    if not templates:
        raise ValueError(f"{what}: no prompt templates")
    return tuple(templates)
