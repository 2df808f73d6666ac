"""Laws of the conditions of a denoising network, and of diffusion in a codec's latents."""

import functools
from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_variables import random_variables

from diffjax.denoisers.conditions import make_conditions
from diffjax.denoisers.conditions.base import check_cond, drop_conditions, inputs_of
from diffjax.denoisers.conditions.text import FrozenTower
from diffjax.denoisers.spaces import DataSpace, LatentSpace
from diffjax.diffusion.guidance import Guidance
from diffjax.keys import Rng
from diffjax.models import build_model
from diffjax.models.autoencoder import Posterior
from diffjax.tasks import make_task

SHAPE, CLASSES, B, L, VOCAB = (8, 8, 3), 3, 6, 5, 20
BLANK = (18, 19, 0, 0, 0)
DIT = dict(type="dit", width=16, depth=1, heads=2, patch=4, out_channels=3)
SECTION = dict(type="diffusion", schedule=dict(type="cosine"), prediction=dict(type="v"))
TOWER = build_model("text", embed=8, width=8, depth=1, heads=2, context=L, vocab=VOCAB)
CODEC = build_model(
    "autoencoder", channels=4, channel_mult=(1,), patch=2, blocks=1, latent_channels=2,
    norm_groups=2, scale=1.5, shift=0.25,
)  # fmt: skip


class Identity(nn.Module):
    """A codec that does nothing."""

    factor, latent_channels, image_channels, bottleneck = 1, 3, 3, "none"
    scale, shift = 1.0, 0.0

    def __call__(self, x):
        return x

    def encode(self, x):
        return x

    def from_latents(self, z):
        return z


LABEL = dict(type="class", classes=CLASSES, drop=0.5)
CAPTION = dict(type="text", tower={}, drop=0.5)
LOW_RES = dict(type="image", drop=0.5)


def make(network=None, space=None, **sections):
    """A diffusion task of these conditions, given by name."""
    space = space or DataSpace(SHAPE)
    tower = FrozenTower(TOWER, BLANK)
    conditions = make_conditions(sections, CLASSES, space, dict.fromkeys(sections, tower))
    classes = CLASSES if "label" in sections else 0
    model = build_model(**{**DIT, "num_classes": classes, **(network or {})})
    given = {"conditions": conditions, "space": space}
    return make_task(SECTION, model, SHAPE, CLASSES, given)


def by_text(drop=0.5, **changes):
    network = {"cross_attention": True, **changes.pop("network", {})}
    return make(network, caption={**CAPTION, "drop": drop}, **changes)


def by_all(**changes):
    return make(
        {"cross_attention": True}, **{"label": LABEL, "caption": CAPTION, "low": LOW_RES, **changes}
    )


def batch() -> dict:
    random = np.random.default_rng(0)
    image = random.uniform(-1, 1, (B, *SHAPE)).astype(np.float32)
    return {
        "image": image,
        "label": np.arange(B, dtype=np.int32) % CLASSES,
        "tokens": random.integers(0, VOCAB, (B, L)).astype(np.int32),
        "cond_image": image[:, ::2, ::2],
    }


def spec() -> dict:
    return {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in batch().items()}


def variables(task):
    """Of a task: a zero head would make every law hold."""
    return random_variables(task.init, spec(), std=0.3)


@functools.partial(jax.jit, static_argnums=(0, 1))
def losses(task, train, held, given, rows):
    return task.loss(*held, given, Rng(jax.random.key(7), rows, B), train).loss


def loss(task, held, train=True, rows=range(B), **changes):
    rows = np.asarray(rows)
    given = {k: v[rows] for k, v in {**batch(), **changes}.items()}
    return np.asarray(losses(task, train, held, given, rows.astype(np.int32)))


def sample(task, held, cond, rows=range(B), **recipe):
    rows = np.asarray(rows)
    cond = jax.tree.map(lambda a: a[rows], cond)
    negative = recipe.pop("negative", None)
    recipe = {"steps": 3, "guidance": 2.0, **recipe}
    fn = task.predict_fns()["sample"]
    return np.asarray(fn(held, np.int32(0), rows, cond, negative, **recipe))


def make_cond(task):
    return {c.field: batch()[c.field] for c in task.conditions}


def text_in_latents():
    return by_text(network={"out_channels": 2}, space=LatentSpace(CODEC, SHAPE))


@pytest.fixture(
    scope="module", params=[pytest.param(by_all, marks=pytest.mark.heavy), text_in_latents]
)
def case(request):
    task = request.param()
    return task, variables(task)


def test_a_part_of_the_batch_repeats_its_losses(case):
    """Noise, dropped conditions and posterior samples are each row's own."""
    task, held = case
    whole = loss(task, held)
    assert np.isfinite(whole).all() and len(set(whole.tolist())) == B
    turned = np.arange(B)[::-1]
    np.testing.assert_allclose(loss(task, held, rows=turned), whole[turned], rtol=2e-4)


def test_samples_do_not_depend_on_their_batch(case):
    task, held = case
    whole = sample(task, held, make_cond(task))
    assert whole.shape == (B, *SHAPE) and np.isfinite(whole).all()
    turned = np.arange(B)[::-1]
    np.testing.assert_allclose(
        sample(task, held, make_cond(task), rows=turned), whole[turned], atol=1e-3
    )


def test_every_condition_is_heard_by_its_own_row(case):
    task, held = case
    before = loss(task, held, train=False)
    for c in task.conditions:
        x = np.asarray(batch()[c.field])
        other = x.copy()
        other[2] = x[3]
        changed = loss(task, held, train=False, **{c.field: other}) != before
        np.testing.assert_array_equal(changed, np.arange(B) == 2)


def states(task):
    """Fixed noisy states, and their level."""
    z = np.random.default_rng(5).standard_normal((B, *task.model.shape)).astype(np.float32)
    return z, task.model.schedule.level(jnp.float32(0.6))


@functools.partial(jax.jit, static_argnums=(0, 3))
def estimates(task, held, given, guidance, negative):
    z, level = states(task)
    return task.model.denoiser(held, given, guidance, negative, z)(z, level, level).x


def estimate(task, held, given, guidance, negative=None):
    """x_hat of fixed states at one level."""
    return np.asarray(estimates(task, held, given, guidance, negative))


@pytest.mark.heavy
def test_guidance_nought_draws_as_the_null_condition_does(case):
    """And a negative condition stands in for the null."""
    task, held = case
    given = make_cond(task)
    null = {c.field: c.null(given[c.field]) for c in task.conditions}
    turned = jax.tree.map(lambda a: a[::-1], given)

    def got(given, scale, negative=None):
        return estimate(task, held, given, Guidance(scale), negative)

    assert np.abs(got(given, 1.0) - got(null, 1.0)).max() > 5e-4
    np.testing.assert_allclose(got(given, 0.0), got(null, 1.0), atol=1e-4)
    np.testing.assert_allclose(got(given, 3.0, null), got(given, 3.0), atol=1e-4)
    np.testing.assert_allclose(got(given, 0.0, turned), got(turned, 1.0), atol=1e-4)
    some = {task.conditions[0].field: turned[task.conditions[0].field]}
    np.testing.assert_allclose(got(given, 0.0, some), got({**null, **some}, 1.0), atol=1e-4)


@pytest.mark.heavy
def test_an_image_may_be_attended_to_each_pixel_with_its_place():
    task = make({"cross_attention": True}, low={**LOW_RES, "to": "context"})
    held, given = variables(task), make_cond(task)
    moved = {"cond_image": given["cond_image"][:, ::-1]}
    before, after = (estimate(task, held, cond, Guidance()) for cond in (given, moved))
    assert np.abs(before - after).max() > 1e-3


def test_a_caption_is_dropped_to_the_empty_one_at_the_rate_asked_for():
    task = by_text(drop=0.3)
    n = 4000
    tokens = jnp.full((n, L), 3, jnp.int32)
    rng = Rng(jax.random.key(0), jnp.arange(n), n)
    got = np.asarray(drop_conditions(task.conditions, {"tokens": tokens}, rng)["caption"])
    blank = (got == np.asarray(BLANK)).all(1)
    assert (blank | (got == 3).all(1)).all()
    assert abs(blank.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / n)


@pytest.mark.heavy
def test_an_image_that_is_never_dropped_stays_on_both_sides_of_guidance():
    """Super-resolution by guided text: the small image is no part of what is guided."""
    task = make({"cross_attention": True}, caption=CAPTION, low={**LOW_RES, "drop": 0.0})
    held, given = variables(task), make_cond(task)
    blank = jnp.broadcast_to(jnp.asarray(BLANK, jnp.int32), (B, L))
    expected = estimate(task, held, {**given, "tokens": blank}, Guidance())
    np.testing.assert_allclose(estimate(task, held, given, Guidance(0.0)), expected, atol=1e-4)


@pytest.mark.heavy
def test_with_a_codec_that_does_nothing_it_is_pixel_diffusion():
    pixels, latents = by_text(), by_text(space=LatentSpace(Identity(), SHAPE))
    held = variables(pixels)
    with_codec = held._replace(frozen={**held.frozen, "codec": {}})
    np.testing.assert_array_equal(loss(latents, with_codec), loss(pixels, held))
    given = make_cond(pixels)
    np.testing.assert_array_equal(
        sample(latents, with_codec, given), np.clip(sample(pixels, held, given), -1, 1)
    )


def in_latents(cached):
    shape = (4, 4, 4) if cached else SHAPE
    return make({"patch": 2, "out_channels": 2}, LatentSpace(CODEC, shape, cached))


@pytest.mark.heavy
def test_kept_moments_give_the_losses_of_the_images():
    fly, kept = in_latents(False), in_latents(True)
    held = variables(fly)
    moments = fly.model.space.moments(held.frozen, batch()["image"])
    np.testing.assert_allclose(loss(kept, held, image=moments), loss(fly, held), rtol=1e-5)
    assert kept.model.shape == fly.model.shape == (4, 4, 2)


def test_latents_are_the_posterior_scaled():
    task = in_latents(False)
    held, x = variables(task), batch()["image"]
    n = 3000

    @jax.jit
    def run(held, x):
        space, codec = task.model.space, held.frozen["codec"]
        posterior = CODEC.apply(codec, x, method="encode")
        assert isinstance(posterior, Posterior)
        many = jnp.repeat(space.moments(held.frozen, x)[:1], n, 0)
        z = space.sample(many, Rng(jax.random.key(0), jnp.arange(n), n))
        latents = CODEC.apply(codec, x, method="to_latents")
        return space.encode(held.frozen, x, None), latents, z, posterior

    mode, latents, z, posterior = jax.device_get(run(held, x))
    np.testing.assert_allclose(mode, latents, atol=1e-5)
    std = 1.5 * np.exp(0.5 * posterior.log_variance[0])
    np.testing.assert_allclose(z.mean(0), mode[0], atol=6 * std.max() / n**0.5)
    np.testing.assert_allclose(z.std(0), std, rtol=0.1)


@pytest.mark.heavy
def test_codes_go_there_and_back():
    task = in_latents(False)
    held, fns, x = variables(task), task.predict_fns(), batch()["image"]
    recipe = dict(steps=100, final="first")
    code = jax.jit(lambda x: fns["encode"](held, x, None, **recipe))(x)
    back = jax.jit(lambda z: fns["decode"](held, z, None, **recipe))(code)
    passed = task.model.space.decode(held.frozen, task.model.space.encode(held.frozen, x, None))
    assert code.shape == (B, 4, 4, 2) and np.abs(back - passed).mean() < 0.05
    assert "bits_per_dim" not in fns


def test_frozen_networks_that_nobody_gave_weights_are_nan():
    task = text_in_latents()
    blank = jax.jit(lambda: task.init(jax.random.key(0), spec()).frozen)()
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(blank))
    held = variables(task)
    assert set(blank) == {"caption", "codec"} == set(held.frozen)
    for name, leaves in blank.items():
        without = held._replace(frozen={**held.frozen, name: leaves})
        assert np.isnan(loss(task, without)).all()


WRONG = [
    (lambda: make(codec=LABEL), "no names of conditions"),
    (lambda: make(label={**LABEL, "dorp": 0.1}), "did you mean 'drop'"),
    (lambda: by_text(drop=1.5), r"conditions.caption.drop=1.5 must be at most 1"),
    (lambda: by_text(drop=0.0).nfe(guidance=2.0), "needs a null condition"),
    (lambda: in_latents(False).nfe(clip=True), "latents have no such bounds"),
    (lambda: check_cond(by_all().conditions, {"label": 0}), "lacks tokens"),
    (lambda: check_cond(by_text().conditions, {"label": 0, "tokens": 0}), "has no label"),
    (lambda: check_cond(by_all().conditions, 0), "give label, tokens, cond_image"),
    (lambda: LatentSpace(CODEC, (9, 8, 3)), "multiples of 2"),
    (lambda: LatentSpace(CODEC, (4, 4, 3), True), "another codec"),
    (lambda: variables(make(label=LABEL, again=LABEL)), "one class table"),
    (lambda: variables(make(caption=CAPTION)), "not by a context"),
    (lambda: variables(make(label={**LABEL, "to": "vector"})), "vector_dim=0"),
]


@pytest.mark.parametrize("wrong", range(len(WRONG)))
def test_what_does_not_fit_is_one_line(wrong):
    do, said = WRONG[wrong]
    with pytest.raises(ValueError, match=said) as error:
        do()
    assert "\n" not in str(error.value)


def test_data_without_the_field_are_told_at_once():
    for task, said in ((by_text(), "`tokens`"), (make(low=LOW_RES), "`cond_image`")):
        with pytest.raises(ValueError, match=said):
            task.init(jax.random.key(0), {"image": batch()["image"]})


TWO = {
    # One by the network's table, one by a trained table of its own.
    "classes": (
        {"num_classes": CLASSES, "vector_dim": 8},
        dict(label=LABEL, other={**LABEL, "to": "vector", "width": 8}),
    ),
    # Contexts of one width, attended to one after the other, each through a trained projection.
    "texts": (
        {"cross_attention": True},
        dict(caption={**CAPTION, "project": 6}, again={**CAPTION, "project": 6}),
    ),
    "images": ({}, dict(low=LOW_RES, again=LOW_RES)),
}


@pytest.mark.parametrize("kind", TWO)
def test_two_conditions_of_one_kind(kind):
    """Each is dropped by itself and heard, and what it trains gets a gradient."""
    network, sections = TWO[kind]
    task = make(network, **sections)
    held = variables(task)
    names = [c.name for c in task.conditions]
    given = {name: batch()[c.field] for name, c in zip(names, task.conditions, strict=True)}
    z, level = states(task)

    @jax.jit
    def encoded(held, given):
        cond = task.model.encode(held.params, held.frozen, given, z)
        return task.model.estimate(held.params, z, level, cond).x

    def out(given):
        return np.asarray(encoded(held, given))

    whole = out(given)
    for c in task.conditions:
        nulled = {**given, c.name: c.null(given[c.name])}
        assert np.abs(out(nulled) - whole).max() > 1e-4, c.name
    own = held.params.get("conditions", {})
    assert set(own) == {n for n, s in sections.items() if "project" in s or s.get("to")}
    rng = Rng(jax.random.key(7), jnp.arange(B), B)
    grads = jax.jit(
        jax.grad(lambda p: task.loss(p, {}, held.frozen, batch(), rng, True).loss.mean())
    )(held.params)
    for leaf in jax.tree.leaves(grads.get("conditions", {})):
        assert np.abs(leaf).max() > 0


def test_a_text_may_be_one_vector():
    """The tower's pooled embedding, whose width the network is told of."""
    task = make({"vector_dim": 8}, caption={**CAPTION, "to": "vector"})
    held, given = variables(task), make_cond(task)
    turned = jax.tree.map(lambda a: a[::-1], given)
    before, after = (estimate(task, held, cond, Guidance()) for cond in (given, turned))
    assert np.abs(before - after).max() > 1e-3
    assert inputs_of(task.conditions, spec(), task.model.space)["vector_dim"] == 8


def test_padding_that_is_named_is_masked():
    condition = replace(by_text().conditions[0], pad=0)
    _, frozen = random_variables(condition.init, {"tokens": batch()["tokens"]})
    ids = np.asarray([[18, 3, 19, 0, 0], list(BLANK)], np.int32)

    @jax.jit
    def encode(frozen, ids):
        return condition.encode({}, {"caption": frozen}, ids, jnp.zeros((2, *SHAPE)))

    got = encode(frozen, ids)
    np.testing.assert_array_equal(got.context_mask, ids != 0)


def test_what_a_network_must_know_of_its_conditions_is_found_by_shape():
    sections = {**TWO["classes"][1], "low": LOW_RES}
    conditions = make_conditions(sections, CLASSES, DataSpace(SHAPE), {})
    found = inputs_of(conditions, spec(), DataSpace(SHAPE))
    assert found == {"num_classes": CLASSES, "vector_dim": 8}


@pytest.mark.heavy
def test_scales_by_condition_add_what_each_condition_adds(case):
    task, held = case
    given = make_cond(task)
    by = tuple((c.name, 1.5 + i) for i, c in enumerate(task.conditions[::-1]))
    kept = {c.field: c.null(given[c.field]) for c in task.conditions}
    expected = before = estimate(task, held, kept, Guidance())
    for c, (_, scale) in zip(task.conditions[::-1], by, strict=True):
        kept = {**kept, c.field: given[c.field]}
        after = estimate(task, held, kept, Guidance())
        expected, before = expected + scale * (after - before), after
    assert np.abs(expected - before).max() > 5e-4
    np.testing.assert_allclose(estimate(task, held, given, Guidance(by=by)), expected, atol=1e-4)


def test_a_scale_by_a_condition_that_cannot_be_dropped_is_refused():
    model = by_all(low={**LOW_RES, "drop": 0.0}).model
    for name, message in (("lwo", "does not have"), ("low", r"train with conditions.low.drop > 0")):
        with pytest.raises(ValueError, match=message):
            model.check_guidance(Guidance(by=((name, 2.0),)), False)
