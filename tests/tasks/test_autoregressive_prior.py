"""Laws of an autoregressive prior: its codes, its loss, how it draws, and that it learns."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from random_variables import random_variables

from diffjax.denoisers.codes import CODES, Codes, dequantise, fit_codes, quantise
from diffjax.denoisers.conditions import make_conditions
from diffjax.denoisers.conditions.text import FrozenTower
from diffjax.denoisers.embeddings import EmbeddingSpace, ImageTower, scaled
from diffjax.denoisers.spaces import DataSpace
from diffjax.generate import codes as drawing
from diffjax.keys import Rng
from diffjax.models import build_model
from diffjax.task import Variables
from diffjax.tasks import make_task

SHAPE, B, L, E, K, V, D, VOCAB = (8, 8, 3), 4, 5, 6, 4, 8, 4, 20
NULL_IDS = (18, 19, 0, 0, 0)
ENCODER = build_model(
    "clip_image", embed=E, image=dict(type="vit", width=8, depth=1, heads=2, patch=4, image_size=8)
)
TEXT = build_model("text", embed=E, width=8, depth=1, heads=2, context=L, vocab=VOCAB)
NETWORK = dict(type="prior_ar", components=K, buckets=V, dot_buckets=D, width=16, depth=1, heads=2,
               context_length=L, vector_dim=E)  # fmt: skip


@functools.cache
def prior_task(drop=0.5, to="both", text=TEXT, **changes):
    space = EmbeddingSpace(ImageTower(ENCODER))
    sections = {"caption": dict(type="text", tower={}, to=to, drop=drop)}
    conditions = make_conditions(sections, 0, space, {"caption": FrozenTower(text, NULL_IDS)})
    given = {"conditions": conditions, "space": space}
    section = dict(type="autoregressive_prior")
    return make_task(section, build_model(**{**NETWORK, **changes}), SHAPE, 0, given)


def batch(count=B):
    random = np.random.default_rng(0)
    image = random.uniform(-1, 1, (count, *SHAPE)).astype(np.float32)
    return {"image": image, "tokens": random.integers(0, 18, (count, L)).astype(np.int32)}


def spec():
    return {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in batch().items()}


@functools.cache
def variables(task):
    """Random towers and networks, and the codes of these towers' embeddings."""
    held = random_variables(task.init, spec(), std=0.3)
    some = batch(64)
    x = task.model.space.encode(held.frozen, some["image"])
    text = task.model.text.embedding(held.frozen, some["tokens"])
    cosines = (scaled(x) * scaled(text)).sum(-1) / E
    fitted = fit_codes([np.asarray(x)], np.asarray(cosines), D)
    return held._replace(frozen={**held.frozen, CODES: fitted})


@functools.partial(jax.jit, static_argnums=(0, 1))
def losses(task, train, held, given, rows):
    return task.loss(*held, given, Rng(jax.random.key(7), rows, B), train).loss


def loss(task, rows=range(B), train=True, held=None):
    rows = np.asarray(rows, np.int32)
    given = {k: v[rows] for k, v in batch().items()}
    return np.asarray(losses(task, train, held or variables(task), given, rows))


def sample(task, rows=range(B), seed=0, held=None, **recipe):
    rows = np.asarray(rows, np.int32)
    fn = task.predict_fns()["sample"]
    cond = {"tokens": batch()["tokens"][rows]}
    return np.asarray(fn(held or variables(task), np.int32(seed), rows, cond, **recipe))


def test_codes_are_half_a_bucket_from_what_they_stand_for():
    random = np.random.default_rng(1)
    low, high = np.float32([-3, 0, 5]), np.float32([-1, 10, 5.5])
    x = random.uniform(low, high, (200, 3)).astype(np.float32)
    codes = quantise(x, low, high, 16)
    assert set(np.unique(codes)) == set(range(16)) and codes.dtype == jnp.int32
    back = dequantise(codes, low, high, 16)
    assert (np.abs(back - x) <= (high - low) / 32 * (1 + 1e-5)).all()
    np.testing.assert_array_equal(quantise(back, low, high, 16), codes)
    beyond = np.stack([low - 7, high, high + 7])
    np.testing.assert_array_equal(quantise(beyond, low, high, 16), [[0] * 3, [15] * 3, [15] * 3])


def test_the_training_set_lies_between_the_ends_and_its_cosines_in_equal_shares():
    random = np.random.default_rng(2)
    x = random.standard_normal((400, E)).astype(np.float32) * np.arange(1, E + 1)
    cosines = random.uniform(-0.3, 0.9, 400)
    held, codes = fit_codes(np.split(x, [7, 100]), cosines, D), Codes(E, E, 64, D)
    found = np.asarray(codes.encode(held, x))
    assert (found.min(axis=0) == 0).all() and (found.max(axis=0) == 63).all()
    half = (held["high"] - held["low"]) / 128
    off = codes.decode(held, found) - x
    assert np.linalg.norm(off, axis=1).max() <= np.linalg.norm(half) * (1 + 1e-4)
    text = np.zeros((400, 2))
    text[:, 0] = 1
    image = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)
    buckets = np.bincount(codes.dots(held, text, image), minlength=D)
    assert np.abs(buckets - 100).max() <= 1
    assert {k: v.shape for k, v in held.items()} == {k: v.shape for k, v in codes.init().items()}


def test_a_gaussians_codes_cost_what_their_buckets_weigh():
    """The masses of all buckets of a dimension sum to one; on data of that law, their entropy."""
    x = (np.random.default_rng(3).standard_normal((5000, 2)) * [3.0, 1.0]).astype(np.float32)
    held, codes = fit_codes([x], None, 0), Codes(2, 2, 32)
    every = np.tile(np.arange(32)[:, None], 2)
    mass = np.exp(-np.asarray(codes.gaussian_nats(held, every), np.float64))
    np.testing.assert_allclose(mass.sum(axis=0), 1, rtol=1e-4)
    found = np.asarray(codes.encode(held, x))
    shares = np.stack([np.bincount(found[:, k], minlength=32) for k in (0, 1)], axis=1) / len(x)
    entropy = -(shares * np.log(np.maximum(shares, 1e-30))).sum(axis=0)
    got = np.asarray(codes.gaussian_nats(held, found)).mean(axis=0)
    np.testing.assert_allclose(got, entropy, atol=0.01)


def test_the_top_of_the_cosines_is_drawn_from():
    codes, u = Codes(E, K, V, 8), jnp.linspace(0, 1, 4000, endpoint=False)
    for top, lowest in ((0.5, 4), (0.25, 6), (1.0, 0)):
        counts = np.bincount(codes.top_dots(u, top), minlength=8)
        assert counts[:lowest].sum() == 0
        np.testing.assert_allclose(counts[lowest:], 4000 / (8 - lowest), atol=2)


def test_a_row_of_a_batch_has_the_loss_that_it_has_alone():
    whole = loss(prior_task())
    assert whole.shape == (B,) and np.isfinite(whole).all() and whole.std() > 0
    np.testing.assert_allclose(loss(prior_task(), [2, 3]), whole[2:], rtol=1e-4)


def test_the_loss_is_the_cross_entropy_of_the_logits():
    task = prior_task()
    held = variables(task)

    @jax.jit
    def drawn():
        _, codes, prefix = task.draw(held.params, held.frozen, batch(), None)
        return codes, task.model.logits(held.params, codes[:, :-1], prefix)

    codes, logits = (np.asarray(x) for x in drawn())
    logits = logits.astype(np.float64)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -np.take_along_axis(logp, codes[..., None], -1).mean((1, 2))
    np.testing.assert_allclose(loss(task, train=False), expected, rtol=1e-4)


def test_a_dropped_text_is_dropped_whole_with_its_cosine():
    held = variables(prior_task())
    rng = Rng(jax.random.key(7), np.arange(B), B)
    _, _, dropped = prior_task(drop=1.0).draw(held.params, held.frozen, batch(), rng)
    null = {**batch(), "tokens": np.tile(np.asarray(NULL_IDS, np.int32), (B, 1))}
    _, _, silent = prior_task().draw(held.params, held.frozen, null, None)
    jax.tree.map(np.testing.assert_array_equal, dropped, silent)
    assert (dropped.dots == D).all()
    _, _, kept = prior_task().draw(held.params, held.frozen, batch(), None)
    assert (kept.dots < D).all() and len(set(np.asarray(kept.dots).tolist())) > 1


def test_only_the_network_is_trained():
    task = prior_task()
    held = variables(task)

    def mean(params, frozen):
        rng = Rng(jax.random.key(7), np.arange(B), B)
        return task.loss(params, {}, frozen, batch(), rng, True).loss.mean()

    own, frozen = jax.jit(jax.grad(mean, argnums=(0, 1)))(held.params, held.frozen)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(own))
    towers = {k: v for k, v in frozen.items() if k != CODES}
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(towers))


def test_likelihoods_stand_beside_those_of_nothing_learned():
    """An untrained network pays log V; the share explained is that of decoded codes."""
    task = prior_task()
    got = jax.jit(task.code_likelihood)(variables(task), np.uint32(0), batch())
    assert all(value.shape == (B,) for value in got.values())
    np.testing.assert_allclose(got["untrained_nats"], np.log(V), rtol=1e-5)
    np.testing.assert_allclose(got["nats"], loss(task, train=False), rtol=1e-5)
    np.testing.assert_allclose(got["bits"], got["nats"] / np.log(2), rtol=1e-5)
    fine = prior_task(components=E, buckets=4096)
    held = variables(task)
    held = held._replace(params=random_variables(fine.init, spec()).params)
    got = jax.jit(fine.code_likelihood)(held, np.uint32(0), batch(64))
    assert got["explained"].min() > 0.999


def test_samples_are_the_rows_own_and_of_one_length():
    task = prior_task()
    drawn = sample(task, guidance=2.0)
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=-1), E**0.5, rtol=1e-5)
    np.testing.assert_allclose(sample(task, [1, 3], guidance=2.0), drawn[[1, 3]], atol=2e-5)
    assert np.abs(drawn - sample(task, seed=1, guidance=2.0)).max() > 1e-3


def test_the_coldest_draw_is_the_most_probable_code_each_time():
    """Against whole sequences, code by code without a cache; the cosine is of the top bucket."""
    task = prior_task()
    held, model = variables(task), task.model
    cond = {"caption": jnp.asarray(batch()["tokens"])}
    codes = jnp.zeros((B, 0), jnp.int32)

    @jax.jit
    def last(codes):
        prefix = model.prefix(held.params, held.frozen, cond, jnp.full(B, D - 1))
        return model.logits(held.params, codes, prefix)[:, -1:].argmax(-1)

    for _ in range(K):
        codes = jnp.concatenate([codes, last(codes)], axis=1)
    expected = scaled(model.codes.decode(held.frozen[CODES], codes))
    np.testing.assert_allclose(sample(task, temperature=0.0, top=0.01), expected, atol=1e-5)


def test_guidance_of_scale_one_is_none():
    task = prior_task()
    np.testing.assert_array_equal(sample(task, guidance=1.0), sample(task))
    assert np.abs(sample(task, guidance=4.0) - sample(task)).max() > 1e-3
    a, b = np.random.default_rng(0).standard_normal((2, 3, V)).astype(np.float32)
    np.testing.assert_array_equal(drawing.mix(a, b, np.float32(1)), a)
    np.testing.assert_allclose(drawing.mix(a, b, np.float32(0)), b, atol=1e-6)
    np.testing.assert_allclose(drawing.mix(a, b, np.float32(3)), b + 3 * (a - b), atol=1e-5)


def test_a_single_code_is_drawn_by_the_prefix_alone():
    task = prior_task(components=1)
    held = variables(task)
    some = jax.jit(
        lambda n: task.predict_fns()["sample"](held, n, jnp.arange(B), batch()["tokens"])
    )
    drawn = np.asarray(some(np.uint32(0)))
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=-1), E**0.5, rtol=1e-5)
    middles = np.asarray(task.model.codes.decode(held.frozen[CODES], jnp.arange(V)[:, None]))
    near = np.abs(drawn[:, None] - np.asarray(scaled(middles))).max(axis=-1).min(axis=1)
    assert near.max() < 1e-4


def test_guided_draws_without_chance_are_those_of_scale_one_near_it():
    """Both branches go through the cache; the scale is a number of one program."""
    task = prior_task()
    near = sample(task, guidance=1 + 1e-6, temperature=0.0, top=0.01)
    np.testing.assert_allclose(near, sample(task, temperature=0.0, top=0.01), atol=1e-5)


def test_a_planted_law_is_learned():
    """Texts of the word a or b, codes that follow from it and from one another."""
    count, random = 256, np.random.default_rng(5)
    task = prior_task(drop=0.1, components=3, buckets=4, dot_buckets=0)
    word = random.integers(0, 2, count)
    first = np.where(random.uniform(size=count) < 0.9, word, 2 + word)
    codes = np.stack([first, (first + 1) % 4, np.full(count, 3)], axis=1).astype(np.int32)
    tokens = np.tile(np.int32([18, 5, 19, 0, 0]), (count, 1))
    tokens[:, 1] = 5 + word
    model, held = task.model, variables(prior_task())
    frozen = {k: v for k, v in held.frozen.items() if k != CODES} | {
        CODES: {k: v for k, v in held.frozen[CODES].items() if k != "dots"}
    }
    fresh = jax.jit(lambda k: task.init(k, spec()).params)(jax.random.key(0))
    optimizer = optax.adam(0.01)
    cond, dots = {"caption": jnp.asarray(tokens)}, jnp.zeros(count, jnp.int32)

    @jax.jit
    def mean(params):
        return model.nats(params, codes, model.prefix(params, frozen, cond, dots)).mean()

    @jax.jit
    def step(params, state):
        update, state = optimizer.update(jax.grad(mean)(params), state)
        return optax.apply_updates(params, update), state

    params, state = fresh, optimizer.init(fresh)
    for _ in range(120):
        params, state = step(params, state)
    entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1)) / 3
    assert mean(fresh) == pytest.approx(np.log(4), rel=1e-5)
    assert entropy - 0.03 < mean(params) < entropy + 0.03
    trained, n = Variables(params, {}, frozen), 400
    draw = jax.jit(functools.partial(drawing.draw_codes, model, False, "sample"))
    recipe = drawing.numbers(drawing.CodeRecipe())
    asked = np.tile(tokens[word == 1][:1], (n, 1))
    x = draw(recipe, trained, np.uint32(1), np.arange(n), {"tokens": asked})
    wanted = scaled(model.codes.decode(frozen[CODES], np.int32([[1, 2, 3], [3, 0, 3]])))
    near = np.linalg.norm(x[:, None] - wanted, axis=-1) < 1e-3
    shares = near.mean(axis=0)
    assert shares.sum() > 0.97 and abs(shares[0] - 0.9) < 4 * (0.09 / n) ** 0.5 + 0.03


DECODER = dict(type="dit", width=16, depth=1, heads=2, patch=4, out_channels=3,
               cross_attention=True, vector_dim=E)  # fmt: skip


def decoder_task(prior, best_of):
    section = dict(type="image_embedding", tower={}, drop=0.5, tokens=2)
    conditions = make_conditions(
        {"clip": section}, 0, DataSpace(SHAPE), {"clip": ImageTower(ENCODER)}
    )
    recipe = (("best_of", best_of), ("temperature", 0.5))
    given = {"conditions": conditions, "prior": prior.model, "prior_recipe": recipe}
    diffusion = dict(type="diffusion", schedule=dict(type="cosine"), prediction=dict(type="x0"))
    return make_task(diffusion, build_model(**DECODER), SHAPE, 0, given)


def test_a_decoder_draws_by_text_through_either_kind_of_prior():
    prior = prior_task()
    two, one = (decoder_task(prior, n) for n in (2, 1))
    own = variables(prior)
    held = random_variables(two.init, spec(), std=0.3)
    assert two.model.fields == ["tokens"]
    assert jax.tree.structure(held.frozen["prior"]["frozen"]) == jax.tree.structure(own.frozen)
    held = held._replace(
        frozen={**held.frozen, "prior": {"params": own.params, "frozen": own.frozen}}
    )
    draw = lambda task, rows=slice(None), **kw: np.asarray(  # noqa: E731
        task.predict_fns()["sample"](
            held, np.int32(0), np.arange(B)[rows], {"tokens": batch()["tokens"][rows]}, steps=2
        )
    )
    both = draw(two)
    np.testing.assert_allclose(draw(two, [1, 3]), both[[1, 3]], atol=2e-5)
    same = np.isclose(both, draw(one), atol=1e-6).reshape(B, -1).all(axis=1)
    assert same.any() and not same.all()


def test_what_cannot_be_is_one_line():
    with pytest.raises(ValueError, match=r"components=7, but the embeddings have 6 elements"):
        prior_task(components=7).model.codes  # noqa: B018
    with pytest.raises(ValueError, match=r"dot_buckets=1 says nothing"):
        prior_task(dot_buckets=1)
    with pytest.raises(ValueError, match=r"text condition with to='both'"):
        prior_task(to="context")
    wide = build_model("text", embed=9, width=8, depth=1, heads=2, context=L, vocab=VOCAB)
    task = prior_task(text=wide, vector_dim=9)
    with pytest.raises(ValueError, match=r"has 9 elements, an image's 6"):
        jax.eval_shape(lambda k: task.init(k, spec()), jax.random.key(0))
    with pytest.raises(ValueError, match="trains a model of type 'prior_ar', not DiT"):
        replace(prior_task().model, network=build_model(**DECODER))
    with pytest.raises(ValueError, match="add a section embedding"):
        replace(prior_task().model, space=DataSpace(SHAPE))
    with pytest.raises(ValueError, match=r"caption.drop=0: train with drop > 0"):
        prior_task(drop=0.0).nfe(guidance=2.0)
    for option in (dict(temprature=1), dict(temperature=-1), dict(top=0), dict(steps=3)):
        with pytest.raises(ValueError, match=next(iter(option))):
            prior_task().nfe(**option)
    assert prior_task().nfe(guidance=2.0) == {
        "guidance": 2.0, "temperature": 1.0, "top": 0.5, "nfe": K}  # fmt: skip
