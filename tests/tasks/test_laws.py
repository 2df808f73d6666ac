"""Laws of the tasks: a loss per example, noise by row, evaluation without chance, errors early."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_variables import random_variables

from diffjax.denoisers.conditions import make_conditions
from diffjax.denoisers.conditions.base import drop_conditions
from diffjax.denoisers.spaces import DataSpace
from diffjax.keys import Rng
from diffjax.models import build_model
from diffjax.tasks import make_task

DIT = {"type": "dit", "width": 16, "depth": 1, "heads": 2, "patch": 4, "dropout": 0.3}
SECTION = {
    "type": "diffusion",
    "schedule": {"type": "cosine"},
    "prediction": {"type": "v"},
}
SHAPE, CLASSES, B = (8, 8, 1), 3, 6


def diffusion(network=None, drop=0.5, classes=CLASSES, **section):
    model = build_model(**{"num_classes": classes, "out_channels": 1, **DIT, **(network or {})})
    label = {"label": {"type": "class", "drop": drop}} if classes else {}
    conditions = make_conditions(label, classes, DataSpace(SHAPE), {})
    given = {"conditions": conditions}
    return make_task({**SECTION, **section}, model, SHAPE, CLASSES, given)


def classification(**section):
    model = build_model(type="convnet", num_classes=CLASSES, channels=(8,), dropout=0.5)
    return make_task({"type": "classification", **section}, model, SHAPE, CLASSES)


def vae(dropout=0.3, **section):
    part = {"type": "mlp", "width": 16, "depth": 1, "dropout": dropout}
    model = build_model(
        "vae", image_shape=SHAPE, latent=3, encoder=part, decoder=part, scale="pixel"
    )
    likelihood = {"type": "logistic", "levels": 17}
    return make_task({"type": "vae", "likelihood": likelihood, **section}, model, SHAPE, CLASSES)


def autoencoder(**section):
    """Without the adaptive weight, in which the examples of a batch meet."""
    network = build_model("autoencoder", channels=4, channel_mult=(1, 2), blocks=1, norm_groups=2,
                          latent_channels=2, image_channels=1)  # fmt: skip
    rival = {"type": "patch", "channels": 4, "layers": 1, "norm": "group", "norm_groups": 2}
    weights = {"adaptive": False, "disc_weight": 0.01, "kl_weight": 1.0}
    section = {"type": "autoencoder", "discriminator": rival, **weights, **section}
    return make_task(section, network, SHAPE, CLASSES)


def batch() -> dict:
    random = np.random.default_rng(0)
    image = random.uniform(-1, 1, (B, *SHAPE)).astype(np.float32)
    return {"image": image, "label": np.arange(B, dtype=np.int32) % CLASSES}


@functools.cache
def variables(task):
    """No layer is zero: a zero head would make every law hold."""
    return random_variables(task.init, batch())


def loss(task, held, key: int, rows: np.ndarray, train: bool) -> np.ndarray:
    given = {k: v[rows] for k, v in batch().items()}
    return np.asarray(losses(task, train, held, given, np.int32(key), rows.astype(np.int32)))


@functools.partial(jax.jit, static_argnums=(0, 1))
def losses(task, train, held, given, key, rows):
    return task.loss(*held, given, Rng(jax.random.key(key), rows, B), train).loss


CALM = {
    "diffusion": lambda: diffusion({"dropout": 0.0}),
    "classification": classification,
    "vae": lambda: vae(0.0),
    "vae of five samples": lambda: vae(0.0, samples=5, importance_weighted=True),
    "autoencoder": autoencoder,
    "vae with free bits": lambda: vae(0.0, free_bits=0.2, free_over="example"),
}


LONG = ("autoencoder",)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.heavy] * (n in LONG)) for n in CALM]
)
def test_a_loss_per_example_that_a_part_of_the_batch_repeats(name):
    """Without dropout, whose mask a whole microbatch shares."""
    task, train = CALM[name](), name != "classification"
    held, rows = variables(task), np.arange(B)
    whole = loss(task, held, 1, rows, train)
    assert whole.shape == (B,) and whole.dtype == np.float32 and (whole > 0).all()
    for part in (rows[4:1:-1], rows[::-1]):
        np.testing.assert_allclose(loss(task, held, 1, part, train), whole[part], 1e-4)


@pytest.mark.parametrize("make", [diffusion, classification, vae])
def test_training_drops_units_and_evaluation_does_not(make):
    task = make()
    held, rows = variables(task), np.arange(B)
    assert not np.array_equal(loss(task, held, 1, rows, True), loss(task, held, 1, rows, False))
    if make is classification:  # which draws nothing else
        np.testing.assert_array_equal(
            loss(task, held, 1, rows, False), loss(task, held, 2, rows, False)
        )


def test_the_share_of_dropped_labels_is_the_one_asked_for():
    task = diffusion(drop=0.25)
    rng = Rng(jax.random.key(0), jnp.arange(4000), 4000)
    label = jnp.full(4000, 2)
    got = np.asarray(drop_conditions(task.conditions, {"label": label}, rng)["label"])
    assert set(got) == {2, CLASSES}
    assert abs((got == CLASSES).mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 4000)


def test_smoothed_labels_have_the_entropy_of_their_closed_form():
    """Where the logits are equal the loss is log K, whatever the smoothing; elsewhere it is the
    cross-entropy against (1 - s) one-hot + s / K."""
    task, smooth = classification(), classification(label_smoothing=0.3)
    held, rows = variables(task), np.arange(B)
    logits = np.asarray(jax.jit(task.logits)(held, batch()["image"]), np.float64)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    target = 0.7 * np.eye(CLASSES)[np.asarray(batch()["label"])] + 0.1
    np.testing.assert_allclose(
        loss(smooth, held, 0, rows, False), -(target * logp).sum(-1), rtol=1e-4
    )


def test_the_last_layer_is_linear_in_the_features():
    task = classification()
    held = variables(task)
    features, logits = jax.jit(task.features_and_logits)(held, batch()["image"])
    last = held.params["logits"]
    np.testing.assert_allclose(logits, features @ last["kernel"] + last["bias"], atol=1e-4)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"schedule": "cosine"}, "task.schedule is a section"),
        ({"schedule": {"type": "cosin"}}, "did you mean 'cosine'"),
        ({"wieghting": {"type": "simple"}}, "did you mean 'weighting'"),
        ({"vlb_weight": "much"}, "vlb_weight='much'"),
        ({"drop": 1.5}, "conditions.label.drop=1.5 must be at most 1"),
        ({"image_shape": (4, 4, 1)}, "image_shape"),
    ],
)
def test_a_wrong_section_is_one_line(section, said):
    with pytest.raises(ValueError, match=said) as error:
        diffusion(**section)
    assert "\n" not in str(error.value)


def test_data_without_labels_are_told_at_once():
    with pytest.raises(ValueError, match="reads `label`, which batches have not"):
        diffusion().init(jax.random.key(0), {"image": batch()["image"]})


def test_guidance_is_refused_where_the_model_has_no_null_class():
    with pytest.raises(ValueError, match="needs a null condition"):
        diffusion(drop=0.0).nfe(guidance=2.0)
    with pytest.raises(ValueError, match="needs a conditional model"):
        diffusion(classes=0).nfe(guidance=2.0)
    assert diffusion().nfe(guidance=2.0, steps=7)["guidance"] == 2.0
