"""Sizes of a network, read off the names and shapes of its weights, and compared with its config
before anything is built: to trace a network of a billion layers takes a day."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from flax.errors import FlaxError

from diffjax.bounded import shortened
from diffjax.interop.fields import DEPTH, LEVELS

Weights = Mapping[str, np.ndarray]
# Stable Diffusion has 16, the deepest ResNet of CLIP's 60.
_MOST_BLOCKS = 1_000
# Anything else about a network that cannot be built from what its files say.
_ODD = (ArithmeticError, LookupError, TypeError, AttributeError, FlaxError)


@contextmanager
def blamed_on(file: Path) -> Iterator[None]:
    """Puts the name of the file before the error of what was read from it.

    Raises:
      ValueError: one line, whatever went wrong.
    """
    try:
        yield
    except ValueError as error:
        said = str(error)
        named = said.startswith(f"{file.parent}/")
        raise ValueError(said if named else f"{file}: {said}") from error
    except _ODD as error:
        said = shortened(str(error).split("\n")[0], 200)
        raise ValueError(
            f"{file}: what it holds makes no network ({type(error).__name__}: {said})"
        ) from error


def axes_of(weights: Weights, key: str, count: int) -> tuple[int, ...]:
    """The shape of a tensor, which has `count` axes of at least one element each.

    Raises:
      ValueError: it is missing, or of another shape.
    """
    if key not in weights:
        raise ValueError(f"the weights lack {key!r}: is the file whole?")
    shape = weights[key].shape
    if len(shape) != count or 0 in shape:
        raise ValueError(f"{key!r} is {shape}, but must have {count} axes")
    return shape


def count_of(keys: Iterable[str], prefix: str) -> int:
    """The count of the numbers that follow `prefix` in the keys: blocks of a tower, levels, ...

    Raises:
      ValueError: more than any network has.
    """
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
    found = len({m[1] for m in map(pattern.match, keys) if m})
    if found and not DEPTH.fits(found):
        raise ValueError(f"it has {found} of {prefix}: {DEPTH.said} is what a network can have")
    return found


def check_sizes(file: Path, sizes: Mapping[str, tuple[Any, Any]]) -> None:
    """Refuses weights of other sizes than a config says.

    Args:
      file: the config.
      sizes: its key -> (what it says, what the weights have).

    Raises:
      ValueError: the first that differs.
    """
    for key, (said, found) in sizes.items():
        if said != found:
            raise ValueError(
                f"{file}: {key}={shortened(said)}, but the weights beside it have "
                f"{shortened(found)}: shapes differ, or tensors are missing"
            )


def check_buildable(section: Mapping[str, Any]) -> None:
    """Refuses a `model` section, read off a file, of a network that would take minutes to trace.

    Raises:
      ValueError: more blocks than `_MOST_BLOCKS`.
    """
    levels = len(section.get("channel_mult", (1,)))
    inside = section.get("blocks", 1) * (1 + section.get("transformer_depth", 0))
    towers = [one for one in section.values() if isinstance(one, Mapping)]
    blocks = max(levels * inside, section.get("depth", 1), sum(section.get("layers", ())))
    if blocks > _MOST_BLOCKS:
        raise ValueError(f"a network of {blocks} blocks is more than anyone has released")
    for tower in towers:
        check_buildable(tower)


def check_stack(section: Mapping[str, Any], weights: Weights, prefix: str, file: Path) -> None:
    """Compares the levels of a U-Net or an autoencoder of diffusers' with its weights.

    Args:
      section: of our network: `channels`, `channel_mult`, `blocks`.
      weights: theirs, in today's names.
      prefix: of the names of the way down.
      file: the config that the section is from.

    Raises:
      ValueError: they are of another network.
    """
    down = f"{prefix}down_blocks"
    levels = count_of(weights, down)
    if levels > LEVELS:
        raise ValueError(f"it has {levels} levels: a network can have {LEVELS}")
    first = f"{down}.{{}}.resnets.0.conv1.weight"
    widths = [section["channels"] * m for m in section["channel_mult"]]
    check_sizes(
        file,
        {
            "block_out_channels": (
                widths,
                [axes_of(weights, first.format(i), 4)[0] for i in range(levels)],
            ),
            "layers_per_block": (section["blocks"], count_of(weights, f"{down}.0.resnets")),
        },
    )
