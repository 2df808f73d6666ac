"""The evaluator protocol: run predict functions over data, yield results and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from diffjax.results import Result
from diffjax.task import Variables


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

    def run(self, variables: Variables) -> Iterator[Result | Picture]: ...
