"""Runs that begin from given weights: towers, trained or frozen, averages, statistics, places."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import make_run

from diffjax.task import Variables
from diffjax.train.ema import EMA
from diffjax.train.init_from import InitFrom
from diffjax.train.run import build_state
from diffjax.train.sharding import make_mesh


class TwoTowers:
    """An image tower with statistics that is frozen or not, a text tower, and a scale."""

    def __init__(self, locked=()):
        self.locked = locked

    def init(self, key, batch_spec):
        del batch_spec
        a, b = jax.random.split(key)
        params = {
            "image": {"dense": {"kernel": jax.random.normal(a, (128, 256))}},
            "text": {"dense": {"kernel": jax.random.normal(b, (4, 5))}},
            "scale": jnp.float32(1.0),
        }
        frozen = {name: params.pop(name) for name in self.locked}
        return Variables(params, {"batch_stats": {"image": {"mean": jnp.zeros(3)}}}, frozen)

    def predict_fns(self):
        return {}


def given():
    rng = np.random.default_rng(0)
    return {
        "params": {
            "image": {"dense": {"kernel": rng.normal(size=(128, 256))}},
            "text": {"dense": {"kernel": rng.normal(size=(4, 5))}},
            "scale": np.float32(3.0),
        },
        "batch_stats": {"image": {"mean": np.arange(3.0)}},
    }


def built(tmp_path, init_from, locked=(), replaced=False, mesh=None):
    run = make_run(tmp_path, TwoTowers(locked), emas={"slow": EMA(50)}, mesh=mesh)
    with jax.set_mesh(run.mesh):
        return build_state(dataclasses.replace(run, init_from=init_from), replaced)


def same(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, np.asarray(y, np.float32)), a, b)


@pytest.mark.parametrize("locked", [(), ("image",)])
def test_all_of_the_network_begins_from_the_given_weights(tmp_path, locked):
    state, frozen, _ = built(tmp_path, InitFrom(given, "there"), locked)
    same({**state.params, **frozen}, given()["params"])
    same(state.ema["slow"], state.params)
    same(state.model_state["batch_stats"], given()["batch_stats"])
    assert set(frozen) == set(locked)


@pytest.mark.parametrize("locked", [(), ("image",)])
def test_the_other_towers_are_drawn_as_without_a_start(tmp_path, locked):
    fresh, _, _ = built(tmp_path, None, locked)
    state, frozen, _ = built(tmp_path, InitFrom(given, "there", ("image",)), locked)
    same({**state.params, **frozen}["image"], given()["params"]["image"])
    same(state.params["text"], fresh.params["text"])
    assert float(state.params["scale"]) == 1.0
    same(state.opt_state, fresh.opt_state)


def test_averages_are_copies_that_the_step_may_give_away(tmp_path):
    state, _, _ = built(tmp_path, InitFrom(given, "there"))
    jax.tree.leaves(state.params)[0].delete()
    assert np.isfinite(jax.tree.leaves(state.ema)[0]).all()


def test_the_weights_lie_as_fresh_ones_do(tmp_path):
    mesh = make_mesh(data=1, fsdp=-1)
    fresh, cold, _ = built(tmp_path, None, ("image",), mesh=mesh)
    state, frozen, _ = built(tmp_path, InitFrom(given, "there"), ("image",), mesh=mesh)
    places = lambda tree: jax.tree.map(lambda x: x.sharding, tree)  # noqa: E731
    assert places((fresh, cold)) == places((state, frozen))


def test_a_state_that_is_replaced_needs_the_weights_for_frozen_towers_alone(tmp_path):
    def gone():
        raise ValueError("gone")

    built(tmp_path, InitFrom(gone, "there"), replaced=True)
    with pytest.raises(ValueError, match="gone"):
        built(tmp_path, InitFrom(gone, "there"), ("image",), replaced=True)


def without(path):
    tree = given()
    *parents, leaf = path
    at = tree
    for key in parents:
        at = at[key]
    del at[leaf]
    return tree


def with_leaf(path, value):
    tree = given()
    *parents, leaf = path
    at = tree
    for key in parents:
        at = at[key]
    at[leaf] = value
    return tree


KERNEL = ("params", "text", "dense", "kernel")


@pytest.mark.parametrize(
    ("tree", "only", "says"),
    [
        (given(), ("imge",), "did you mean 'image'"),
        (without(("params", "text")), (), "there has no params/text; it has image, scale"),
        (without(("params", "text")), ("text",), "there has no params/text"),
        (without(("batch_stats",)), ("image",), "there has no batch_stats/image"),
        (without(KERNEL), ("text",), "there lacks params/text/dense/kernel: the networks differ"),
        (
            with_leaf((*KERNEL[:-1], "bias"), np.zeros(5)),
            (),
            "network lacks params/text/dense/bias",
        ),
        (with_leaf(KERNEL, np.zeros((4, 6))), (), r"\(4, 6\) in there, \(4, 5\) in this run"),
        (with_leaf(("params", "bias"), np.zeros(())), (), "init_from .there.: 'bias'"),
    ],
)
def test_every_leaf_is_accounted_for(tmp_path, tree, only, says):
    with pytest.raises(ValueError, match=says) as error:
        built(tmp_path, InitFrom(lambda: tree, "there", only))
    assert "\n" not in str(error.value)
