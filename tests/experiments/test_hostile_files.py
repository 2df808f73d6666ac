"""Files that are made to exhaust their reader: one line each, in little memory, and soon."""

import pytest
from hostile.cost import measure
from hostile.files import HOSTILE

from diffjax.bounded import MB

# The promise of docs/security.md.
MEMORY, TIMES = 300 * MB, 4


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_costs_little_and_is_one_line(name, tmp_path):
    cost = measure(name, tmp_path)
    assert cost.error and cost.error.isprintable() and len(cost.error) < 1000
    assert str(tmp_path) in cost.error
    assert cost.peak < MEMORY + TIMES * cost.size
