"""The network is told what the augmentation did while training, and nothing when sampling."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.edm.cifar10 import get_config
from diffjax.data.draws import Draws
from diffjax.data.transforms import apply, make_transforms
from diffjax.diffusion.predictions import PREDICTIONS
from diffjax.diffusion.schedules import SCHEDULES
from diffjax.keys import Rng
from diffjax.models.unet import UNet
from diffjax.task import Variables
from diffjax.tasks.diffusion import DiffusionTask, diffusion_task

ROWS = 4


class Listener(nn.Module):
    """Adds to every pixel what it makes of its label, zeros where it is told nothing."""

    augment_dim: int = 0

    @nn.compact
    def __call__(self, x, c_noise, cond=None, *, augment_labels=None, train=False):
        if not self.augment_dim:
            return x * self.param("gain", nn.initializers.ones, ())
        if augment_labels is None:
            augment_labels = jnp.zeros((len(x), self.augment_dim))
        heard = nn.Dense(x.shape[-1], use_bias=False, name="augment")(augment_labels)
        return x + heard[:, None, None]


def make(augment_dim: int) -> DiffusionTask:
    return diffusion_task(
        network=Listener(augment_dim),
        image_shape=(8, 8, 3),
        schedule=SCHEDULES["edm"](),
        prediction=PREDICTIONS["edm"](),
    )


def awake(shapes):
    """Every leaf random, as after some training."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: (0.3 * rng.standard_normal(s.shape)).astype(np.float32), shapes)


def variables_of(task: DiffusionTask) -> Variables:
    return awake(jax.eval_shape(lambda: task.init(jax.random.key(0), {})))


def batch(**extra):
    image = np.random.default_rng(1).uniform(-1, 1, (ROWS, 8, 8, 3)).astype(np.float32)
    return {"image": image, **extra}


@partial(jax.jit, static_argnums=(0, 3))
def losses(task, variables, batch, train):
    rng = Rng(jax.random.key(1), jnp.arange(ROWS), ROWS)
    return task.loss(*variables, batch, rng, train).loss


def loss(task, variables, batch, train):
    return np.asarray(losses(task, variables, batch, train))


def heard(row, number):
    """Labels of which one number of one row is 1."""
    labels = np.zeros((ROWS, 9), np.float32)
    labels[row, number] = 1
    return labels


NOTHING = np.zeros((ROWS, 9), np.float32)


@pytest.mark.parametrize("train", [True, False])
def test_each_row_answers_to_its_own_label(train):
    task = make(9)
    variables = variables_of(task)
    nothing = loss(task, variables, batch(augment=NOTHING), train)
    augment = heard(2, 4)
    changed = loss(task, variables, batch(augment=augment), train) != nothing
    np.testing.assert_array_equal(changed, [False, False, True, False])


def test_evaluation_without_labels_means_nothing_was_done():
    task = make(9)
    variables = variables_of(task)
    silent = loss(task, variables, batch(), train=False)
    zeros = loss(task, variables, batch(augment=NOTHING), train=False)
    np.testing.assert_array_equal(silent, zeros)


def test_samples_are_told_that_nothing_was_done():
    """Nothing that the label's layer holds can reach a sample."""
    task = make(9)
    variables = variables_of(task)
    other = {**variables.params, "augment": {"kernel": 5 + variables.params["augment"]["kernel"]}}
    draw = dict(seed=jnp.int32(0), index=jnp.arange(2), steps=3)
    got = task.predict_fns()["sample"](variables, **draw)
    np.testing.assert_array_equal(
        got, task.predict_fns()["sample"](variables._replace(params=other), **draw)
    )
    assert np.isfinite(got).all() and np.std(got) > 0


@pytest.mark.parametrize(
    "augment_dim, extra, train, message",
    [
        (9, {}, True, "model.augment_dim=9, but training batches have no 'augment': add"),
        (0, {"augment": NOTHING}, True, "'augment' of 9 numbers, but the network"),
        (0, {"augment": NOTHING}, False, "set model.augment_dim=9"),
        (5, {"augment": NOTHING}, True, "but the network takes 5"),
    ],
)
def test_a_label_without_an_ear_and_the_other_way_round(augment_dim, extra, train, message):
    task = make(augment_dim)
    with pytest.raises(ValueError) as error:
        loss(task, variables_of(task), batch(**extra), train)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_unet_hears_its_label_row_by_row_and_silence_as_zeros():
    network = UNet(
        channels=4,
        out_channels=3,
        channel_mult=(1,),
        blocks=1,
        attention_resolutions=(),
        norm_groups=2,
        augment_dim=9,
    )
    x, c_noise = batch()["image"], np.zeros(ROWS, np.float32)
    params = awake(jax.eval_shape(network.init, jax.random.key(0), x, c_noise))
    apply = jax.jit(lambda labels: network.apply(params, x, c_noise, augment_labels=labels))
    nothing = np.asarray(apply(NOTHING))
    np.testing.assert_array_equal(nothing, apply(None))
    changed = (apply(heard(2, 4)) != nothing).any((1, 2, 3))
    np.testing.assert_array_equal(changed, [False, False, True, False])


@pytest.mark.parametrize("which", ["vp", "ve"])
def test_the_published_config_makes_labels_of_the_width_its_network_takes(which):
    config = get_config(which)
    columns = {"image": np.zeros((2, 32, 32, 3), np.uint8)}
    made = apply(make_transforms(config.data.transforms), columns, Draws.at(0, np.arange(2)))
    assert made["augment"].shape == (2, config.model.augment_dim)
