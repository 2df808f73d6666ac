"""Our layers against flax's with the same parameters, forward and gradients, and in bfloat16."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from random_variables import random_variables
from scipy import special

from diffjax.nn.attention import attend
from diffjax.nn.convolution import Conv
from diffjax.nn.linear import Dense
from diffjax.nn.normalisation import BatchNorm, GroupNorm


def rand(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32) + np.float32(0.3)


def same(ours, theirs, variables, x):
    """Values, input gradients and parameter gradients agree."""
    ct = rand(99, *jax.eval_shape(ours.apply, variables, x).shape)

    def run(module):
        y, back = jax.vjp(lambda v, x: module.apply(v, x), variables, x)
        return y, back(ct)

    got, ref = jax.jit(lambda: (run(ours), run(theirs)))()
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(ref)):  # noqa: B905
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4 * float(np.abs(b).max() + 1e-6))


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "bias"),
    [(3, 1, None, True), (1, 1, None, True), (3, 2, (0, 1), True), (3, 1, (2, 2), False)],
)
def test_conv_equals_flax(kernel, stride, padding, bias):
    ours = Conv(6, kernel, stride, padding, use_bias=bias)
    pad = (kernel // 2,) * 2 if padding is None else padding
    theirs = nn.Conv(6, (kernel,) * 2, stride, padding=(pad, pad), use_bias=bias)
    x = rand(0, 3, 8, 8, 4)
    same(ours, theirs, random_variables(ours.init, x), x)


@pytest.mark.parametrize("channels", [8, 24])
def test_group_norm_equals_flax(channels):
    ours = GroupNorm(groups=4, eps=1e-5)
    theirs = nn.GroupNorm(num_groups=4, epsilon=1e-5)
    x = rand(0, 3, 6, 6, channels)
    same(ours, theirs, random_variables(ours.init, x), x)


class NormThenSilu(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.GroupNorm(num_groups=4, epsilon=1e-5, name="norm")(x)
        return jax.nn.silu(y)


def test_fused_silu_equals_separate():
    x = rand(0, 3, 6, 6, 8)
    ours, theirs = GroupNorm(groups=4, eps=1e-5, activate=True), NormThenSilu()
    params = random_variables(ours.init, x)["params"]

    def grads(f):
        loss = lambda p, x: jnp.sum(jnp.sin(f(p, x)))  # noqa: E731
        return jax.jit(jax.grad(loss, argnums=(0, 1)))(params, x)

    a = grads(lambda p, x: ours.apply({"params": p}, x))
    b = grads(lambda p, x: theirs.apply({"params": {"norm": p}}, x))
    for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(u, v, rtol=1e-4, atol=1e-4)


def test_conditional_scale_and_shift():
    x, scale, shift = rand(0, 2, 4, 4, 8), rand(1, 2, 8), rand(2, 2, 8)
    norm = GroupNorm(groups=2, eps=1e-5)
    v = random_variables(norm.init, x)
    apply = jax.jit(norm.apply)
    plain = np.asarray(apply(v, x))
    expected = plain * (1 + scale[:, None, None]) + shift[:, None, None]
    np.testing.assert_allclose(apply(v, x, scale, shift), expected, rtol=1e-4, atol=1e-4)


def test_group_norm_in_bfloat16_has_float32_statistics():
    # Mean 100, deviation 1: bfloat16 sums would lose the deviation altogether.
    x = (rand(0, 2, 16, 16, 8) + 100).astype(jnp.bfloat16)
    norm = GroupNorm(groups=2, eps=1e-5)
    v = jax.jit(norm.init)(jax.random.key(0), x)
    apply = jax.jit(norm.apply)
    y = apply(v, x)
    assert y.dtype == jnp.bfloat16
    assert v["params"]["scale"].dtype == jnp.float32
    wide = apply(v, x.astype(np.float32))
    np.testing.assert_allclose(y.astype(np.float32), wide, atol=0.05)
    grads = jax.eval_shape(jax.grad(lambda v: norm.apply(v, x).astype(jnp.float32).sum()), v)
    assert all(g.dtype == jnp.float32 for g in jax.tree.leaves(grads))


def test_cap_on_groups_and_indivisible_channels():
    capped = GroupNorm(groups=32, eps=1e-6, min_channels=4)
    four = GroupNorm(groups=4, eps=1e-6)
    x = rand(0, 2, 4, 4, 16)
    v = random_variables(four.init, x)
    np.testing.assert_array_equal(jax.jit(capped.apply)(v, x), jax.jit(four.apply)(v, x))
    with pytest.raises(ValueError, match="10 channels do not divide into 4 groups"):
        jax.eval_shape(four.init, jax.random.key(0), rand(0, 1, 2, 2, 10))


@pytest.mark.parametrize("bias", [True, False])
def test_dense_equals_flax(bias):
    ours, theirs = Dense(5, use_bias=bias), nn.Dense(5, use_bias=bias)
    x = rand(0, 2, 7, 3)
    same(ours, theirs, random_variables(ours.init, x), x)


def test_bias_gradient_is_summed_in_float32():
    layer = Dense(4, dtype="bfloat16")
    x = np.ones((4096, 2), np.float32)
    v = random_variables(layer.init, x)
    g = jax.jit(jax.grad(lambda v: layer.apply(v, x).astype(jnp.float32).sum()))(v)
    # A bfloat16 running sum of ones stops at 256.
    np.testing.assert_array_equal(g["params"]["bias"], 4096.0)


CAUSAL = jax.jit(partial(attend, causal=True))
ATTEND = jax.jit(attend)


def softmax_attention(q, k, v, mask):
    """`[B, L, N, D]` by the definition, float64; `mask` broadcasts to `[B, N, L, S]`."""
    logits = np.where(mask, np.einsum("blnd,bsnd->bnls", q, k, dtype=float) / 2, -np.inf)
    return np.einsum("bnls,bsnd->blnd", special.softmax(logits, axis=-1), v)


def moved(x, at):
    x = x.copy()
    x[at] += 9
    return x


def test_attention_is_softmax_attention_and_respects_its_mask():
    q, k, v = (rand(i, 2, 5, 3, 4) for i in range(3))
    mask = np.array([[True] * 5, [True, True, False, False, True]])
    expected = softmax_attention(q, k, v, mask[:, None, None, :])
    got = ATTEND(q, k, v, mask)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    unseen = np.s_[1, 2:4]
    np.testing.assert_array_equal(got, ATTEND(q, moved(k, unseen), moved(v, unseen), mask))


def test_causal_attention_sees_what_came_before():
    q, k, v = (rand(i, 2, 5, 3, 4) for i in range(3))
    ref = softmax_attention(q, k, v, np.tri(5, dtype=bool))
    np.testing.assert_allclose(CAUSAL(q, k, v), ref, rtol=1e-4, atol=1e-5)
    # Together with a mask: a padded key is not seen by those after it either.
    mask = np.ones((2, 5), bool)
    mask[:, 2] = False
    both = np.asarray(CAUSAL(q, k, v, mask))
    np.testing.assert_allclose(both[:, :2], ref[:, :2], rtol=1e-4, atol=1e-5)
    unseen = np.s_[:, 2]
    np.testing.assert_array_equal(both, CAUSAL(q, moved(k, unseen), moved(v, unseen), mask))


@pytest.mark.parametrize("train", [True, False])
def test_batch_norm_equals_flax(train):
    x = rand(0, 4, 6, 6, 5)
    ours = BatchNorm(momentum=0.9, eps=1e-5)
    theirs = nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5)
    v = random_variables(ours.init, x, train=False)
    ct = rand(9, *x.shape)

    @partial(jax.jit, static_argnums=0)
    def run(apply):
        def loss(params, x):
            y, state = apply({**v, "params": params}, x)
            return jnp.sum(ct * y), (y, state["batch_stats"])

        grads, (y, stats) = jax.grad(loss, argnums=(0, 1), has_aux=True)(v["params"], x)
        return y, grads, stats

    mutable = ["batch_stats"]
    a = run(lambda v, x: ours.apply(v, x, train=train, mutable=mutable))
    b = run(lambda v, x: theirs.apply(v, x, mutable=mutable))
    for p, q in zip(jax.tree.leaves(a[:2]), jax.tree.leaves(b[:2]), strict=True):
        np.testing.assert_allclose(p, q, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(a[2]["mean"], b[2]["mean"], rtol=1e-5)
    # flax keeps the biased variance of the batch, we torch's.
    old, n = v["batch_stats"]["var"], x[..., 0].size
    unbiased = 0.9 * old + (b[2]["var"] - 0.9 * old) * n / (n - 1)
    np.testing.assert_allclose(a[2]["var"], unbiased if train else old, rtol=1e-4)
