"""Unit embeddings of images and texts by a two-tower task."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from diffjax.evals.batches import map_batches
from diffjax.evals.context import EvalContext
from diffjax.tasks.base import Variables


@dataclass(frozen=True, eq=False)
class Towers:
    """The image and text towers of `context`'s task, batch by batch.

    Raises:
      ValueError: a task without them, or a run without a tokenizer.
    """

    context: EvalContext
    batch_size: int = 256

    def __post_init__(self) -> None:
        self.context.bind("encode_image")
        self.context.bind("encode_text")
        if self.context.tokenize is None:
            raise ValueError("this evaluation reads text: give the config a `tokenizer` section")

    @cached_property
    def _image(self) -> Any:
        return jax.jit(self.context.bind("encode_image")[0])

    @cached_property
    def _text(self) -> Any:
        return jax.jit(self.context.bind("encode_text")[0])

    def images(self, variables: Variables, image: np.ndarray) -> np.ndarray:
        """`image [N, H, W, C] float32 in [-1, 1]` -> unit rows `[N, E] float32`."""
        return self._map(lambda b: self._image(variables, b["image"]), {"image": image})

    def tokens(self, variables: Variables, tokens: np.ndarray) -> np.ndarray:
        """`tokens [N, L] int32` -> unit rows `[N, E] float32`."""
        return self._map(lambda b: self._text(variables, b["tokens"]), {"tokens": tokens})

    def texts(self, variables: Variables, texts: Sequence[str]) -> np.ndarray:
        """Unit rows `[N, E] float32` of `texts`, each different one encoded once."""
        different = list(dict.fromkeys(texts))
        place = {text: i for i, text in enumerate(different)}
        assert self.context.tokenize is not None
        rows = self.tokens(variables, self.context.tokenize(different))
        return rows[[place[text] for text in texts]]

    def classes(
        self, variables: Variables, names: Sequence[str], templates: Sequence[str]
    ) -> np.ndarray:
        """One unit row per name `[K, E]`: the mean over prompt `templates` of unit embeddings,
        made unit again (Radford et al. 2021, section 3.1.4)."""
        prompts = [article(template.format(name)) for name in names for template in templates]
        rows = self.texts(variables, prompts).reshape(len(names), len(templates), -1)
        return unit(rows.mean(axis=1))

    def _map(self, fn: Any, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        size = min(self.batch_size, len(next(iter(arrays.values()))))
        return unit(map_batches(fn, arrays, size, self.context.batch_sharding))


def unit(x: np.ndarray) -> np.ndarray:
    """`x [..., E]` with rows of length one."""
    x = np.asarray(x, np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def article(text: str) -> str:
    """`text` with "an" for "a" before a vowel, as captions have it."""
    return re.sub(r"\b([aA])(?= [aeiouAEIOU])", r"\1n", text)


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
    """`templates`, at least one, each with one `{}`."""
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"{what}: template {template!r} must hold one {{}}")
    if not templates:
        raise ValueError(f"{what}: no prompt templates")
    return tuple(templates)
