"""Evaluations tried by shape: what would fail after training fails before it.

Nothing is computed: predict functions and feature extractors are traced on shapes, as `jax.jit`
would trace them, and an evaluator's own numbers, whose ranges stand beside its fields, are held
against the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from diffjax.evals.context import EvalContext
from diffjax.task import Variables


def shape_of(x: Any) -> jax.ShapeDtypeStruct:
    """The shape of an array, or of a shape."""
    return jax.ShapeDtypeStruct(np.shape(x), x.dtype)


def batch_of(
    context: EvalContext, arrays: Mapping[str, Any], batch_size: int
) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of one batch of `map_batches` over `arrays [N, ...]` (or their shapes).

    Raises:
      ValueError: no rows, a batch of none, or one that does not spread over the devices.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    if not np.shape(next(iter(arrays.values())))[0]:
        raise ValueError("there are no examples to evaluate on; check the split's slice")
    if context.batch_sharding is not None:
        context.batch_sharding.shard_shape((batch_size,))
    rows = {k: jax.ShapeDtypeStruct((batch_size, *np.shape(v)[1:]), v.dtype)
            for k, v in arrays.items()}  # fmt: skip
    index = jax.ShapeDtypeStruct((batch_size,), np.int32)
    return {**rows, "index": index, "mask": jax.ShapeDtypeStruct((batch_size,), bool)}


SEED = jax.ShapeDtypeStruct((), np.uint32)


def drawn(
    context: EvalContext,
    pred: str,
    pred_kw: Mapping[str, Any],
    variables: Variables,
    cond: Any,
    batch_size: int,
) -> jax.ShapeDtypeStruct:
    """The shape `[batch_size, H, W, C]` of a batch of samples by `cond`, see `draw`.

    Raises:
      ValueError: the predict function gives no images.
    """
    arrays = cond if isinstance(cond, Mapping) else {"label": cond}
    batch = batch_of(context, arrays, batch_size)
    wanted = {k: batch[k] for k in arrays} if isinstance(cond, Mapping) else batch["label"]
    got = context.shapes(pred, pred_kw, variables, SEED, batch["index"], wanted)
    return images(got, batch_size, pred)


def images(got: Any, rows: int, what: str) -> jax.ShapeDtypeStruct:
    """`got`, which must be a shape `[rows, H, W, C]`."""
    shapes = [x.shape for x in jax.tree.leaves(got)]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][0] != rows:
        raise ValueError(f"{what} gives {shapes}, not images [{rows}, H, W, C]")
    return jax.tree.leaves(got)[0]


def vectors(got: Any, rows: int, what: str) -> int:
    """The width of `got`, which must be a shape `[rows, D]`."""
    shapes = [x.shape for x in jax.tree.leaves(got)]
    if len(shapes) != 1 or len(shapes[0]) != 2 or shapes[0][0] != rows:
        raise ValueError(f"{what} gives {shapes}, not vectors [{rows}, D]")
    return shapes[0][1]


def same_images(context: EvalContext, image: Any, split: str, what: str = "samples") -> None:
    """Raises ValueError where images `[B, H, W, C]` are not shaped like those of a split."""
    real = context.outline(split)["image"].shape[1:]
    if image.shape[1:] != real:
        raise ValueError(f"{what} are {image.shape[1:]}, but the images of {split!r} are {real}")


def towers(
    context: EvalContext, variables: Variables, image: Any, tokens: Any, batch_size: int
) -> None:
    """Raises ValueError where images and tokens `[N, ...]` do not reach vectors of one width."""
    widths = {}
    for pred, x in (("encode_image", image), ("encode_text", tokens)):
        rows = batch_of(context, {"x": x}, min(batch_size, len(x)))["x"]
        got = context.shapes(pred, {}, variables, rows)
        widths[pred] = vectors(got, rows.shape[0], pred)
    if len({*widths.values()}) > 1:
        raise ValueError(f"images and texts are compared, but their vectors differ: {widths}")


def encoded(
    context: EvalContext, pred: str, variables: Variables, image: Any, batch_size: int
) -> int:
    """The width of the features `[N, D]` that `pred` gives of `image [N, H, W, C]`."""
    rows = batch_of(context, {"image": image}, min(batch_size, len(image)))["image"]
    return vectors(context.shapes(pred, {}, variables, rows), rows.shape[0], pred)


def texts(context: EvalContext, sentences: Sequence[str]) -> np.ndarray:
    """`sentences` as the run reads them, `[N, L] int32`."""
    if context.tokenize is None:
        raise ValueError("this evaluation reads text: give the config a `tokenizer` section")
    return context.tokenize(list(dict.fromkeys(sentences)))
