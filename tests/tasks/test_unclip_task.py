"""Laws of diffusion in image embeddings, and of a decoder that is conditioned by them."""

import functools
from dataclasses import replace

import jax
import numpy as np
import pytest
from random_variables import random_variables
from unclip_tasks import (
    ENCODER,
    NULL_IDS,
    RECIPE,
    SHAPE,
    VOCAB,
    B,
    E,
    L,
    batch,
    decoder_task,
    prior_task,
    spec,
    variables,
)

from diffjax.denoisers.conditions.base import inputs_of
from diffjax.denoisers.embeddings import ImageTower, scaled
from diffjax.keys import Rng
from diffjax.models import build_model, section_of


@functools.partial(jax.jit, static_argnums=(0, 1))
def losses(task, train, held, given, rows):
    return task.loss(*held, given, Rng(jax.random.key(7), rows, B), train).loss


def loss(task, rows=range(B), train=True, **changes):
    rows = np.asarray(rows, np.int32)
    given = {k: v[rows] for k, v in {**batch(), **changes}.items()}
    return np.asarray(losses(task, train, variables(task), given, rows))


def embeddings(task, image):
    fn = jax.jit(lambda held, x: ImageTower(ENCODER).embed(held, x))
    return np.asarray(fn(variables(task).frozen["clip"], image))


def sample(task, cond, rows=range(B), held=None, seed=0):
    rows = np.asarray(rows, np.int32)
    cond = {k: v[rows] for k, v in cond.items()}
    fn = task.predict_fns()["sample"]
    return np.asarray(fn(held or variables(task), np.int32(seed), rows, cond, steps=2))


def test_embeddings_have_one_length_and_no_embedding_has_none():
    x = np.random.default_rng(0).standard_normal((3, E)) * [[0.1], [1], [50]]
    np.testing.assert_allclose(np.linalg.norm(scaled(x), axis=-1), E**0.5, rtol=1e-6)
    np.testing.assert_array_equal(scaled(np.zeros((1, E))), np.zeros((1, E)))


def test_an_image_encoder_tells_its_section():
    section = section_of(ENCODER)
    assert section["type"] == "clip_image" and section["embed"] == E
    assert build_model(**section) == ENCODER
    clip = build_model(
        "clip", embed=E, image=dict(type="vit", width=8, depth=1, heads=2, patch=4, image_size=8),
        text=dict(width=8, depth=1, heads=2, context=L, vocab=VOCAB),
    )  # fmt: skip
    held = random_variables(clip.init, batch()["image"], batch()["tokens"])
    own = {"params": {"image": held["params"]["image"]}}
    np.testing.assert_array_equal(
        clip.apply(held, batch()["image"], method="encode_image"),
        ENCODER.apply(own, batch()["image"]),
    )


@pytest.mark.parametrize("make", [prior_task, decoder_task])
def test_a_row_of_a_batch_has_the_loss_that_it_has_alone(make):
    task = make()
    whole = loss(task)
    assert whole.shape == (B,) and np.isfinite(whole).all() and whole.std() > 0
    np.testing.assert_allclose(loss(task, [2, 3]), whole[2:], rtol=1e-4)


def test_what_is_computed_of_images_is_what_batches_may_hold():
    task = decoder_task()
    held = embeddings(task, batch()["image"])
    np.testing.assert_allclose(loss(task, image_embedding=held), loss(task), rtol=1e-5)
    assert np.abs(loss(task, image_embedding=held[::-1]) - loss(task)).max() > 1e-4
    (condition,) = task.conditions
    assert condition.spec(spec()).shape == condition.spec(spec({"image_embedding": held})).shape


def test_the_tower_is_not_trained():
    task = prior_task()
    held = variables(task)

    def mean(frozen):
        rng = Rng(jax.random.key(7), np.arange(B), B)
        return task.loss(held.params, {}, frozen, batch(), rng, True).loss.mean()

    gradient = jax.jit(jax.grad(mean))(held.frozen)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_a_text_is_dropped_whole():
    """Its tokens and its embedding: half of a null is heard as no null is."""
    task = prior_task(drop=1.0)
    held, rows = variables(task), np.arange(B)
    rng = Rng(jax.random.key(7), rows, B)
    draw = jax.jit(lambda b, train: task.draw(held.params, held.frozen, b, rng, train).cond,
                   static_argnums=1)  # fmt: skip
    dropped = draw(batch(), True)
    null = draw({**batch(), "tokens": np.tile(np.asarray(NULL_IDS, np.int32), (B, 1))}, False)
    jax.tree.map(np.testing.assert_array_equal, dropped, null)
    assert np.abs(dropped.vector - draw(batch(), False).vector).max() > 1e-3


@pytest.mark.parametrize("to", ["vector", "context", "both"])
def test_an_embedding_reaches_the_network_where_it_says(to):
    task = decoder_task(to=to)
    (condition,) = task.conditions
    held = variables(replace(task, model=replace(task.model, conditions=(condition,)))
                     if to == "both" else decoder_task())  # fmt: skip
    own = held.params["conditions"]
    x = np.zeros((B, *SHAPE), np.float32)
    got = condition.encode(own, held.frozen, embeddings(decoder_task(), batch()["image"]), x)
    assert (got.vector is not None) == (to != "context")
    assert (got.context is not None) == (to != "vector")
    if to != "vector":
        assert got.context.shape == (B, 2, E)


def test_a_decoder_with_a_prior_draws_by_text():
    """Samples are the rows' own; an embedding that is given is taken as it is."""
    prior = prior_task()
    task, alone = decoder_task(prior), decoder_task()
    assert task.model.fields == ["tokens"] and alone.model.fields == ["image_embedding"]
    held, tokens = variables(task), {"tokens": batch()["tokens"]}
    drawn = sample(task, tokens)
    np.testing.assert_allclose(sample(task, tokens, [1, 3]), drawn[[1, 3]], atol=2e-5)
    assert np.abs(drawn - sample(task, tokens, seed=1)).max() > 1e-3
    given = {"image_embedding": embeddings(alone, batch()["image"])}
    own = held._replace(frozen={"clip": held.frozen["clip"]})
    np.testing.assert_array_equal(sample(task, {**tokens, **given}), sample(alone, given, held=own))


def test_the_embedding_most_like_its_text_is_taken():
    """The better of two is one of the two: the first, or the one that best_of=1 does not see."""
    prior = prior_task()
    two, one = decoder_task(prior), decoder_task(prior, recipe=(("best_of", 1), *RECIPE[1:]))
    held, tokens = variables(two), {"tokens": batch()["tokens"]}
    same = np.isclose(sample(two, tokens, held=held), sample(one, tokens, held=held), atol=1e-6)
    rows = same.reshape(B, -1).all(axis=1)
    assert rows.any() and not rows.all()


def test_stages_that_do_not_fit_are_named():
    prior = prior_task()
    wide = replace(prior.model, space=replace(prior.model.space, tower=ImageTower(
        ENCODER.clone(image=ENCODER.image.clone(embed=7)))))  # fmt: skip
    with pytest.raises(ValueError, match=r"states of shape \(7,\), but conditions.clip reads"):
        replace(decoder_task().model, prior=wide)
    with pytest.raises(ValueError, match="no condition reads them"):
        replace(decoder_task().model, conditions=(), prior=prior.model)
    (condition,) = decoder_task().conditions
    held = {"image": batch()["image"], "image_embedding": np.zeros((B, 7), np.float32)}
    with pytest.raises(ValueError, match="they are of another CLIP"):
        condition.init(jax.random.key(0), spec(held))
    moments = {"image": np.zeros((B, 4, 4, 8), np.float32)}
    with pytest.raises(ValueError, match=r"embeds images of \(8, 8, 3\), but batches hold \(4, 4"):
        condition.init(jax.random.key(0), spec(moments))
    for what in (lambda s: s.resized(8, 8), lambda s: s.shrink_mask(None)):
        with pytest.raises(ValueError, match=r"no (places|height)"):
            what(prior.model.space)


def test_settings_of_a_prior_follow_from_its_conditions():
    task = prior_task()
    found = inputs_of(task.conditions, spec(), task.model.space)
    assert found["vector_dim"] == E and found["context_length"] == L
