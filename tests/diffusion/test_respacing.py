"""`linspace` on a table is OpenAI's `space_timesteps`, written here from its definition."""

from __future__ import annotations

import numpy as np
import pytest

from diffjax.diffusion.grids import visited
from diffjax.diffusion.schedules import VPSDE, Linear


def space_timesteps(size: int, count: int) -> list[int]:
    """Nichol & Dhariwal 2021's code, one section: a float stride is added up and rounded."""
    stride = 1 if count <= 1 else (size - 1) / (count - 1)
    at, taken = 0.0, []
    for _ in range(count):
        taken.append(round(at))
        at += stride
    return sorted(set(taken), reverse=True)


# 21, 31 and 250 do not divide 1,000; at 21 and 31 the middle lies half way between two levels.
@pytest.mark.parametrize(
    ("size", "count"),
    [
        *(
            (1000, n)
            for n in (1, 2, 3, 7, 10, 21, 25, 27, 31, 50, 77, 100, 250, 333, 667, 999, 1000)
        ),
        *((4000, n) for n in (25, 31, 35, 41, 50, 100, 200, 250, 1000, 4000)),
        *((50, n) for n in (25, 39, 41, 43, 50)),
    ],
)
def test_linspace_on_a_table_is_theirs(size, count):
    assert visited(Linear(steps=size), count, "linspace").t.tolist() == space_timesteps(size, count)


def test_linspace_without_a_table_is_even():
    t = visited(VPSDE(), 7, "linspace").t
    np.testing.assert_allclose(t, np.linspace(1, 1e-3, 7), rtol=1e-12)
