"""Several factors named at once: what the loss is a sum of, and what an unknown factor costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_variables import random_variables
from scipy import special

from diffjax.assembly.model_section import task_section
from diffjax.keys import Rng
from diffjax.models import build_model
from diffjax.tasks import make_task

SHAPE, B = (8, 8, 3), 5
WORDS = (("round", "square"), ("red", "green", "blue"))
TRUTH = {"shape": np.array([0, 1, -1, 1, -1]), "hue": np.array([2, -1, 0, 1, -1])}


def make(**section):
    network = build_model(type="convnet", num_classes=5, channels=(8,), dropout=0.5)
    section = {"type": "factors", "factors": ("shape", "hue"), "words": WORDS, **section}
    return make_task(section, network, SHAPE, 0)


def batch():
    image = np.random.default_rng(0).uniform(-1, 1, (B, *SHAPE)).astype(np.float32)
    return {"image": image, **{k: v.astype(np.int32) for k, v in TRUTH.items()}}


def loss(task, held, given, params=None):
    rng = Rng(jax.random.key(0), jnp.arange(B), B)
    return task.loss(held.params if params is None else params, {}, {}, given, rng, False)


def test_the_loss_is_the_sum_of_the_cross_entropies_of_the_factors_that_are_known():
    task, smoothing = make(label_smoothing=0.2), 0.2
    held = random_variables(task.init, batch())
    out = loss(task, held, batch())
    heads = task.factor_logits(held, batch()["image"])
    wanted, right = np.zeros(B), np.ones(B, bool)
    for (name, logits), words in zip(heads.items(), WORDS, strict=True):
        assert logits.shape == (B, len(words))
        for i, value in enumerate(TRUTH[name]):
            if value >= 0:
                target = np.eye(len(words))[value] * (1 - smoothing) + smoothing / len(words)
                wanted[i] -= target @ special.log_softmax(np.asarray(logits[i], np.float64))
                right[i] &= logits[i].argmax() == value
    np.testing.assert_allclose(out.loss, wanted, rtol=1e-5, atol=1e-6)
    assert out.loss[4] == 0 and out.loss.dtype == np.float32
    np.testing.assert_array_equal(out.metrics["accuracy"], right)


def test_an_example_without_factors_moves_nothing():
    task = make()
    held = random_variables(task.init, batch())
    grad = jax.grad(lambda p: loss(task, held, batch(), p).loss[4])(held.params)
    assert all((np.asarray(g) == 0).all() for g in jax.tree.leaves(grad))


def test_the_heads_stand_side_by_side_in_the_logits():
    task = make()
    held = random_variables(task.init, batch())
    heads = task.factor_logits(held, batch()["image"])
    logits = task.logits(held, batch()["image"])
    np.testing.assert_array_equal(np.concatenate([heads["shape"], heads["hue"]], 1), logits)


def test_what_does_not_fit_the_data_is_one_line():
    for changed in ({"hue": np.zeros((B, 2), np.int32)}, {"hue": None}):
        spec = {k: v for k, v in {**batch(), **changed}.items() if v is not None}
        with pytest.raises(ValueError, match="hold no one number 'hue' an image"):
            make().init(jax.random.key(0), spec)
    with pytest.raises(ValueError, match="at least one, and words for each, not 2"):
        make(factors=("shape",))
    with pytest.raises(ValueError, match="at least one"):
        make(factors=(), words=())


def test_the_words_are_those_of_the_data():
    section = {"type": "factors", "factors": ("gender", "skin_tone")}
    assert [len(w) for w in task_section(section, "emoji")["words"]] == [3, 6]
    with pytest.raises(
        ValueError, match=r"factor of emoji64 'skin_tome'; did you mean 'skin_tone'"
    ):
        task_section({"type": "factors", "factors": ("skin_tome",)}, "emoji64")
    with pytest.raises(ValueError, match="factor of digits 'gender'"):
        task_section(section, "digits")
    assert task_section({"type": "clip"}, "digits") == {"type": "clip"}
