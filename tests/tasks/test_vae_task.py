"""Laws of the autoencoder's task: what its loss is made of, samples, codes, wrong sections."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_variables import random_variables

from diffjax.keys import Rng
from diffjax.models import build_model
from diffjax.objectives.elbo import free_bits, kl_to_prior
from diffjax.tasks import make_task

SHAPE, LATENT, B = (8, 8, 1), 4, 6
CONV = dict(type="conv", channels=(8, 8), hidden=16)
MLP = dict(type="mlp", width=16, depth=1)
LOGISTIC = dict(type="logistic", levels=17)


@functools.cache
def network(scale="shared", part="mlp"):
    section = {"mlp": MLP, "conv": CONV}[part]
    return build_model(
        "vae", image_shape=SHAPE, latent=LATENT, encoder=section, decoder=section, scale=scale
    )


def make(likelihood=LOGISTIC, scale="shared", part="mlp", **section):
    section = {"type": "vae", "likelihood": likelihood, **section}
    return make_task(section, network(scale, part), SHAPE, 10)


def batch():
    image = np.random.default_rng(0).uniform(-1, 1, (B, *SHAPE)).astype(np.float32)
    return {"image": image}


@functools.cache
def start(task):
    """Variables of which none is zero, so that posteriors differ from the prior."""
    return random_variables(task.init, batch(), std=0.3, seed=1)


@functools.partial(jax.jit, static_argnums=0)
def evaluate(task, held, given):
    return task.loss(*held, given, Rng(jax.random.key(3), jnp.arange(B), B), True)


@functools.cache
def compiled(task, name, **kw):
    return jax.jit(functools.partial(task.predict_fns()[name], **kw))


def call(task, name, *args, **kw):
    return jax.device_get(compiled(task, name, **kw)(start(task), *args))


@pytest.mark.parametrize("part", ["mlp", "conv"])
def test_beta_weighs_the_kl_term_alone(part):
    plain, task = make(part=part), make(part=part, beta=3.0)
    held = start(plain)
    out, heavy = evaluate(plain, held, batch()), evaluate(task, held, batch())
    m = out.metrics
    np.testing.assert_allclose(out.loss, m["kl"] - m["log_likelihood"], rtol=1e-5)
    np.testing.assert_allclose(heavy.loss - out.loss, 2 * m["kl"], rtol=1e-3)
    assert (m["kl"] > 0.01).all() and out.loss.dtype == jnp.float32


@pytest.mark.parametrize("section", [{}, {"free_over": "example"}, {"free_groups": 2}])
def test_free_bits_take_the_place_of_the_kl(section):
    plain, task = make(), make(free_bits=0.4, **section)
    held = start(plain)
    out, freed = evaluate(plain, held, batch()), evaluate(task, held, batch())
    kl = kl_to_prior(*task.posterior(held, batch()["image"]))
    keys = ("free_groups", "free_over")
    rate = free_bits(kl, 0.4, *(getattr(task, k) for k in keys))
    np.testing.assert_allclose(freed.loss - out.loss, rate - kl.sum(-1), atol=1e-3)
    np.testing.assert_array_equal(freed.metrics["kl"], out.metrics["kl"])
    assert task.whole_batch == ("free_over" not in section)


@pytest.mark.heavy
def test_one_importance_weight_has_the_mean_of_the_bound():
    """log w = log p(x | z) + log p(z) - log q(z | x); its mean over noise is the ELBO, and the
    mean over one sample is its own bound."""
    task = make()
    elbo = call(task, "elbo", 0, batch(), samples=4000)
    weights = [call(task, "iwae", s, batch(), samples=1)["nats"] for s in range(40)]
    error = np.std(weights, 0, ddof=1) / np.sqrt(40)
    assert (np.abs(np.mean(weights, 0) - elbo["nats"]) < 5 * error + 0.05).all()
    np.testing.assert_allclose(elbo["nats"], elbo["log_likelihood"] - elbo["kl"], rtol=1e-5)
    np.testing.assert_allclose(elbo["bits_per_dim"], -elbo["nats"] / (64 * np.log(2)), rtol=1e-5)
    tight = call(task, "iwae", 0, batch(), samples=500)
    assert (tight["nats"] > elbo["nats"]).all()
    assert (tight["effective_samples"] >= 1).all() and (tight["effective_samples"] < 500).all()


def test_importance_weighted_training_uses_the_bound_that_is_reported():
    task = make(importance_weighted=True, samples=300)
    held = start(task)
    loss = np.mean(evaluate(task, held, batch()).loss)
    nats = np.mean(call(task, "iwae", 7, batch(), samples=300)["nats"])
    single = np.mean(evaluate(make(), held, batch()).loss)
    assert abs(loss + nats) < 0.2 * abs(single - loss)
    mean = lambda p: evaluate(task, held._replace(params=p), batch()).loss.mean()  # noqa: E731
    grads = jax.jit(jax.grad(mean))
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(grads(held.params)))


@pytest.mark.parametrize(
    ("likelihood", "scale"),
    [(LOGISTIC, "pixel"), (dict(type="bernoulli"), "none"), (dict(type="gaussian"), "shared")],
    ids=["logistic", "bernoulli", "gaussian"],
)
def test_a_sample_is_a_function_of_seed_and_index(likelihood, scale):
    task = make(likelihood, scale)
    sample = task.predict_fns()["sample"]

    @jax.jit
    def draw(held, *args):
        return {pixels: sample(held, *args, pixels=pixels) for pixels in ("mean", "drawn")}

    index = np.arange(5)
    drawn = lambda *args: jax.device_get(draw(start(task), *args))  # noqa: E731
    wholes, parts = drawn(4, index, np.arange(5)), drawn(4, index[3:0:-1], None)
    others = drawn(5, index, np.arange(5))
    for pixels, whole in wholes.items():
        assert whole.shape == (5, *SHAPE) and np.abs(whole).max() <= 1
        np.testing.assert_allclose(parts[pixels], whole[3:0:-1], atol=1e-5)
        assert np.abs(others[pixels] - whole).max() > 1e-3
        assert np.abs(whole[0] - whole[1]).max() > 1e-3


def test_codes_decode_to_the_reconstruction():
    task = make()
    image = batch()["image"]
    z = call(task, "encode", image)
    mean, log_var = call(task, "posterior", image)
    assert z.shape == mean.shape == log_var.shape == (B, LATENT)
    np.testing.assert_array_equal(z, mean)
    decoded = call(task, "decode", z)
    np.testing.assert_allclose(call(task, "reconstruct", image), decoded, atol=1e-6)
    assert decoded.shape == image.shape
    # Labels are taken, as evaluators give them, and not read.
    np.testing.assert_array_equal(call(task, "encode", image, jnp.arange(B)), z)


def test_what_is_encoded_is_what_is_modelled():
    """A Bernoulli model never sees the grey of a pixel."""
    task = make(dict(type="bernoulli"), "none")
    image = batch()["image"]
    binary = np.where(image > 0, np.float32(1), np.float32(-1))
    np.testing.assert_array_equal(call(task, "encode", image), call(task, "encode", binary))
    a, b = (evaluate(task, start(task), {"image": x}).loss for x in (image, binary))
    np.testing.assert_array_equal(a, b)


def test_bits_are_given_where_they_are_of_a_mass():
    density = make(dict(type="gaussian"))
    assert "bits_per_dim" not in call(density, "elbo", 0, batch())
    assert "bits_per_dim" in call(make(dict(type="gaussian", levels=17)), "iwae", 0, batch())


def test_validation_loss_is_the_training_loss():
    task = make(beta=2.0)
    got = call(task, "validation_loss", 0, batch())
    assert got["loss"].shape == (B,)
    np.testing.assert_allclose(got["loss"], 2 * got["kl"] - got["log_likelihood"], rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(likelihood=dict(type="logistik")), "did you mean 'logistic'"),
        (dict(likelihood="logistic"), "task.likelihood is a section"),
        (dict(likelihood=dict(type="bernoulli", binarise="half")), "'threshold' or 'sample'"),
        (dict(scale="none"), "set model.scale to 'shared' or 'pixel'"),
        (dict(likelihood=dict(type="gaussian", std=0.1)), "set model.scale='none'"),
        (dict(beta=-1.0), "task.beta=-1.0 must be at least 0"),
        (dict(samples=0), "task.samples=0 must be at least 1"),
        (dict(free_groups=3), "free_groups=3 does not divide model.latent=4"),
        (dict(free_over="batches"), "'batch' or 'example'"),
        (dict(importance_weighted=True, beta=2.0), "leave task.beta at 1"),
        (dict(num_classes=10), "unknown key of task 'vae': 'num_classes'"),
        (dict(betta=2.0), "did you mean 'beta'"),
    ],
    ids=str,
)
def test_a_wrong_section_is_one_line(change, said):
    with pytest.raises(ValueError, match=said) as error:
        make(**change)
    assert "\n" not in str(error.value)


def test_the_network_must_be_an_autoencoder():
    mlp = build_model("mlp", out_channels=2)
    section = {"type": "vae", "likelihood": {"type": "bernoulli"}}
    with pytest.raises(ValueError, match="task 'vae' trains a model of type 'vae', not MLP"):
        make_task(section, mlp, SHAPE, 0)
    with pytest.raises(ValueError, match="pixels 'means'; did you mean 'mean'"):
        make().sample(start(make()), 0, jnp.arange(2), pixels="means")
