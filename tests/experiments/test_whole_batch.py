"""Losses that see a whole batch refuse to be split in silence."""

import jax
import pytest

from diffjax.assembly.whole_batch import check_whole_batch
from diffjax.models import build_model
from diffjax.tasks import make_task
from diffjax.train.loop import TrainConfig
from diffjax.train.sharding import make_mesh


def vae(**section):
    part = dict(type="mlp", width=4, depth=1)
    network = build_model("vae", image_shape=(4, 4, 1), latent=2, encoder=part, decoder=part)
    given = {"type": "vae", "likelihood": {"type": "bernoulli"}, **section}
    return make_task(given, network, (4, 4, 1), 0)


def check(task, accum):
    choices = TrainConfig(steps=1, batch_size=8 * jax.device_count(), grad_accum=accum)
    check_whole_batch(task, choices, make_mesh())


def test_free_bits_of_a_batch_mean_refuse_microbatches():
    with pytest.raises(ValueError, match=r"set task\.free_over='example'") as error:
        check(vae(free_bits=0.1), 2)
    assert "\n" not in str(error.value)
    check(vae(free_bits=0.1), 1)
    check(vae(free_bits=0.1, free_over="example"), 2)
    check(vae(free_groups=2), 2)
