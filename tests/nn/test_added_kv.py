"""Self-attention that takes a context in: what it may and may not depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.models import build_model
from diffjax.nn.attention import SpatialAttention
from diffjax.nn.initialisers import INITS

X = jax.random.normal(jax.random.key(0), (3, 4, 4, 8))
CONTEXT = jax.random.normal(jax.random.key(1), (3, 5, 6))
MASK = jnp.arange(5)[None, :] < jnp.array([5, 3, 0])[:, None]
LAYER = SpatialAttention(heads=2, groups=4, eps=1e-5, init_family=INITS["song"])


@pytest.fixture(scope="module")
def run():
    shapes = jax.eval_shape(lambda: LAYER.init(jax.random.key(0), X, CONTEXT))
    rng = np.random.default_rng(2)
    variables = jax.tree.map(lambda s: 0.4 * rng.standard_normal(s.shape, np.float32), shapes)
    apply = jax.jit(LAYER.apply)
    return lambda x, *seen: np.asarray(apply(variables, x, *seen))


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_context_is_seen_and_what_is_padding_is_not(run):
    y = run(X, CONTEXT, MASK)
    filled = jnp.where(MASK[..., None], CONTEXT, 7.0)
    close(y, run(X, filled, MASK))
    assert np.abs(run(X, CONTEXT) - y)[1:].max(axis=(1, 2, 3)).min() > 1e-2
    assert np.abs(run(X, CONTEXT[:, :3]) - run(X, CONTEXT))[0].max() > 1e-2


def test_nothing_seen_is_plain_self_attention(run):
    plain = run(X)
    close(run(X, CONTEXT, jnp.zeros_like(MASK)), plain)
    close(run(X, CONTEXT[:, :0]), plain)
    assert np.abs(run(X, jnp.zeros_like(CONTEXT)) - plain).max() > 1e-2  # zeros are tokens


def test_tokens_are_a_set_and_weigh_as_often_as_they_stand_there(run):
    close(run(X, CONTEXT[:, ::-1], MASK[:, ::-1]), run(X, CONTEXT, MASK))
    twice = jnp.concatenate([CONTEXT, CONTEXT], axis=1)
    assert np.abs(run(X, twice) - run(X, CONTEXT)).max() > 1e-3


def test_examples_are_independent(run):
    y, turned = run(X, CONTEXT, MASK), run(X[::-1], CONTEXT[::-1], MASK[::-1])[::-1]
    close(y, turned)


@pytest.mark.parametrize("family", INITS)
def test_keys_and_values_begin_as_layers_of_their_own(family):
    """Sixteen channels are no three equal parts, as query, key and value are."""
    x = jnp.zeros((1, 2, 2, 16))
    layer = LAYER.clone(init_family=INITS[family])
    params = layer.init(jax.random.key(0), x, CONTEXT[:1])["params"]["context_kv"]
    assert params["kernel"].shape == (6, 32) and params["bias"].shape == (32,)
    bound = (6 / (6 + 16)) ** 0.5 if family != "adm" else 6**-0.5
    assert 0.7 * bound < np.abs(params["kernel"]).max() <= bound


def test_a_unet_without_plain_layers_that_see_a_context_refuses_it():
    small = dict(type="unet", channels=8, out_channels=3, added_kv=True)
    for wrong in (dict(cross_attention=False), dict(cross_attention=True, transformer_depth=1)):
        with pytest.raises(ValueError, match="added_kv=True takes the context"):
            build_model(**small, **wrong).init(jax.random.key(0), X[..., :3], jnp.zeros(3))


def test_a_vector_that_is_added_as_it_is_has_the_width_of_the_embedding():
    from diffjax.models.conditioning import Conditioning

    net = build_model(
        type="unet", channels=8, out_channels=3, channel_mult=(1,), blocks=1, norm_groups=4,
        vector_dim=5, project_vector=False,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"vector of 5 to an embedding of 32"):
        cond = Conditioning(vector=jnp.ones((3, 5)))
        jax.eval_shape(net.init, jax.random.key(0), X[..., :3], jnp.zeros(3), cond)
