"""The evaluator protocol: run predict functions over data, yield scalars and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from diffjax.task import Variables


@dataclass(frozen=True)
class Scalar:
    """A measured value, with its error bar and the protocol it was computed under.

    Two scalars of different protocols must never stand in one column unmarked.
    """

    name: str
    value: float
    std: float | None = None
    protocol: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A figure: `image [H, W, 3] uint8`."""

    name: str
    image: np.ndarray
    caption: str = ""


class Evaluator(Protocol):
    """Built from predict functions, data and feature extractors; holds no weights of the model."""

    def trial(self, variables: Variables) -> None:
        """Tries what `run` will do, by shape: `variables` are ShapeDtypeStructs; see `trial`.

        Raises:
          ValueError: `run` would fail.
        """
        ...

    def run(self, variables: Variables) -> Iterator[Scalar | Picture]: ...
