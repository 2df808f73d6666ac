"""Which parameters a weight decay shrinks: of CLIP all but gains, biases and the two scalars."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs.clip.networks import CLIP_NETWORKS
from configs.clip.openai import get_config
from configs.clip.siglip import get_config as siglip
from diffjax.models import build_model
from diffjax.train.optim import Optimizer, make_optimizer, weight_decay_mask

PARAMS = {
    "blocks": {"kernel": jnp.ones((3, 4, 4)), "bias": jnp.ones((3, 4))},
    "norm": {"scale": jnp.ones((3, 4))},
    "words": {"table": jnp.ones((5, 4)), "positions": jnp.ones((7, 4))},
    "class_token": jnp.ones((4,)),
    "logit_scale": jnp.ones(()),
}


@pytest.mark.parametrize("kind", ["adamw", "lion"])
@pytest.mark.parametrize("tables", [False, True])
def test_tables_are_decayed_where_it_is_asked(kind, tables):
    choice = Optimizer(type=kind, lr=0.1, weight_decay=0.5, decay_tables=tables)
    optimizer = make_optimizer(choice, 10)
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    updates, _ = optimizer.update(zero, optimizer.init(PARAMS), PARAMS)
    after = optax.apply_updates(PARAMS, updates)
    shrunk = jax.tree.map(lambda x: float(x.reshape(-1)[0]), after)
    assert shrunk["blocks"] == {"kernel": pytest.approx(0.95), "bias": 1.0}
    assert shrunk["norm"]["scale"] == shrunk["class_token"] == shrunk["logit_scale"] == 1.0
    expected = pytest.approx(0.95 if tables else 1.0)
    assert shrunk["words"] == {"table": expected, "positions": expected}


@pytest.mark.parametrize("name", ["vit_b_32", "rn50"])
def test_clip_decays_what_open_clip_decays(name):
    """Its rule: parameters of fewer than two dimensions are left alone, all others are decayed."""
    network = build_model(**CLIP_NETWORKS[name])
    side = CLIP_NETWORKS[name]["image"]["image_size"]
    shapes = jax.eval_shape(
        lambda: network.init(
            jax.random.key(0), jnp.zeros((1, side, side, 3)), jnp.zeros((1, 77), jnp.int32)
        )
    )["params"]
    optim = get_config(name).optim
    assert optim.decay_tables and optim.weight_decay == 0.2
    mask = weight_decay_mask(shapes, optim.decay_tables)
    assert mask == jax.tree.map(lambda leaf: leaf.ndim >= 2, shapes)
    tables = sum(
        leaf.size
        for leaf, now, before in zip(
            *map(jax.tree.leaves, (shapes, mask, weight_decay_mask(shapes))), strict=True
        )
        if now and not before
    )
    image = 50 * 768 if name == "vit_b_32" else 50 * 2048
    assert tables == (49_408 + 77) * 512 + image


def test_siglip_decays_kernels_alone_as_big_vision_does():
    assert not siglip().optim.get("decay_tables", False)


@pytest.mark.parametrize(
    "choices",
    [{"type": "adam"}, {"type": "adamw"}, {"type": "muon", "weight_decay": 0.1}],
)
def test_an_option_that_is_not_read_is_refused(choices):
    with pytest.raises(ValueError, match=r"decay_tables=True is not read"):
        Optimizer(decay_tables=True, **choices)
    np.testing.assert_equal(Optimizer(**choices).decay_tables, False)
