"""What a decoder of image embeddings makes of a picture: which of its two codes each function
changes."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest
from unclip_tasks import B, batch, decoder_task, prior_task, variables

from diffjax.denoisers.embeddings import scaled
from diffjax.diffusion.predictions import V
from diffjax.generate import embeddings
from diffjax.generate.variations import codes, interpolate, text_difference, variations

STEPS = 4


@functools.cache
def decoder():
    task = decoder_task(prior_task())
    # Of v the estimate of a clean state is the state, so that there is a way back to it.
    return dataclasses.replace(task.model, prediction=V()), variables(task)


def varied(index=range(B), seed=0, **options):
    index = np.asarray(index, np.int32)
    image = batch()["image"][index]
    got = variations(*decoder(), np.int32(seed), index, image, **{"steps": STEPS, **options})
    return np.asarray(got)


def test_without_fresh_noise_a_picture_is_drawn_from_its_two_codes():
    image = batch()["image"]
    model, held = decoder()
    embedding, noise = codes(model, held, image, steps=STEPS)
    np.testing.assert_allclose(embedding, embeddings.encode_image(model, held, image), rtol=1e-5)
    assert noise.shape == image.shape
    same = varied(eta=0.0)
    np.testing.assert_array_equal(same, varied(eta=0.0, seed=1))
    # The way there and back over many steps is the way of one differential equation.
    far, near = (np.abs(varied(eta=0.0, steps=n) - image).mean() for n in (4, 64))
    assert near < 0.3 * far


def test_fresh_noise_is_the_rows_own():
    drawn = varied()
    assert np.abs(drawn - varied(eta=0.0)).max() > 1e-3
    assert np.abs(drawn - varied(seed=1)).max() > 1e-3
    np.testing.assert_allclose(varied([2, 3]), drawn[2:], atol=2e-5)


def test_a_way_between_two_pictures_begins_with_one_and_ends_with_the_other():
    image, shares = batch()["image"], np.array([0.0, 0.5, 1.0])
    got = np.asarray(interpolate(*decoder(), image, image[::-1], shares, steps=STEPS))
    same = varied(eta=0.0)
    assert got.shape == (B, 3, *image.shape[1:])
    np.testing.assert_allclose(got[:, 0], same, atol=2e-5)
    np.testing.assert_allclose(got[:, 2], same[::-1], atol=2e-5)
    # The way there is the way back.
    back = np.asarray(interpolate(*decoder(), image[::-1], image, shares, steps=STEPS))
    np.testing.assert_allclose(got, back[:, ::-1], atol=2e-5)
    assert np.abs(got[:, 1] - got[:, 0]).max() > 1e-3


def test_a_text_difference_turns_the_embedding_alone():
    image, tokens = batch()["image"], batch()["tokens"]
    model, held = decoder()
    direction = embeddings.text_direction(model, held, tokens, tokens[::-1])
    text = [scaled(embeddings.encode_text(model, held, t)) for t in (tokens, tokens[::-1])]
    np.testing.assert_allclose(direction, scaled(text[0] - text[1]), rtol=1e-4)
    args = (model, held, image, tokens, tokens[::-1], np.array([0.0, 0.4]))
    got = np.asarray(text_difference(*args, steps=STEPS))
    np.testing.assert_allclose(got[:, 0], varied(eta=0.0), atol=2e-5)
    assert np.abs(got[:, 1] - got[:, 0]).max() > 1e-3
    with pytest.raises(ValueError, match="a decoder a section `prior`"):
        text_difference(decoder_task().model, held, image, tokens, tokens, jnp.array([0.4]))


def test_a_model_without_image_embeddings_is_refused():
    model, held = prior_task().model, variables(prior_task())
    with pytest.raises(ValueError, match="reads no image embedding"):
        codes(model, held, batch()["image"], steps=2)
