"""One network of a released model: its config section, its variables, and what else is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from diffjax.bounded import shortened
from diffjax.interop.files import read_json
from diffjax.interop.sizes import check_buildable
from diffjax.interop.tables import Row, to_ours, to_theirs
from diffjax.models import build_model

# How a network is computed and drawn, not what it computes: no released file says it.
_OURS_ALONE = {"parent", "name", "dtype", "remat", "init_style", "dropout"}


class Part(NamedTuple):
    """A network with its weights.

    Attributes:
      section: for `build_model(**section)`.
      variables: `{"params": ...}`, numpy arrays in float32.
      facts: what the released files say and the network's mathematics does not need; written back
        by the savers, which say what they look for.
    """

    section: dict[str, Any]
    variables: dict[str, Any]
    facts: dict[str, Any] = {}  # noqa: RUF012  (NamedTuple: never altered)


def parameter_shapes(
    section: Mapping[str, Any], *inputs: Any, static: Mapping[str, Any] | None = None, **named: Any
) -> dict[str, Any]:
    """Path -> shape and dtype of the section's parameters.

    `inputs` and `named` are those of `init`, as shapes, `static` those that are no arrays.
    """
    check_buildable(section)
    return shapes_of(build_model(**section), *inputs, static=static, **named)


def shapes_of(
    model: nn.Module, *inputs: Any, static: Mapping[str, Any] | None = None, **named: Any
) -> dict[str, Any]:
    """`parameter_shapes` of a network."""
    keywords = (tuple(sorted(named.items())), tuple(sorted((static or {}).items())))
    return dict(_shapes_of(model, inputs, *keywords))


@lru_cache(maxsize=8)
def _shapes_of(
    model: nn.Module, inputs: tuple, named: tuple[tuple[str, Any], ...], static: tuple
) -> dict[str, Any]:
    """Traced once: it takes a second."""

    def init(inputs: tuple, named: dict[str, Any]) -> Any:
        return model.init(jax.random.key(0), *inputs, **named, **dict(static))["params"]

    return flatten_dict(jax.eval_shape(init, inputs, dict(named)), sep="/")


def spec(*shape: int, dtype: str = "float32") -> jax.ShapeDtypeStruct:
    """The shape of an input."""
    return jax.ShapeDtypeStruct(shape, dtype)


def fill(
    section: dict[str, Any],
    facts: dict[str, Any],
    weights: Mapping[str, np.ndarray],
    shapes: Mapping[str, Any],
    table: Sequence[Row],
) -> Part:
    """The part whose parameters, of `shapes`, are the `weights` by the `table`.

    Raises:
      ValueError: see `to_ours`.
    """
    filled = to_ours(weights, shapes, table, "the file's")
    return Part(section, {"params": unflatten_dict(filled, sep="/")}, facts)


def flat_params(part: Part) -> dict[str, np.ndarray]:
    """Path -> array of a part's parameters."""
    params = flatten_dict(dict(part.variables["params"]), sep="/")
    return {path: np.asarray(value) for path, value in params.items()}


def emptied(
    params: Mapping[str, np.ndarray], shapes: Mapping[str, Any], table: Sequence[Row]
) -> dict[str, np.ndarray]:
    """Their state dict of our parameters, whose shapes must be the section's network's.

    Raises:
      ValueError: parameters that are not the network's own.
    """
    for path, value in params.items():
        if path in shapes and shapes[path].shape != value.shape:
            raise ValueError(
                f"{path} is {value.shape}, but the section's network has {shapes[path].shape}"
            )
    return to_theirs(params, table)


def read_config(file: Path, classes: Collection[str]) -> dict[str, Any]:
    """A config.json of diffusers', of one of its `classes`.

    Raises:
      ValueError: it is missing, or another class's.
    """
    if not file.is_file():
        raise ValueError(f"{file} is missing, which says what the network is")
    config = read_json(file)
    found = config.get("_class_name")
    if not isinstance(found, str) or found not in classes:
        raise ValueError(
            f"{file} is of a {shortened(found)}, not of a {' or '.join(sorted(classes))}"
        )
    return config


def read_transformers(folder: Path, kind: str) -> dict[str, Any]:
    """The config.json of a folder of transformers', of the model type `kind`.

    Raises:
      ValueError: it is missing, or another model's.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(f"{file} is missing, which says what the network is")
    config = read_json(file)
    if config.get("model_type") != kind:
        raise ValueError(
            f"{file} is of a {shortened(config.get('model_type'))} model, not of a {kind!r}"
        )
    return config


def check_index(
    file: Path,
    index: Mapping[str, Any],
    pipelines: Collection[str],
    parts: Mapping[str, tuple[str, Collection[str]]],
    unused: Collection[str],
    what: str,
) -> None:
    """Refuses a model_index.json that is not of one of the `pipelines`.

    Args:
      file, index: its path and content.
      pipelines: the classes that it may be of.
      parts: part -> its library, and the classes of it that we have.
      unused: parts that are not read.
      what: the errors' name for a model of these parts.

    Raises:
      ValueError: another pipeline, a part of another class, or a part too many.
    """
    kind = index.get("_class_name")
    if not isinstance(kind, str) or kind not in pipelines:
        raise ValueError(
            f"{file} is of a {shortened(kind)}, which is no {what} ({', '.join(pipelines)})"
        )
    for name, (_, classes) in parts.items():
        said = index.get(name)
        if not isinstance(said, list) or len(said) != 2 or said[1] not in classes:
            raise ValueError(
                f"{file}: {name} is {shortened(said)}, but must be a {' or '.join(classes)}"
            )
    for name, said in index.items():
        known = name.startswith("_") or name in parts or name in unused
        if not known and isinstance(said, list) and any(said):
            raise ValueError(f"{file}: {name}={shortened(said)} is no part of a {what}")


def check_plain(
    config: Mapping[str, Any], file: Path, read: Collection[str], plain: Mapping[str, tuple]
) -> None:
    """Refuses what a config says beyond the keys that are `read`.

    `plain` gives the values that change nothing; of a key it lacks these are None and False.

    Raises:
      ValueError: another value, one line.
    """
    for key, value in config.items():
        if key.startswith("_") or key in read:
            continue
        allowed = plain.get(key, (None, False))
        said = value if isinstance(value, list) and value else [value]
        if any(one not in allowed for one in said):
            raise ValueError(f"{file}: {key}={shortened(value)} is not supported")


def check_same_network(section: Mapping[str, Any], again: Mapping[str, Any], where: str) -> None:
    """Refuses a section that reads back as another network's: the format has no place for it.

    Raises:
      ValueError: the first attribute that would be lost.
    """
    built: Any = build_model(**section)
    read: Any = build_model(**again)
    for field in dataclasses.fields(built):
        a, b = getattr(built, field.name), getattr(read, field.name)
        if field.name not in _OURS_ALONE and a != b:
            raise ValueError(
                f"{where} has no place for {field.name}={a!r}: it would read {b!r} back"
            )


def multiples(widths: Sequence[int], file: Path) -> tuple[int, ...]:
    """`channel_mult` of block_out_channels."""
    if not widths or not widths[0] or any(w % widths[0] for w in widths):
        raise ValueError(
            f"{file}: block_out_channels={shortened(widths)} are no multiples of the first"
        )
    return tuple(w // widths[0] for w in widths)
