"""Usage of a codebook."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Usage(NamedTuple):
    """Attributes:
    perplexity: of the choices, in [1, codes]: exp of the entropy of their histogram.
    used: codes that were chosen at all.
    """

    perplexity: float
    used: int


def usage(index: np.ndarray) -> Usage:
    """The usage of the choices `index [...] int`, at least one."""
    count = np.bincount(np.asarray(index).reshape(-1))
    share = count[count > 0] / index.size
    return Usage(float(np.exp(-np.sum(share * np.log(share)))), len(share))
