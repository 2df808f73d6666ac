"""Laws of the contrastive task: its loss, chunks, locked towers, batch statistics."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_variables import random_variables

from diffjax.keys import Rng
from diffjax.models import build_model
from diffjax.models.clip import CLIP
from diffjax.objectives.contrastive import sigmoid_contrastive, softmax_contrastive
from diffjax.task import Variables
from diffjax.tasks import make_task

VIT = dict(type="vit", width=16, depth=1, heads=2, patch=4, image_size=8)
TEXT = dict(width=16, depth=1, heads=2, context=6, vocab=20, eos=19)
B, SIDE, EMBED = 8, 8, 8


class Flat(nn.Module):
    """The least image tower: a linear map of the pixels, normalised over the batch if `norm`."""

    norm: bool = False

    @nn.compact
    def __call__(self, image, train=False):
        x = nn.Dense(EMBED)(image.reshape(len(image), -1))
        if self.norm:
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5)(x)
        return x


class Bag(nn.Module):
    """The least text tower: the sum of the tokens' vectors."""

    @nn.compact
    def __call__(self, tokens):
        return nn.Embed(20, EMBED)(tokens).sum(axis=1)


def make(bias=None, norm=False, **section):
    network = CLIP(image=Flat(norm), text=Bag(), bias=bias)
    return make_task({"type": "clip", **section}, network, (SIDE, SIDE, 3), 0)


def transformers(**section):
    network = build_model("clip", image=VIT, text=TEXT, embed=EMBED)
    return make_task({"type": "clip", **section}, network, (SIDE, SIDE, 3), 0)


def batch(task):
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 19, (B, 6)).astype(np.int32)
    tokens[:, 4] = 19
    image = rng.uniform(-1, 1, (B, *task.image_shape)).astype(np.float32)
    return {"image": image, "tokens": tokens}


@functools.cache
def start(task):
    """Variables away from their symmetric starting values; a state is positive, for variances are
    among it."""
    drawn = random_variables(task.init, batch(task), std=0.2, norms=0.0)
    return drawn._replace(model_state=jax.tree.map(np.abs, drawn.model_state))


def whole(variables):
    """The same variables of a task that locks nothing."""
    return Variables({**variables.params, **variables.frozen}, variables.model_state, {})


def locked_as(task, variables):
    """The variables of `whole`, as `task` holds them."""
    shapes = jax.eval_shape(lambda: task.init(jax.random.key(0), batch(task)))
    params = variables.params
    kept = {k: params[k] for k in shapes.params}
    return Variables(kept, variables.model_state, {k: params[k] for k in shapes.frozen})


@functools.partial(jax.jit, static_argnums=(0, 3))
def evaluate(task, held, given, train=True):
    rng = Rng(jax.random.key(0), jnp.arange(B), B)
    return task.loss(*held, given, rng, train)


@functools.partial(jax.jit, static_argnums=0)
def gradients(task, held, given):
    """Of the mean of the losses; and those."""
    rng = Rng(jax.random.key(0), jnp.arange(B), B)

    def mean(params):
        loss = task.loss(params, held.model_state, held.frozen, given, rng, True).loss
        return loss.mean(), loss

    return jax.grad(mean, has_aux=True)(held.params)


@functools.partial(jax.jit, static_argnums=0)
def embeddings(task, held, given):
    return task.encode_image(held, given["image"]), task.encode_text(held, given["tokens"])


def near(a, b, tolerance=1e-5):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance * (1 + np.abs(y).max()))


def test_the_loss_is_that_of_the_embeddings():
    task = make()
    held, given = start(task), batch(task)
    image, text = embeddings(task, held, given)
    assert image.shape == text.shape == (B, 8)
    scale = held.params["logit_scale"]
    for train in (True, False):
        out = evaluate(task, held, given, train)
        assert out.loss.shape == (B,) and out.loss.dtype == np.float32
        near(out.loss, softmax_contrastive(image, text, scale))
        np.testing.assert_allclose(out.metrics["scale"], np.exp(scale), rtol=1e-6)
    image, text = np.asarray(image), np.asarray(text)
    cosine = image @ text.T / np.outer(np.linalg.norm(image, axis=1), np.linalg.norm(text, axis=1))
    found = cosine.argmax(axis=1) == np.arange(B)
    np.testing.assert_array_equal(out.metrics["image_to_text"], found)
    said = task.predict_fns()["validation_loss"](held, np.int32(0), given)
    near(said["loss"], out.loss)
    assert set(said) == {"loss", "image_to_text", "text_to_image"}


def test_the_sigmoid_loss_reads_its_bias():
    task = make(bias=-10.0, loss_kind="sigmoid")
    held, given = start(task), batch(task)
    image, text = embeddings(task, held, given)
    scale, bias = held.params["logit_scale"], held.params["logit_bias"]
    near(evaluate(task, held, given).loss, sigmoid_contrastive(image, text, scale, bias))
    assert abs(gradients(task, held, given)[0]["logit_bias"]) > 1e-3


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, id="softmax"),
        pytest.param(functools.partial(make, bias=-10.0, loss_kind="sigmoid"), id="sigmoid"),
        pytest.param(transformers, id="transformers", marks=pytest.mark.heavy),
    ],
)
def test_chunks_change_neither_loss_nor_gradients(make):
    one, four = make(), make(chunks=4)
    held, given = start(one), batch(one)
    expected = gradients(one, held, given)
    near(gradients(four, held, given), expected)
    size = jax.tree.map(lambda g: np.abs(g).max(), expected[0])
    assert min(jax.tree.leaves((size["image"], size["logit_scale"]))) > 1e-5


@pytest.mark.parametrize("locked", [("image",), ("text",), ("image", "text")])
def test_a_locked_tower_is_frozen_and_the_rest_is_as_it_was(locked):
    free, task = make(), make(locked=locked)
    held, given = start(free), batch(free)
    mine = locked_as(task, held)
    assert set(mine.frozen) == set(locked)
    assert set(mine.params) == {"image", "text", "logit_scale"} - set(locked)
    near(embeddings(task, mine, given), embeddings(free, held, given))
    (got, loss), (expected, free_loss) = gradients(task, mine, given), gradients(free, held, given)
    near(loss, free_loss)
    near(got, {k: expected[k] for k in mine.params})


def test_a_locked_tower_starts_where_a_free_one_does():
    free, task = make(), make(locked=("image",))
    init = lambda t: jax.jit(lambda k: t.init(k, batch(t)))  # noqa: E731
    near(whole(init(task)(jax.random.key(3))), init(free)(jax.random.key(3)))


def test_batch_statistics_move_in_training_alone():
    task = make(norm=True)
    held, given = start(task), batch(task)
    near(evaluate(task, held, given, False).model_state, held.model_state, 0)
    trained = evaluate(task, held, given, True)
    for before, after in zip(
        *map(jax.tree.leaves, (held.model_state, trained.model_state)), strict=True
    ):
        assert np.all(before != after)
    # Training normalises by the batch, evaluation by the statistics.
    assert np.abs(trained.loss - evaluate(task, held, given, False).loss).max() > 1e-4
    image, text = embeddings(task, held, given)
    alone = {k: v[:1] for k, v in given.items()}
    near(embeddings(task, held, alone), (image[:1], text[:1]), 1e-4)


@pytest.mark.parametrize("chunks", [1, 4])
def test_a_locked_tower_keeps_its_statistics(chunks):
    """It is the network that it was, in training too; so it may be run in chunks."""
    task = make(norm=True, locked=("image",), chunks=chunks)
    held, given = start(task), batch(task)
    out = evaluate(task, held, given, True)
    near(out.model_state, held.model_state, 0)
    near(out.loss, evaluate(task, held, given, False).loss, 1e-4)


def test_chunks_refuse_statistics_of_a_whole_batch():
    task = make(norm=True, chunks=2)
    with pytest.raises(ValueError, match=r"task.chunks > 1 does not fit .* batch normalisation"):
        jax.eval_shape(lambda: task.init(jax.random.key(0), batch(task)))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"loss_kind": "sigmoid"}, "the sigmoid loss needs a bias"),
        ({"bias": -10.0}, "the softmax loss has none"),
        ({"loss_kind": "softmaxx"}, "did you mean 'softmax'"),
        ({"spread": "rings"}, "did you mean 'ring'"),
        ({"locked": ("images",)}, "task.locked names 'images'; towers are image, text"),
        ({"locked": "image"}, "locked='image'"),
        ({"chunks": 0}, "task.chunks=0 must be at least 1"),
        ({"chunk": 2}, "did you mean 'chunks'"),
        ({"num_classes": 4}, "num_classes"),
    ],
)
def test_a_wrong_section_is_one_line(options, said):
    with pytest.raises(ValueError) as error:
        make(**options)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_data_without_tokens_are_told_at_once():
    task = make()
    with pytest.raises(ValueError, match="add a `tokenize` transform"):
        task.init(jax.random.key(0), {"image": batch(task)["image"]})
