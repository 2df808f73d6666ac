"""Laws of what a denoising network is told, and of diffusion in a codec's latents."""

import functools
from dataclasses import replace
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.diffusion.guidance import Guidance
from diffjax.keys import Rng
from diffjax.models import build_model
from diffjax.models.autoencoder import Posterior
from diffjax.tasks import make_task
from diffjax.tasks.conditions import ByText, dropped
from diffjax.tasks.latents import Latents

SHAPE, CLASSES, B, L, VOCAB = (8, 8, 3), 3, 6, 5, 20
BLANK = (18, 19, 0, 0, 0)
DIT = dict(type="dit", width=16, depth=1, heads=2, patch=4, out_channels=3)
SECTION = dict(type="diffusion", schedule=dict(type="cosine"), prediction=dict(type="v"))
TOWER = build_model("text", embed=8, width=8, depth=2, heads=2, context=L, vocab=VOCAB)
CODEC = build_model(
    "autoencoder", channels=4, channel_mult=(1, 2), blocks=1, latent_channels=2, norm_groups=2,
    scale=1.5, shift=0.25,
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


def make(network=None, towers=None, **section):
    model = build_model(**{**DIT, **(network or {})})
    section = {**SECTION, "num_classes": 0, **section}
    return make_task(section, model, SHAPE, CLASSES, towers)


def by_text(drop=0.5, **changes):
    towers = {"text": ByText(TOWER, BLANK), **changes.pop("towers", {})}
    return make({"cross_attention": True}, towers, caption_drop=drop, **changes)


def by_all(**changes):
    towers = {"text": ByText(TOWER, BLANK)}
    network = {"cross_attention": True, "num_classes": CLASSES}
    drops = dict(label_drop=0.5, caption_drop=0.5, hint="beside", hint_drop=0.5)
    return make(network, towers, **{"num_classes": CLASSES, **drops, **changes})


def batch() -> dict:
    random = np.random.default_rng(0)
    image = random.uniform(-1, 1, (B, *SHAPE)).astype(np.float32)
    return {
        "image": jnp.asarray(image),
        "label": jnp.arange(B) % CLASSES,
        "tokens": jnp.asarray(random.integers(0, VOCAB, (B, L)), jnp.int32),
        "hint": jnp.asarray(image[:, ::2, ::2]),
    }


def variables(task):
    """Of a task, every layer shaken: a zero head would make every law hold."""
    spec = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in batch().items()}
    got = task.init(jax.random.key(0), spec)
    random = np.random.default_rng(1)
    shaken = lambda p: np.nan_to_num(p) + random.normal(scale=0.3, size=p.shape).astype("f4")  # noqa: E731
    return got._replace(
        params=jax.tree.map(shaken, got.params), frozen=jax.tree.map(shaken, got.frozen)
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def losses(task, train, held, given, rows):
    return task.loss(*held, given, Rng(jax.random.key(7), rows, B), train).loss


def loss(task, held, train=True, rows=range(B), **changes):
    rows = np.asarray(rows)
    given = {k: v[rows] for k, v in {**batch(), **changes}.items()}
    return np.asarray(losses(task, train, held, given, jnp.asarray(rows, jnp.int32)))


def sample(task, held, asked, rows=range(B), **recipe):
    rows = np.asarray(rows)
    asked = jax.tree.map(lambda a: a[rows], asked)
    negative = recipe.pop("negative", None)
    recipe = {"steps": 3, "guidance": 2.0, **recipe}
    fn = task.predict_fns()["sample"]
    return np.asarray(fn(held, np.int32(0), jnp.asarray(rows), asked, negative, **recipe))


def asked(task):
    return {c.field: batch()[c.field] for c in task.conditions}


def text_in_latents():
    model = build_model(**{**DIT, "cross_attention": True, "out_channels": 2})
    towers = {"text": ByText(TOWER, BLANK), "latents": Latents(CODEC)}
    return make_task({**SECTION, "num_classes": 0, "caption_drop": 0.5}, model, SHAPE, 0, towers)


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
    whole = sample(task, held, asked(task))
    assert whole.shape == (B, *SHAPE) and np.isfinite(whole).all()
    turned = np.arange(B)[::-1]
    np.testing.assert_allclose(
        sample(task, held, asked(task), rows=turned), whole[turned], atol=1e-3
    )


def test_every_condition_is_heard_by_its_own_row(case):
    task, held = case
    before = loss(task, held, train=False)
    for c in task.conditions:
        x = np.asarray(batch()[c.field])
        other = x.copy()
        other[2] = x[3]
        changed = loss(task, held, train=False, **{c.field: jnp.asarray(other)}) != before
        np.testing.assert_array_equal(changed, np.arange(B) == 2)


def estimate(task, held, given, scale, negative=None):
    """x_hat of fixed states at one level."""
    z = jnp.asarray(np.random.default_rng(5).standard_normal((B, *task.shape)), jnp.float32)
    level = task.schedule.level(jnp.float32(0.6))
    denoise = task.denoiser(held, given, Guidance(scale), negative, z)
    return np.asarray(denoise(z, level).x)


@pytest.mark.heavy
def test_guidance_nought_draws_as_the_null_condition_does(case):
    """And a negative condition stands in for the null."""
    task, held = case
    given = asked(task)
    null = {c.field: c.null(given[c.field]) for c in task.conditions}
    turned = jax.tree.map(lambda a: a[::-1], given)
    got = partial(estimate, task, held)
    assert np.abs(got(given, 1.0) - got(null, 1.0)).max() > 5e-4
    np.testing.assert_allclose(got(given, 0.0), got(null, 1.0), atol=1e-4)
    np.testing.assert_allclose(got(given, 3.0, null), got(given, 3.0), atol=1e-4)
    np.testing.assert_allclose(got(given, 0.0, turned), got(turned, 1.0), atol=1e-4)
    some = {task.conditions[0].field: turned[task.conditions[0].field]}
    np.testing.assert_allclose(got(given, 0.0, some), got({**null, **some}, 1.0), atol=1e-4)


@pytest.mark.heavy
def test_a_hint_may_be_tokens_each_with_its_place():
    task = make({"cross_attention": True}, hint="tokens", hint_drop=0.5)
    held, given = variables(task), asked(make(hint="beside"))
    moved = {"hint": given["hint"][:, ::-1]}
    assert np.abs(estimate(task, held, given, 1.0) - estimate(task, held, moved, 1.0)).max() > 1e-3


def test_a_caption_is_dropped_to_the_empty_one_at_the_rate_asked_for():
    task = by_text(drop=0.3)
    n = 4000
    tokens = jnp.full((n, L), 3, jnp.int32)
    rng = Rng(jax.random.key(0), jnp.arange(n), n)
    got = np.asarray(dropped(task.conditions, {"tokens": tokens}, rng)["tokens"])
    blank = (got == np.asarray(BLANK)).all(1)
    assert (blank | (got == 3).all(1)).all()
    assert abs(blank.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / n)


@pytest.mark.heavy
def test_an_image_that_is_never_dropped_stays_on_both_sides_of_guidance():
    """Super-resolution by guided text: the small image is no part of what is guided."""
    task = replace(by_all(hint_drop=0.0, num_classes=0, label_drop=0.0), network=build_model(
        **DIT, cross_attention=True))  # fmt: skip
    held, given = variables(task), asked(task)
    blank = jnp.broadcast_to(jnp.asarray(BLANK, jnp.int32), (B, L))
    told = estimate(task, held, {**given, "tokens": blank}, 1.0)
    np.testing.assert_allclose(estimate(task, held, given, 0.0), told, atol=1e-4)


@pytest.mark.heavy
def test_with_a_codec_that_does_nothing_it_is_pixel_diffusion():
    pixels, latents = by_text(), by_text(towers={"latents": Latents(Identity())})
    held = variables(pixels)
    with_codec = held._replace(frozen={**held.frozen, "codec": {}})
    np.testing.assert_array_equal(loss(latents, with_codec), loss(pixels, held))
    given = asked(pixels)
    np.testing.assert_array_equal(
        sample(latents, with_codec, given), np.clip(sample(pixels, held, given), -1, 1)
    )


def in_latents(cached):
    model = build_model(**{**DIT, "patch": 2, "out_channels": 2})
    shape = (4, 4, 4) if cached else SHAPE
    section = {**SECTION, "num_classes": 0}
    return make_task(section, model, shape, CLASSES, {"latents": Latents(CODEC, cached)})


@pytest.mark.heavy
def test_kept_moments_give_the_losses_of_the_images():
    fly, kept = in_latents(False), in_latents(True)
    held = variables(fly)
    moments = fly.latents.moments(held.frozen, batch()["image"])
    np.testing.assert_allclose(loss(kept, held, image=moments), loss(fly, held), rtol=1e-5)
    assert kept.shape == fly.shape == (4, 4, 2)


def test_latents_are_the_posterior_scaled():
    task = in_latents(False)
    held, x = variables(task), batch()["image"]
    mode = task.latents.encode(held.frozen, x, None)
    np.testing.assert_allclose(
        mode, CODEC.apply(held.frozen["codec"], x, method="to_latents"), atol=1e-5
    )
    n = 3000
    many = jnp.repeat(task.latents.moments(held.frozen, x)[:1], n, 0)
    z = np.asarray(task.latents.draw(many, Rng(jax.random.key(0), jnp.arange(n), n)))
    posterior = CODEC.apply(held.frozen["codec"], x, method="encode")
    assert isinstance(posterior, Posterior)
    std = 1.5 * np.exp(0.5 * np.asarray(posterior.log_variance[0]))
    np.testing.assert_allclose(z.mean(0), mode[0], atol=6 * std.max() / n**0.5)
    np.testing.assert_allclose(z.std(0), std, rtol=0.1)


@pytest.mark.heavy
def test_codes_go_there_and_back():
    task = in_latents(False)
    held, fns, x = variables(task), task.predict_fns(), batch()["image"]
    recipe = dict(steps=100, final="first")
    code = jax.jit(lambda x: fns["encode"](held, x, None, **recipe))(x)
    back = jax.jit(lambda z: fns["decode"](held, z, None, **recipe))(code)
    passed = task.latents.decode(held.frozen, task.latents.encode(held.frozen, x, None))
    assert code.shape == (B, 4, 4, 2) and np.abs(back - passed).mean() < 0.05
    assert "bits_per_dim" not in fns


def test_frozen_networks_that_nobody_gave_weights_are_nan():
    task = by_text()
    spec = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in batch().items()}
    got = task.init(jax.random.key(0), spec)
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(got.frozen))
    assert np.isnan(loss(task, got)).all()


WRONG = [
    (lambda: make(caption_drop=0.1), "without a text section"),
    (lambda: make(hint_drop=0.1), "without task.hint"),
    (lambda: by_text(drop=1.5), r"caption_drop=1.5 must be at most 1"),
    (lambda: by_text(drop=0.0).nfe(guidance=2.0), "needs a null condition"),
    (lambda: in_latents(False).nfe(clip=True), "latents have no such bounds"),
    (lambda: as_sampled(by_all(), {"label": 0}), "lacks tokens"),
    (lambda: as_sampled(by_text(), {"label": 0, "tokens": 0}), "has no label"),
    (lambda: as_sampled(by_all(), batch()["label"]), "give label, tokens, hint"),
    (lambda: variables(replace(in_latents(False), image_shape=(9, 8, 3))), "multiples of 2"),
    (lambda: variables(replace(in_latents(True), image_shape=(4, 4, 3))), "another codec"),
]


def as_sampled(task, given):
    from diffjax.tasks.conditions import as_given

    return as_given(task.conditions, given)


@pytest.mark.parametrize("wrong", range(len(WRONG)))
def test_what_does_not_fit_is_one_line(wrong):
    do, said = WRONG[wrong]
    with pytest.raises(ValueError, match=said) as error:
        do()
    assert "\n" not in str(error.value)


def test_data_without_the_field_are_told_at_once():
    for task, said in ((by_text(), "`tokens`"), (make(hint="tokens"), "`hint`")):
        with pytest.raises(ValueError, match=said):
            task.init(jax.random.key(0), {"image": batch()["image"]})
