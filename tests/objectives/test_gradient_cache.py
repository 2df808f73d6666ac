"""Encoding by chunks is gradient caching: the same gradient, the memory of one chunk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.keys import Rng
from diffjax.objectives.contrastive import softmax_contrastive
from diffjax.objectives.gradient_cache import chunked_encode

WIDTH, DEPTH, TOKENS, EMBED = 64, 2, 16, 32


def init(seed):
    rng = np.random.default_rng(seed)
    up, down, head = (DEPTH, WIDTH, 4 * WIDTH), (DEPTH, 4 * WIDTH, WIDTH), (WIDTH, EMBED)
    draw = lambda std, shape: (std * rng.standard_normal(shape)).astype(np.float32)  # noqa: E731
    return {"up": draw(0.1, up), "down": draw(0.1, down), "head": draw(1.0, head)}


def encode(params, x, keys):
    """`[b, TOKENS, WIDTH]` through residual MLPs with dropout to `[b, EMBED]`."""
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 0.9, (DEPTH,)))(keys)
    for i in range(DEPTH):
        h = jax.nn.gelu(x @ params["up"][i], approximate=True)
        h = h * kept[:, i, None, None] / 0.9
        x = x + h @ params["down"][i]
    return x.mean(1) @ params["head"]


def objective(chunks, size):
    """The loss of two towers of different chunks."""
    rng = Rng(jax.random.key(3), jnp.arange(size), size)

    def loss(params, image, text):
        image, text = (
            chunked_encode(
                lambda inputs, p=params[name]: encode(p, *inputs), (x, rng.rowwise(name)), chunks
            )
            for name, x in (("image", image), ("text", text))
        )
        return softmax_contrastive(image, text, jnp.log(10.0)).mean()

    return loss


@pytest.fixture(scope="module")
def towers():
    return {name: init(i) for i, name in enumerate(("image", "text"))}


def test_chunks_change_neither_loss_nor_gradient(towers):
    draw = np.random.default_rng(9).standard_normal((2, 48, TOKENS, WIDTH))
    image, text = draw.astype(np.float32)
    whole, *others = (
        jax.jit(jax.value_and_grad(objective(n, 48)))(towers, image, text) for n in (1, 8)
    )
    for parts in others:
        np.testing.assert_allclose(parts[0], whole[0], rtol=1e-6)
        for a, b in zip(jax.tree.leaves(whole[1]), jax.tree.leaves(parts[1]), strict=True):
            assert np.abs(a - b).max() < 2e-6 * np.abs(a).max()


def test_dropout_is_at_work(towers):
    """Or else the test above would say nothing of it."""
    x, keys = np.ones((8, TOKENS, WIDTH), np.float32), jax.random.split(jax.random.key(0), 8)
    rows = jax.jit(encode)(towers["image"], x, keys)
    assert len(np.unique(np.asarray(rows)[:, 0])) > 1


def test_rows_stay_where_they_were():
    rows = np.arange(12)
    tree = {"twice": 2 * rows[:, None], "key": jax.random.split(jax.random.key(0), 12)}
    encoder = lambda t: (t["twice"] + 1, jax.random.key_data(t["key"]))  # noqa: E731
    out = jax.jit(lambda tree: chunked_encode(encoder, tree, 4))(tree)
    np.testing.assert_array_equal(np.asarray(out[0])[:, 0], 2 * rows + 1)
    np.testing.assert_array_equal(out[1], jax.random.key_data(tree["key"]))


def temporary_bytes(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


def test_a_batch_of_4096_takes_the_memory_of_a_chunk_of_64(towers):
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), towers)

    def needed(size, chunks):
        batch = jax.ShapeDtypeStruct((size, TOKENS, WIDTH), jnp.float32)
        return temporary_bytes(jax.grad(objective(chunks, size)), shapes, batch, batch)

    embeddings = jax.ShapeDtypeStruct((4096, EMBED), jnp.float32)
    loss = temporary_bytes(
        jax.grad(lambda x, y: softmax_contrastive(x, y, jnp.log(10.0)).mean(), (0, 1)),
        embeddings, embeddings,
    )  # fmt: skip
    inputs = 2 * 4096 * TOKENS * WIDTH * 4  # once more, as chunks
    chunked = needed(4096, 64)
    assert chunked < loss + inputs + 1.5 * needed(64, 1)
    assert chunked < needed(4096, 1) / 4


@pytest.mark.parametrize("chunks", [0, 5])
def test_chunks_that_do_not_divide_the_rows_are_named(chunks):
    with pytest.raises(ValueError, match=f"12 rows do not split into {chunks} chunks"):
        chunked_encode(jnp.sin, np.ones((12, 2)), chunks)
