"""Drawing samples: class-balanced, in fixed batches, kept in a file and read back."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffjax.batches import map_batches
from diffjax.keys import seed_words


def balanced_labels(count: int, classes: int) -> np.ndarray:
    """`label [count] int32`, sample n of class n mod `classes`: a longer draw starts the same."""
    return (np.arange(count) % classes).astype(np.int32)


def draw(
    sampler: Callable[..., Any],
    variables: Any,
    seed: int,
    cond: np.ndarray | Mapping[str, np.ndarray],
    batch_size: int,
    sharding: jax.sharding.Sharding | None = None,
    start: int = 0,
    index: np.ndarray | None = None,
) -> np.ndarray:
    """Samples of `seed` by `cond`: classes `label [N]`, or a mapping of fields `[N, ...]`.

    Args:
      start: number of the first sample; the others follow.
      index: `[N] int32`, their numbers, in place of `start`.

    Returns:
      `[N, H, W, C] float32 in [-1, 1]`.
    """
    arrays = cond if isinstance(cond, Mapping) else {"label": cond}
    words = np.asarray(seed_words(seed), np.uint32)
    if index is None:
        index = start + np.arange(len(next(iter(arrays.values()))))
    rows = {**arrays, "number": np.asarray(index, np.int32)}

    def one(batch: dict[str, Any]) -> Any:
        wanted = {k: batch[k] for k in arrays} if isinstance(cond, Mapping) else batch["label"]
        return sampler(variables, words, batch["number"], wanted)

    images = map_batches(one, rows, batch_size, sharding)
    bad = int((~np.isfinite(images).reshape(len(images), -1).all(axis=1)).sum())
    if bad:
        raise ValueError(f"{bad} of {len(images)} samples of seed {seed} are not finite")
    return images.astype(np.float32)


def read(path: Path) -> np.ndarray | None:
    """The samples in `path`; None where there is no readable file."""
    try:
        with np.load(path) as arrays:
            return arrays["image"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def write(path: Path, images: np.ndarray, label: np.ndarray) -> None:
    """Write whole or not at all: a temporary file beside `path`, then a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as f:
            np.savez(f, image=images, label=label)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def cached(path: Path | None, label: np.ndarray, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The samples kept in `path`, or `make()` and keep them. None keeps nothing."""
    if path is None:
        return make()
    images = read(path)
    if images is None or len(images) != len(label):
        images = make()
        write(path, images, label)
    return images
