"""Block edges carry a batch constraint under a mesh, and nothing without one."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType

from diffjax.nn.partition import constrain_batch


def lowered():
    return jax.jit(lambda x: constrain_batch(x) * 2).lower(jnp.ones((8, 4))).as_text()


def constrained(text: str) -> bool:
    return "sharding_constraint" in text or "@Sharding" in text


def test_no_mesh_no_constraint():
    assert not constrained(lowered())


@pytest.mark.parametrize(
    ("axes", "expected"), [(("data", "fsdp", "tensor"), True), (("x",), False)]
)
def test_mesh_with_and_without_the_axes(axes, expected):
    mesh = jax.make_mesh((1,) * len(axes), axes, axis_types=(AxisType.Auto,) * len(axes))
    with jax.set_mesh(mesh):
        assert constrained(lowered()) == expected
