"""unCLIP's chain of stages: what a sample of it depends on, whatever its networks are."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from diffjax.denoisers.conditions.given import GivenCondition
from diffjax.denoisers.experts import TwoExperts
from diffjax.denoisers.model import DiffusionModel
from diffjax.denoisers.spaces import DataSpace
from diffjax.denoisers.unclip import UnCLIPInputs
from diffjax.diffusion.levels import Level
from diffjax.diffusion.predictions import X0
from diffjax.diffusion.schedules import Cosine
from diffjax.generate.unclip import (
    STAGES,
    UnCLIP,
    draw_embedding,
    draw_large,
    draw_unclip,
)
from diffjax.keys import stage_seed
from diffjax.models import build_model
from diffjax.task import Variables

E, L, SMALL, LARGE, EOT = 4, 5, (2, 2, 1), (4, 4, 1), 9
TOKENS = np.array([[1, 3, EOT, 0, 0], [1, 4, 5, EOT, 0], [1, EOT, 0, 0, 0]])
EMPTY = np.array([[1, EOT, 0, 0, 0]] * 3)
INDEX = np.array([0, 1, 2])
RECIPE = {"sampler": "ddpm", "spacing": "linspace", "steps": 3, "clip": True}


class Reader(nn.Module):
    """A network of one layer that reads all it is given."""

    @nn.compact
    def __call__(self, x, c_noise, cond, *, train=False):
        seen = [x, cond.vector, cond.context, cond.concat]
        flat = [a.reshape(len(x), -1) for a in seen if a is not None]
        h = jnp.concatenate([*flat, c_noise[:, None] / 1000], axis=-1)
        return jnp.tanh(nn.Dense(x[0].size)(h)).reshape(x.shape)


def model_of(kind, shape):
    return kind(Reader(), DataSpace(shape), Cosine(), X0(), (GivenCondition(),))


def filled(key, network, *args):
    """Variables of random values."""
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), *args))
    rng = np.random.default_rng(key)
    return jax.tree.map(lambda s: 0.5 * rng.standard_normal(s.shape, np.float32), shapes)


@pytest.fixture(scope="module")
def chain():
    tower = build_model(type="text", embed=E, width=E, depth=1, heads=1, context=L, vocab=10)
    projection = build_model(type="clip_projection", vector_width=3, context_width=2, tokens=2)
    inputs = UnCLIPInputs(tower, projection, EOT)
    text = filled(0, tower, TOKENS)
    read = inputs.read(text, TOKENS)
    image = jnp.zeros((3, E))
    between = filled(1, projection, image, read.embedding, read.features, read.mask)
    given = [
        inputs.of_prior(read),
        inputs.of_decoder(between, image, read),
        inputs.of_upsampler(jnp.zeros((3, *SMALL)), LARGE[:2]),
    ]
    models, variables = {}, {}
    for key, (stage, shape, cond) in enumerate(
        zip(STAGES, ((E,), SMALL, LARGE), given, strict=True)
    ):
        kind = TwoExperts if stage == "upsampler" else DiffusionModel
        models[stage] = model_of(kind, shape)
        args = (jnp.zeros((3, *shape)), jnp.zeros(3), cond)
        params = [filled(10 * key + k, Reader(), *args)["params"] for k in range(2)]
        both = dict(zip(("first", "last"), params, strict=True))
        own = both if kind is TwoExperts else params[0]
        variables[stage] = Variables(own, {}, {})
    recipes = {stage: {**RECIPE, "guidance": 2.0} for stage in STAGES[:2]} | {"upsampler": RECIPE}
    mean, std = np.full(E, 0.3, "f4"), np.full(E, 2.0, "f4")
    return UnCLIP(inputs, models, variables, text, between, mean, std, recipes)


def draw(chain, tokens=TOKENS, index=INDEX, negative=EMPTY, seed=3, **more):
    return np.asarray(draw_unclip(chain, tokens, negative, seed, index, **more))


def test_a_sample_is_its_own_texts_and_index_alone(chain):
    y = draw(chain)
    assert y.shape == (3, *LARGE) and np.abs(y).max() <= 1
    turned = draw(chain, TOKENS[::-1], INDEX[::-1])[::-1]
    np.testing.assert_allclose(y, turned, rtol=1e-4, atol=1e-5)
    for change in (dict(tokens=TOKENS[[1, 0, 2]]), dict(negative=TOKENS), dict(seed=4)):
        moved = np.abs(draw(chain, **change) - y).max(axis=(1, 2, 3))
        assert moved[:2].min() > 1e-4


def test_what_follows_the_end_of_a_text_changes_nothing(chain):
    after = np.where(np.cumsum(TOKENS == EOT, axis=1) - (TOKENS == EOT) > 0, EOT, TOKENS)
    assert (after != TOKENS).any()
    a, b = (chain.inputs.read(chain.text, ids) for ids in (TOKENS, after))
    np.testing.assert_array_equal(a.mask, [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 0, 0, 0]])
    np.testing.assert_array_equal(a.mask, b.mask)
    seen = np.asarray(a.mask)[..., None]
    np.testing.assert_allclose(seen * a.features, seen * b.features, rtol=1e-5, atol=1e-6)


def test_every_stage_has_noise_of_its_own_and_takes_a_given_one(chain):
    words = [tuple(np.asarray(stage_seed(3, stage))) for stage in STAGES]
    assert len(set(words)) == 3
    noise = {"decoder": np.ones((3, *SMALL), "f4")}
    assert np.abs(draw(chain, noise=noise) - draw(chain)).max() > 1e-4


def test_the_last_step_is_the_second_experts(chain):
    small = jnp.linspace(-1, 1, 12).reshape(3, *SMALL)
    own = chain.variables["upsampler"]
    first, last = own.params["first"], own.params["last"]

    def large(**params):
        variables = {**chain.variables, "upsampler": own._replace(params=params)}
        return np.asarray(draw_large(replace(chain, variables=variables), small, 3, INDEX))

    one = model_of(DiffusionModel, LARGE)
    plain = replace(
        chain,
        models={**chain.models, "upsampler": one},
        variables={**chain.variables, "upsampler": own._replace(params=first)},
    )
    alone = np.asarray(draw_large(plain, small, 3, INDEX))
    np.testing.assert_allclose(large(first=first, last=first), alone, rtol=1e-5, atol=1e-6)
    assert np.abs(large(first=first, last=last) - alone).max() > 1e-3
    assert np.abs(large(first=last, last=first) - alone).max() > 1e-4
    with pytest.raises(ValueError, match="one level for all rows"):
        chain.models["upsampler"].estimate(
            own.params, jnp.zeros((3, *LARGE)), Level(*jnp.ones((3, 3))), None
        )


def test_stages_and_options_that_there_are_not_are_named(chain):
    with pytest.raises(ValueError, match="unknown stage of unCLIP 'priors'"):
        draw(chain, options={"priors": {}})
    with pytest.raises(ValueError, match="step"):
        draw(chain, options={"prior": {"step": 3}})
    other = draw(chain, options={"decoder": {"sampler": "ddim", "steps": 4}})
    assert np.isfinite(other).all()


def test_embeddings_are_brought_back_from_standard_units(chain):
    """The prior's estimates are clipped to its own range, whatever the data's deviation."""
    e = np.asarray(draw_embedding(chain, TOKENS, EMPTY, 3, INDEX))
    unit = replace(chain, mean=np.zeros(E, "f4"), std=np.ones(E, "f4"))
    raw = np.asarray(draw_embedding(unit, TOKENS, EMPTY, 3, INDEX))
    np.testing.assert_allclose(e, 2 * raw + 0.3, rtol=1e-5)
    for more, bound in (({}, 1.0), ({"clip_range": 1.5}, 1.5)):
        strong = draw_embedding(unit, TOKENS, EMPTY, 3, INDEX, guidance=30.0, **more)
        assert np.abs(strong).max() == pytest.approx(bound)
