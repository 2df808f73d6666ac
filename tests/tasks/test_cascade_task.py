"""Laws of upsamplers and of chains of them."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_variables import random_variables

from diffjax.denoisers.conditions import make_conditions
from diffjax.denoisers.conditions.base import inputs_of
from diffjax.denoisers.degradation import blurred, enlarged, noised, reduced
from diffjax.denoisers.spaces import DataSpace
from diffjax.keys import Rng, stage_seed
from diffjax.models import build_model
from diffjax.tasks import make_task
from diffjax.tasks.crops import cropped

B, SIZE = 4, 16
SHAPE = (SIZE, SIZE, 3)
SECTION = dict(type="diffusion", schedule=dict(type="cosine"), prediction=dict(type="v"))
UNET = dict(type="unet", channels=8, channel_mult=(1, 2), blocks=1, attention_levels=(),
            mid_attention=False, norm_groups=4)  # fmt: skip
RECIPE = (("sampler", "ddim"), ("steps", 2))


def stage(size, sections, base=None, network=UNET, base_recipe=RECIPE, classes=4, **changes):
    shape = (size, size, 3)
    space = DataSpace(shape)
    conditions = make_conditions(sections, classes, space, {})
    known = inputs_of(conditions, spec(size), space)
    given = {"conditions": conditions}
    given |= {} if base is None else {"base": base.model, "base_recipe": base_recipe}
    model = build_model(**{**known, "out_channels": 3, **network})
    return make_task({**SECTION, **changes}, model, shape, 0, given)


def first():
    return stage(4, {"label": dict(type="class", drop=0.1)})


def upsampler(size=SIZE, factor=2, base=None, network=UNET, crop=0, base_recipe=RECIPE, **changes):
    low = dict(type="low_resolution", factor=factor, width=8, **changes)
    return stage(size, {"low": low}, base, network, base_recipe, crop=crop)


@functools.cache
def chain():
    """4 to 8 to 16 pixels, the first by class."""
    return upsampler(base=upsampler(8, base=first()))


@functools.cache
def image(size=SIZE):
    return np.random.default_rng(0).uniform(-1, 1, (B, size, size, 3)).astype(np.float32)


def batch(size=SIZE):
    return {"image": image(size), "label": np.arange(B, dtype=np.int32)}


def spec(size=SIZE):
    return {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in batch(size).items()}


@functools.cache
def variables(task):
    return random_variables(task.init, spec(), std=0.3)


def rng(rows=range(B)):
    return Rng(jax.random.key(7), np.asarray(rows, np.int32), B)


def below(task, held):
    """The stage before, with its variables."""
    inner = held.frozen["base"]
    return task.model.base, type(held)(inner["params"], {}, inner.get("frozen", {}))


def sample(task, cond, rows=range(B), held=None, seed=0, pred="sample", **recipe):
    rows = np.asarray(rows, np.int32)
    cond = {k: v[rows] for k, v in cond.items()}
    recipe = {} if pred == "sample_base" else {"steps": 2, **recipe}
    fn = task.predict_fns()[pred]
    return np.asarray(fn(held or variables(task), np.int32(seed), rows, cond, **recipe))


# What an upsampler is given.


def test_level_zero_leaves_the_low_resolution_image_untouched():
    noise = np.random.default_rng(1).standard_normal(image().shape).astype(np.float32)
    got = jax.jit(noised)(image(), jnp.zeros(B), noise)
    np.testing.assert_array_equal(got, image())
    assert np.abs(noised(image(), jnp.ones(B), noise) - noise).max() < 1e-6
    level = jnp.asarray([0.0, 0.3, 0.6, 1.0])
    variance = np.var(noised(0 * image(), level, noise), axis=(1, 2, 3))
    wanted = np.sin(0.5 * np.pi * level) ** 2 * np.var(noise, axis=(1, 2, 3))
    np.testing.assert_allclose(variance, wanted, rtol=1e-4, atol=1e-6)


def test_a_given_image_is_drawn_from_as_it_is_without_augmentation():
    """The same as one that says that its level is 0, and another than one of another level."""
    task = upsampler()
    (low,), held = task.conditions, variables(task)
    small = reduced(image(), 2)
    x = np.zeros((B, *SHAPE), np.float32)
    encode = lambda value: low.encode(held.params["conditions"], {}, value, x)  # noqa: E731
    plain = encode(small)
    said = encode(low.augmented(small, jnp.zeros(B), rng().rowwise("noise")))
    jax.tree.map(np.testing.assert_array_equal, plain, said)
    np.testing.assert_array_equal(plain.concat, enlarged(small, SHAPE[:2]))
    other = encode(low.augmented(small, jnp.full(B, 0.5), rng().rowwise("noise")))
    assert np.abs(other.vector - plain.vector).max() > 1e-3


def test_the_level_is_heard_through_its_own_embedding_alone():
    """With that embedding zero, the network hears none: its output is of the image alone."""
    task = upsampler()
    (low,), held = task.conditions, variables(task)
    small, x = reduced(image(), 2), np.zeros((B, *SHAPE), np.float32)

    def outputs(params):
        level = task.model.schedule.level(jnp.full(B, 500.0))
        values = [
            jnp.concatenate([small, jnp.full((*small.shape[:3], 1), s)], -1) for s in (0, 0.9)
        ]
        conds = [task.model.encode(params, {}, {low.name: v}, x) for v in values]
        return [task.model.output(params, image(), level, c, train=False)[0] for c in conds]

    a, b = outputs(held.params)
    assert np.abs(a - b).max() > 1e-3
    deaf = jax.tree.map(jnp.zeros_like, held.params["conditions"])
    a, b = outputs({**held.params, "conditions": deaf})
    np.testing.assert_array_equal(a, b)


def test_training_draws_levels_and_noise_for_each_row():
    task = upsampler(noise=0.5)
    (low,) = task.conditions
    got = np.asarray(low.read({}, batch(), rng()))
    levels = got[:, 0, 0, 3]
    assert got.shape == (B, 8, 8, 4) and (levels <= 0.5).all() and np.ptp(levels) > 0.05
    some = low.read({}, {"image": image()[1:3]}, rng([1, 2]))
    np.testing.assert_allclose(some, got[1:3], atol=1e-6)
    clean = low.read({}, batch(), None)
    np.testing.assert_array_equal(clean, reduced(image(), 2))
    without = upsampler(noise=0.0)
    assert without.conditions[0].read({}, batch(), rng()).shape == (B, 8, 8, 3)
    assert "conditions" not in variables(without).params


def test_the_null_of_a_low_resolution_image_is_its_highest_level():
    task = upsampler(drop=0.5)
    (low,) = task.conditions
    null = np.asarray(low.null(reduced(image(), 2)))
    assert low.has_null and not null[..., :3].any() and (null[..., 3] == 1).all()
    assert not upsampler().conditions[0].has_null


# How it is made smaller.


def test_filters_keep_what_is_flat_and_area_is_the_mean():
    flat = np.full((2, 8, 8, 3), 0.25, np.float32)
    for kernel in ("area", "linear", "cubic"):
        np.testing.assert_allclose(reduced(flat, 2, kernel), flat[:, :4, :4], atol=1e-6)
    np.testing.assert_allclose(reduced(image(), 4)[0, 0, 0], image()[0, :4, :4].mean((0, 1)),
                               atol=1e-6)  # fmt: skip


def test_a_blur_is_a_gaussians_and_none_at_zero():
    point = np.zeros((2, 21, 21, 1), np.float32)
    point[:, 10, 10] = 1
    got = np.asarray(blurred(point, jnp.asarray([0.0, 1.5]), 2.0))
    np.testing.assert_array_equal(got[0], point[0])
    place = np.arange(21) - 10
    assert got[1].sum() == pytest.approx(1, abs=1e-5)
    spread = (got[1, ..., 0].sum(0) * place**2).sum() ** 0.5
    assert spread == pytest.approx(1.5, rel=0.02)


def test_degradation_is_each_rows_own():
    low = upsampler(blur=(0.5, 2.0), kernels=("area", "linear", "cubic")).conditions[0]
    got = low._degraded(image(), rng())
    np.testing.assert_allclose(low._degraded(image()[2:], rng([2, 3])), got[2:], atol=1e-6)
    kernels = np.stack([reduced(image(), 2, k) for k in low.kernels])
    blur = replace(low, blur=(0.0, 0.0))._degraded(image(), rng())
    near = np.abs(np.asarray(blur)[None] - kernels).max((2, 3, 4)).argmin(0)
    assert len(set(near.tolist())) > 1
    assert np.abs(got - blur).max() > 1e-3
    listed = upsampler(blur=[0.5, 2.0], kernels=["area", "linear", "cubic"])  # as JSON has them
    assert listed.conditions[0] == low and hash(low)


# Crops.


@pytest.mark.parametrize("crop", [8, 12, 16])
def test_crops_are_of_one_place(crop):
    """The low-resolution crop is the low-resolution image of the crop."""
    task = upsampler(factor=4, noise=0.0)
    small = reduced(image(), 4)
    x, fields = cropped(task.model, crop, jnp.asarray(image()), {"low_resolution": small}, rng())
    assert x.shape == (B, crop, crop, 3)
    np.testing.assert_allclose(reduced(x, 4), fields["low_resolution"], atol=1e-6)
    if crop < SIZE:
        assert np.abs(x - image()[:, :crop, :crop]).max() > 0.1
    some, _ = cropped(task.model, crop, jnp.asarray(image()[1:2]),
                      {"low_resolution": small[1:2]}, rng([1]))  # fmt: skip
    np.testing.assert_array_equal(some, x[1:2])


def test_every_place_of_the_grid_is_cropped():
    task, n = upsampler(noise=0.0), 200
    place = np.tile(np.arange(16.0)[None, :, None, None], (n, 1, 16, 3))
    rows = Rng(jax.random.key(0), np.arange(n), n)
    x, _ = cropped(task.model, 8, jnp.asarray(place),
                   {"low_resolution": reduced(jnp.asarray(place), 2)}, rows)  # fmt: skip
    assert set(np.asarray(x[:, 0, 0, 0]).astype(int)) == {0, 2, 4, 6, 8}


@functools.partial(jax.jit, static_argnums=0)
def losses(task, held, given, rows):
    return task.loss(*held, given, Rng(jax.random.key(7), rows, B), True).loss


def test_a_row_has_the_loss_that_it_has_alone_and_whole_crops_change_none():
    task, rows = upsampler(crop=8), np.arange(B)
    held = variables(task)
    whole = np.asarray(losses(task, held, batch(), rows))
    assert np.isfinite(whole).all() and whole.std() > 0
    some = {k: v[2:] for k, v in batch().items()}
    np.testing.assert_allclose(losses(task, held, some, rows[2:]), whole[2:], rtol=1e-4)
    full = losses(upsampler(crop=SIZE), held, batch(), rows)
    np.testing.assert_allclose(full, losses(upsampler(), held, batch(), rows), rtol=1e-5)


def test_it_draws_whole_images_and_others_sizes():
    task = upsampler(crop=8)
    assert sample(task, {"low_resolution": reduced(image(), 2)}).shape == (B, *SHAPE)
    model = chain().model.resized(32, 16)
    assert model.base is not None and model.base.base is not None
    assert model.base.shape == (16, 8, 3) and model.base.base.shape == (8, 4, 3)


# Chains.


def test_a_chain_draws_what_its_stages_draw_by_hand():
    task = chain()
    held, label = variables(task), {"label": batch()["label"]}
    assert task.model.fields == ["label"]
    middle, held_middle = below(task, held)
    assert middle.fields == ["label"]
    bottom = middle.base
    held_bottom = type(held)(held_middle.frozen["base"]["params"], {}, {})
    from diffjax.generate.sample import sample as draw

    rows, recipe = np.arange(B), dict(RECIPE)
    seed = stage_seed(np.int32(0), "base")
    small = jnp.clip(draw(bottom, held_bottom, stage_seed(seed, "base"), rows, label, **recipe),
                     -1, 1)  # fmt: skip
    mid = draw(middle, held_middle, seed, rows, {"low_resolution": small}, **recipe)
    mid = jnp.clip(mid, -1, 1)
    np.testing.assert_allclose(sample(task, label, pred="sample_base"), mid, atol=2e-5)
    large = sample(task, {"low_resolution": mid})
    np.testing.assert_allclose(sample(task, label), large, atol=5e-5)


def test_a_sample_is_its_rows_own_whatever_its_batch():
    task, label = chain(), {"label": batch()["label"]}
    drawn = sample(task, label, augmentation=0.3)
    np.testing.assert_allclose(sample(task, label, [1, 3], augmentation=0.3), drawn[[1, 3]],
                               atol=5e-5)  # fmt: skip
    assert np.abs(drawn - sample(task, label)).max() > 1e-3
    assert np.abs(drawn - sample(task, label, seed=1, augmentation=0.3)).max() > 1e-3


def test_no_two_stages_share_their_noise():
    seeds = [np.asarray(stage_seed(np.int32(3), "base"))]
    seeds.append(np.asarray(stage_seed(seeds[0], "base")))
    assert len({tuple(s) for s in seeds} | {(3, 0)}) == 3


def test_a_given_image_needs_no_base():
    task = chain()
    held = variables(task)
    alone = replace(task, model=replace(task.model, base=None, base_recipe=()))
    given = {"low_resolution": reduced(image(), 2)}
    got = sample(task, given)
    own = held._replace(frozen={})
    np.testing.assert_array_equal(sample(alone, given, held=own), got)


def test_dynamic_thresholding_keeps_samples_of_a_chain_inside():
    """Saharia et al. 2022, section 2.3: saturated estimates are pushed inwards."""
    task = chain()
    held = variables(task)
    strong = held._replace(params=jax.tree.map(lambda x: 3 * x, held.params))
    given = {"low_resolution": reduced(image(), 2)}
    free = sample(task, given, held=strong)
    bound = sample(task, given, held=strong, threshold=90.0)
    clip = sample(task, given, held=strong, clip=True)
    assert np.abs(free).max() > 1.5 and np.abs(bound).max() <= 1 + 1e-5
    saturated = lambda x: (np.abs(x) > 0.999).mean()  # noqa: E731
    assert 0 < saturated(bound) < saturated(clip)


# What does not fit.


def test_stages_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"the base draws images of \(4, 4, 3\), but.*\(8, 8, 3\)"):
        upsampler(base=first())
    with pytest.raises(ValueError, match="factor=3 does not divide images of 16 x 16"):
        upsampler(factor=3)
    with pytest.raises(ValueError, match="factor=1 makes nothing smaller"):
        upsampler(factor=1)
    with pytest.raises(ValueError, match="no condition reads them"):
        stage(8, {"label": dict(type="class")}, base=first())
    with pytest.raises(ValueError, match="one low-resolution image"):
        both = dict(type="low_resolution", width=8)
        stage(8, {"a": both, "b": both}, base=first())
    with pytest.raises(ValueError, match=r"conditions.base: .* are no names"):
        stage(8, {"base": dict(type="low_resolution")})
    with pytest.raises(ValueError, match=r"kernel of conditions.low.*'box'"):
        upsampler(kernels=("box",))


@pytest.mark.parametrize(
    ("crop", "what"), [(7, "multiple of 2"), (6, "multiple of 4"), (32, "no larger than they are")]
)
def test_crops_that_do_not_fit_are_named(crop, what):
    with pytest.raises(ValueError, match=rf"task.crop={crop} .*{what}"):
        upsampler(crop=crop, factor=4 if crop == 6 else 2)


def test_crops_are_of_networks_without_places():
    dit = dict(type="dit", width=16, depth=1, heads=2, patch=2)
    with pytest.raises(ValueError, match="a DiT tells places apart"):
        upsampler(crop=8, network=dit)
    by_height = {k: v for k, v in UNET.items() if k != "attention_levels"}
    with pytest.raises(ValueError, match=r"set model.attention_levels"):
        upsampler(crop=8, network=by_height)
    with pytest.raises(ValueError, match="is of upsamplers"):
        stage(8, {}, crop=4)


def test_what_is_asked_of_a_chain_is_refused_before_it_draws():
    task = chain()
    given = {"low_resolution": reduced(image(), 4)}
    with pytest.raises(ValueError, match=r"low_resolution \(4, 4, 3\): this model makes"):
        sample(task, given)
    with pytest.raises(ValueError, match="draws by label: what is given lacks label"):
        sample(task, {"tokens": np.zeros((B, 4), np.int32)})
    modest = upsampler(noise=0.2)
    with pytest.raises(ValueError, match=r"augmentation=0.4.*levels up to 0.2"):
        sample(modest, {"low_resolution": reduced(image(), 2)}, augmentation=0.4)
    with pytest.raises(ValueError, match="which this model has not"):
        sample(first(), {"label": batch()["label"]}, held=variables(first()), augmentation=0.4)
    with pytest.raises(ValueError, match=r"augmentation=1.5"):
        task.nfe(augmentation=1.5)
    with pytest.raises(ValueError, match="which this model has not"):
        first().nfe(augmentation=0.5)
    said = task.nfe(augmentation=0.5, steps=7)
    assert (said["augmentation"], said["nfe"], said["base"]["base"]["nfe"]) == (0.5, 7, 2)
