"""Laws of the network of an autoregressive prior: causality, its cache, what it says untrained."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_variables import random_variables

from diffjax.models import build_model
from diffjax.models.conditioning import Conditioning

B, S, K, V, D, E = 2, 4, 5, 7, 6, 3
NETWORK = build_model("prior_ar", components=K, buckets=V, dot_buckets=D, width=16, depth=2,
                      heads=2, context_length=S, vector_dim=E)  # fmt: skip
rng = np.random.default_rng(0)
CODES = rng.integers(0, V, (B, K - 1)).astype(np.int32)
DOTS = np.array([1, D], np.int32)
SEEN = np.array([[True] * S, [True, True, False, False]])
COND = Conditioning(
    vector=rng.standard_normal((B, E)).astype(np.float32),
    context=rng.standard_normal((B, S, 5)).astype(np.float32),
    context_mask=SEEN,
)


@functools.cache
def held():
    return random_variables(NETWORK.init, CODES, DOTS, COND, std=0.3)


@jax.jit
def logits(codes, dots, cond):
    return NETWORK.apply(held(), codes, dots, cond)


def test_logits_of_one_code_more_than_there_are():
    for n in (0, 2, K - 1):
        assert logits(CODES[:, :n], DOTS, COND).shape == (B, n + 1, V)
    for n in (K, K + 1):
        with pytest.raises(ValueError, match=f"n < {K}"):
            NETWORK.apply(held(), np.zeros((B, n), np.int32), DOTS, COND)


@pytest.mark.parametrize("at", range(K - 1))
def test_a_later_code_changes_no_earlier_logit(at):
    whole = logits(CODES, DOTS, COND)
    other = CODES.copy()
    other[:, at] = (other[:, at] + 1) % V
    changed = logits(other, DOTS, COND)
    np.testing.assert_array_equal(changed[:, : at + 1], whole[:, : at + 1])
    assert (np.abs(changed - whole)[:, at + 1 :].max(axis=(0, 2)) > 1e-4).all()


def test_every_input_but_padding_is_heard_by_the_first_code():
    whole = logits(CODES, DOTS, COND)[:, 0]
    turned = COND.context * np.where(SEEN, -1, 1)[..., None]
    for inputs in (
        (DOTS - 1, COND),
        (DOTS, COND._replace(vector=-COND.vector)),
        (DOTS, COND._replace(context=turned)),
    ):
        assert np.abs(logits(CODES, *inputs)[:, 0] - whole).max(axis=1).min() > 1e-4
    padding = COND._replace(context=COND.context + np.where(SEEN, 0, 9)[..., None])
    np.testing.assert_array_equal(logits(CODES, DOTS, padding)[:, 0], whole)


@pytest.mark.parametrize("start", [0, 2])
def test_codes_one_by_one_have_the_logits_that_they_have_together(start):
    """After a prefix that holds `start` codes already."""
    run = jax.jit(functools.partial(NETWORK.apply, cached=True, mutable=["cache"]))
    whole = logits(CODES, DOTS, COND)
    got, state = run(held(), CODES[:, :start], DOTS, COND)
    np.testing.assert_allclose(got, whole[:, : start + 1], atol=1e-5)
    for i in range(start, K - 1):
        got, state = run({**held(), **state}, CODES[:, i : i + 1], DOTS, COND, at=jnp.int32(i))
        np.testing.assert_allclose(got[:, 0], whole[:, i + 1], atol=1e-5)


def test_an_untrained_network_finds_all_codes_equally_probable():
    fresh = jax.jit(NETWORK.init)(jax.random.key(0), CODES, DOTS, COND)
    got = jax.jit(NETWORK.apply)(fresh, CODES, DOTS, COND)
    np.testing.assert_allclose(jax.nn.log_softmax(got), -np.log(V), rtol=1e-6)


def test_conditions_that_do_not_fit_are_named():
    said = {
        r"vector_dim=3, but the conditions give a vector of 0": dict(vector=None),
        r"context_length=4, but the conditions give a context of 2": dict(
            context=COND.context[:, :2], context_mask=None
        ),
        "not by a label": dict(label=np.zeros(B, np.int32)),
    }
    for match, change in said.items():
        with pytest.raises(ValueError, match=match):
            NETWORK.apply(held(), CODES, DOTS, COND._replace(**change))
