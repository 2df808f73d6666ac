"""Laws of a CLIP of noised images: what is noised, what is told, what stays as it is."""

import functools

import jax
import numpy as np
import pytest
from random_variables import random_variables

from diffjax.diffusion.schedules import Cosine
from diffjax.diffusion.timesteps import Uniform
from diffjax.keys import Rng
from diffjax.models import build_model
from diffjax.tasks import make_task

B, SIDE, EMBED, L = 6, 8, 8, 6
NOISE = {"noise": dict(type="cosine")}


def make(noised=True, **section):
    image = dict(type="vit", width=16, depth=1, heads=2, patch=4, image_size=SIDE, noised=noised)
    text = dict(width=16, depth=1, heads=2, context=L, vocab=20, eos=19)
    network = build_model("clip", image=image, text=text, embed=EMBED)
    return make_task({"type": "clip", **section}, network, (SIDE, SIDE, 3), 0)


def batch():
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 19, (B, L)).astype(np.int32)
    tokens[:, 4] = 19
    return {"image": rng.uniform(-1, 1, (B, SIDE, SIDE, 3)).astype("f4"), "tokens": tokens}


@functools.cache
def start(noised=True):
    return random_variables(make(noised, **(NOISE if noised else {})).init, batch(), std=0.3)


def loss(task, rows=range(B), key=7, held=None):
    rows = np.asarray(rows, np.int32)
    given = {k: v[rows] for k, v in batch().items()}
    rng = Rng(jax.random.key(key), rows, B)
    fn = jax.jit(lambda held: task.loss(*held, given, rng, True).loss)
    return np.asarray(fn(held or start()))


def test_each_image_is_noised_by_its_own_draws():
    task = make(**NOISE)
    whole = loss(task)
    assert np.isfinite(whole).all() and np.abs(loss(task, key=8) - whole).max() > 1e-4
    turned = np.arange(B)[::-1]
    np.testing.assert_allclose(loss(task, turned), whole[turned], rtol=1e-4)
    # In parts as in one: levels go with their rows.
    np.testing.assert_allclose(loss(make(chunks=3, **NOISE)), whole, rtol=1e-4)


def test_noised_images_keep_their_size_and_their_level_is_told():
    task = make(**NOISE)
    rng = Rng(jax.random.key(7), np.arange(B), B)
    image, tokens = np.zeros((B, SIDE, SIDE, 3), "f4"), batch()["tokens"]
    noise, same, logsnr = task._noised(image, tokens, rng)
    np.testing.assert_array_equal(same, tokens)
    level = Cosine().level(Uniform()(Cosine(), rng))
    np.testing.assert_allclose(logsnr, level.logsnr, rtol=1e-5)
    seen = task._noised(image + 1, tokens, rng)[0]
    # alpha of variance-preserving noise, whatever the schedule's scale.
    alpha = 1 / np.sqrt(1 + np.exp(-np.asarray(logsnr)))
    np.testing.assert_allclose(seen - noise, np.broadcast_to(alpha[:, None, None, None],
                               seen.shape), atol=1e-4)  # fmt: skip
    other = task._towers({"params": start().params}, image, tokens, logsnr - 3)["image"]
    told = task._towers({"params": start().params}, image, tokens, logsnr)["image"]
    assert np.abs(other - told).max() > 1e-4
    plain = make(False)._noised(image, tokens, rng)
    assert len(plain) == 2 and plain[0] is image


def test_an_image_that_is_not_noised_is_the_cleanest():
    task = make(**NOISE)
    image = batch()["image"]
    held = {"params": start().params}
    clean = task.encode_image(start(), image)
    told = task.network.apply(held, image, logsnr=np.full(B, 20.0), method="encode_image")
    np.testing.assert_allclose(clean, told, rtol=1e-5)
    beyond = task.network.apply(held, image, logsnr=np.full(B, np.inf), method="encode_image")
    np.testing.assert_allclose(clean, beyond, rtol=1e-5)


def test_a_schedule_and_a_tower_that_is_told_go_together():
    for noised, section in ((True, {}), (False, NOISE)):
        with pytest.raises(ValueError, match=r"task\.noise and model\.image\.noised go together"):
            make(noised, **section)
    with pytest.raises(ValueError, match="is not told the level"):
        make(False).network.apply({"params": start(False).params}, batch()["image"],
                                  logsnr=np.zeros(B), method="encode_image")  # fmt: skip
    with pytest.raises(ValueError, match="cosine"):
        make(noise=dict(type="cosien"))
