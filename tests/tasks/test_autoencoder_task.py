"""The autoencoder's loss: each term reaches its own parameters, with the weight of the paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_variables import random_variables

from diffjax.keys import Rng
from diffjax.models import build_model
from diffjax.models.convnet import ConvNet
from diffjax.models.perceptual import Perceptual
from diffjax.objectives.adversarial import DELTA, GAN_LOSSES
from diffjax.objectives.elbo import kl_to_prior
from diffjax.tasks import make_task

SHAPE, B = (8, 8, 3), 4
RIVAL = {"type": "patch", "channels": 8, "layers": 1}
START = 5
KEY = jax.random.key(0)
# One level: what halves is the network's own matter.
TINY = dict(channels=4, channel_mult=(1,), blocks=1, norm_groups=2, latent_channels=3, codes=6)


def make(bottleneck="kl", discriminator=RIVAL, norm="none", decay=None, perceptual=True, **section):
    network = build_model("autoencoder", bottleneck=bottleneck, code_decay=decay, **TINY)
    seen = Perceptual(ConvNet(3, channels=(8,), norm_groups=2), heads=False)
    part = {} if discriminator is None else {"discriminator": {**discriminator, "norm": norm}}
    section = {"type": "autoencoder", "kl_weight": 0.1, "disc_start": START, **part, **section}
    return make_task(section, network, SHAPE, 0, {"perceptual": seen} if perceptual else {})


def images():
    return jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (B, *SHAPE)), jnp.float32)


def variables(task):
    held = random_variables(task.init, {})
    return held._replace(model_state=jax.jit(lambda k: task.init(k, {}).model_state)(KEY))


def rng(step=START):
    return Rng(jax.random.key(1), jnp.arange(B), B, jnp.int32(step))


def gradient(task, held, step=START):
    def mean(params):
        out = task.loss(params, held.model_state, held.frozen, {"image": images()}, rng(step), True)
        return out.loss.mean(), out

    grads, out = jax.jit(jax.grad(mean, has_aux=True))(held.params)
    return grads, out


def by_definition(task, held):
    """The gradient of every part, and the weight, written out without any sharing."""
    net, discriminator, x = task.network, task.discriminator, images()
    noise = jax.vmap(lambda k: jax.random.normal(k, SHAPE))(rng().rowwise("posterior"))
    params = {k: v for k, v in held.params.items() if k != "discriminator"}
    judge = lambda p, x: discriminator.apply({"params": p}, x)  # noqa: E731
    theirs = held.params["discriminator"]

    def terms(p):
        made, z = net.apply({"params": p}, x, noise)
        error = jnp.abs(made - x).mean((1, 2, 3))
        seen = 0.0
        if task.perceptual is not None:
            seen = task.perceptual.apply({"params": held.frozen["perceptual"]}, x, made)
        kl = kl_to_prior(z.mean, z.log_variance).sum((1, 2, 3)) / x[0].size
        return (
            (error + seen).mean(),
            GAN_LOSSES["hinge"].generator(judge(theirs, made)).mean(),
            kl.mean(),
        )

    last = lambda i: jax.grad(lambda p: terms(p)[i])(params)["decoder"]["conv_out"]["kernel"]  # noqa: E731
    weight = jnp.linalg.norm(last(0)) / (jnp.linalg.norm(last(1)) + DELTA)
    weights = (1.0, 0.5 * weight, 0.1)

    def total(p):
        return sum(w * t for w, t in zip(weights, terms(p), strict=True))

    made = net.apply({"params": params}, x, noise)[0]
    own = lambda d: GAN_LOSSES["hinge"].discriminator(judge(d, x), judge(d, made)).mean()  # noqa: E731
    loss = total(params) + own(theirs)
    return {**jax.grad(total)(params), "discriminator": jax.grad(own)(theirs)}, weights[1], loss


@pytest.mark.heavy
@pytest.mark.parametrize("perceptual", [False, True])
def test_the_loss_is_its_definition(perceptual):
    task = make(perceptual=perceptual)
    held = variables(task)
    grads, out = gradient(task, held)
    expected, weight, loss = jax.jit(lambda: by_definition(task, held))()
    np.testing.assert_allclose(out.metrics["disc_weight"], weight, rtol=1e-4)
    np.testing.assert_allclose(out.loss.mean(), loss, rtol=1e-5)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(grads), jax.tree.leaves(expected), strict=True
    ):
        scale = float(jnp.abs(b).max()) + 1e-6
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * scale, err_msg=str(path))


@pytest.mark.heavy
def test_before_its_start_the_adversary_is_not_there():
    task, without = make(), make(discriminator=None)
    held = variables(task)
    grads, out = gradient(task, held, step=START - 1)
    discriminator = grads.pop("discriminator")
    assert all((g == 0).all() for g in jax.tree.leaves(discriminator))
    own = {k: v for k, v in held.params.items() if k != "discriminator"}
    plain, alone = gradient(without, held._replace(params=own))
    np.testing.assert_allclose(out.loss, alone.loss, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-6), grads, plain)
    # In evaluation it never is.
    batch = {"image": images()}
    a, b = (t.validation_loss(held, jnp.int32(0), batch) for t in (task, without))
    assert set(a) == set(b) == {"loss", "error", "perceptual", "kl"}
    np.testing.assert_allclose(a["loss"], b["loss"])


@pytest.mark.heavy
def test_codes_that_are_averages_and_batch_statistics_move_together():
    task = make("vq", norm="batch", decay=0.5, disc_start=0)
    held = variables(task)
    assert set(held.model_state) == {"codebook", "batch_stats"}
    grads, out = gradient(task, held)
    assert "quantiser" not in grads
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), held.model_state, out.model_state)
    assert moved["codebook"]["quantiser"]["codes"]
    assert all(jax.tree.leaves(moved["batch_stats"]))
    # What diffusion is given knows nothing of the adversary.
    own = task.codec_variables(held)
    assert set(own) == {"params", "codebook"} and "discriminator" not in own["params"]
    index = task.codes(held, images())
    z = task.encode(held, images())
    table = held.model_state["codebook"]["quantiser"]["codes"]
    np.testing.assert_array_equal(index, jnp.square(z[..., None, :] - table).sum(-1).argmin(-1))


@pytest.mark.heavy
def test_codes_in_the_parameters_are_pulled_to_the_latents():
    task = make("vq", discriminator=None, perceptual=False, codebook_weight=2.0)
    held = variables(task)
    grads, out = gradient(task, held)
    z, table = task.encode(held, images()), held.params["quantiser"]["codes"]
    index = np.asarray(task.codes(held, images()))
    # d/dc mean (sg(z) - c)^2, twice, of the mean over all places.
    pull = np.zeros_like(table)
    np.add.at(pull, index.reshape(-1), np.asarray(table[index] - z).reshape(-1, 3))
    np.testing.assert_allclose(grads["quantiser"]["codes"], 4 * pull / z.size, rtol=1e-3, atol=1e-7)
    error = np.abs(
        np.asarray(task.network.apply(task.codec_variables(held), images())[0]) - images()
    )
    total = error.mean((1, 2, 3)) + 2.0 * 1.25 * out.metrics["commitment"]
    np.testing.assert_allclose(out.loss, total, rtol=1e-4)


@pytest.mark.heavy
def test_what_is_decoded_is_a_picture_and_what_is_encoded_is_the_mode():
    task = make(discriminator=None)
    held = variables(task)
    z = task.encode(held, images())
    assert z.shape == (B, 8, 8, 3)
    image = task.decode(held, 100.0 * z)
    assert image.shape == (B, *SHAPE) and float(jnp.abs(image).max()) <= 1.0
    same = task.perceptual_distance(held, images(), images())
    assert float(jnp.abs(same).max()) < 1e-6
    assert (task.perceptual_distance(held, images(), image) > 0).all()


def test_the_posterior_begins_where_it_is_told():
    def bias(**section):
        task = make(discriminator=None, perceptual=False, **section)
        return jax.jit(lambda k: task.init(k, {}).params["quant"]["bias"])(KEY)

    fixed, free = bias(log_variance=-6.0), bias()
    np.testing.assert_array_equal(fixed[3:], -6.0)
    np.testing.assert_array_equal(fixed[:3], free[:3])
    assert (free[3:] != -6.0).all()


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"game": "hing"}, "did you mean 'hinge'"),
        ({"disc_weight": -1.0}, "disc_weight=-1"),
        ({"discriminator": {"type": "patch", "chanels": 3}}, "did you mean 'channels'"),
        ({"discriminator": {"type": "patch", "name": "d"}}, "name"),
        ({"error": "l3"}, "'l1' or 'l2'"),
    ],
)
def test_a_wrong_section_is_one_line(section, said):
    with pytest.raises(ValueError, match=said) as error:
        make(**section)
    assert "\n" not in str(error.value)


def test_images_that_do_not_halve_are_refused():
    network = build_model("autoencoder", channels=4, channel_mult=(1, 2), norm_groups=2)
    with pytest.raises(ValueError, match="divisible by 2"):
        make_task({"type": "autoencoder"}, network, (9, 8, 3), 0)
