"""Sampling, image to image and inpainting: what holds for every network, space and condition."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.denoisers.conditions.class_label import ClassCondition
from diffjax.denoisers.conditions.image import MaskedImageCondition
from diffjax.denoisers.conditions.text import FrozenTower, TextCondition
from diffjax.denoisers.model import DiffusionModel
from diffjax.denoisers.spaces import DataSpace, LatentSpace
from diffjax.diffusion.predictions import Eps, V
from diffjax.diffusion.recipes import make_recipe
from diffjax.diffusion.sampling import initial_noise
from diffjax.diffusion.sampling import sample as run_sampler
from diffjax.diffusion.schedules import Cosine, ScaledLinear
from diffjax.generate.image2image import image2image
from diffjax.generate.inpaint import inpaint
from diffjax.generate.known import hold_known
from diffjax.generate.pipeline import Pipeline
from diffjax.generate.sample import sample
from diffjax.keys import per_row, root, stream
from diffjax.models import build_model
from diffjax.tasks.diffusion import DiffusionTask
from tests.random_variables import random_variables

B, L, CLASSES = 3, 5, 4
RECIPE = dict(sampler="ddim", steps=4, guidance=3.0)
UNET = dict(type="unet", channels=8, out_channels=4, channel_mult=(1,), blocks=1, norm_groups=4,
            attention_levels=(0,), transformer_depth=1, cross_attention=True, num_heads=2,
            time_embed="cos", init_style="song")  # fmt: skip
DIT = dict(type="dit", width=16, depth=1, heads=2, patch=4, out_channels=1, num_classes=CLASSES)
VAE = dict(type="autoencoder", channels=8, channel_mult=(1, 2), blocks=1, norm_groups=4)
TEXT = dict(type="text", embed=8, width=8, depth=1, heads=2, context=L, vocab=20)


def stable_diffusion(inpaints=False):
    """A U-Net of latents by text, as Stable Diffusion is; one that sees the mask, as its inpainting
    weights do."""
    space = LatentSpace(build_model(**VAE), (16, 16, 3))
    text = TextCondition("text", FrozenTower(build_model(**TEXT), (18, 19, 0, 0, 0)))
    more = (MaskedImageCondition("masked_image", space),) if inpaints else ()
    return DiffusionModel(build_model(**UNET), space, ScaledLinear(), Eps(), (text, *more))


def dit():
    """A transformer of pixels by class."""
    label = ClassCondition("label", CLASSES, drop=0.1)
    return DiffusionModel(build_model(**DIT), DataSpace((8, 8, 1)), Cosine(), V(), (label,))


def inputs(model, rows=range(B)):
    """Images and conditions of these rows."""
    random, rows = np.random.default_rng(0), np.asarray(rows)
    image = random.uniform(-1, 1, (B, *model.space.image_shape)).astype(np.float32)
    ids = random.integers(0, 20, (B, L)).astype(np.int32)
    given = {"tokens": ids, "label": np.arange(B) % CLASSES}
    return image[rows], {f: given[f][rows] for f in model.fields if f in given}


def variables(model):
    spec = {
        "tokens": jax.ShapeDtypeStruct((B, L), jnp.int32),
        "label": jax.ShapeDtypeStruct((B,), jnp.int32),
        "masked_image": jax.ShapeDtypeStruct((B, 16, 16, 4), jnp.float32),
    }
    # A network that closes with a layer near zero says the same whatever it is given.
    return random_variables(model.init, spec, std=0.2, seed=1)


CASES = {"dit": dit, "stable diffusion": stable_diffusion}
BOTH = [pytest.param("dit"), pytest.param("stable diffusion", marks=pytest.mark.heavy)]


@pytest.fixture(scope="module", params=BOTH)
def case(request):
    model = CASES[request.param]()
    return model, variables(model)


def draw(case, function, *images, rows=range(B), cond=None, recipe=RECIPE, **kwargs):
    model, held = case
    own = inputs(model, rows)[1] if cond is None else cond
    fn = partial(function, model, held, np.uint32(0), np.asarray(rows, np.int32))
    return np.asarray(fn(*images, cond=own, **kwargs, **recipe))


def reconstructed(case, image):
    model, held = case
    return np.asarray(model.space.decode(held.frozen, model.space.encode(held.frozen, image)))


def test_an_image_does_not_depend_on_its_batch(case):
    for recipe in (RECIPE, dict(sampler="ddpm", steps=3, guidance=2.0)):
        whole = draw(case, sample, recipe=recipe)
        assert whole.shape == (B, *case[0].space.image_shape)
        part = draw(case, sample, recipe=recipe, rows=[2, 0])
        np.testing.assert_allclose(part, whole[[2, 0]], atol=2e-4)
        assert np.abs(whole[0] - whole[1]).max() > 1e-2


def test_conditions_and_negatives_are_heard(case):
    _, cond = inputs(case[0])
    turned = jax.tree.map(lambda a: a[::-1], cond)
    before = draw(case, sample, negative=turned)
    assert np.abs(draw(case, sample, cond=turned, negative=turned) - before).max() > 1e-3
    assert np.abs(draw(case, sample, negative=cond) - before).max() > 1e-3


def test_guidance_of_one_hears_no_negative(case):
    _, cond = inputs(case[0])
    turned, plain = jax.tree.map(lambda a: a[::-1], cond), {**RECIPE, "guidance": 1.0}
    np.testing.assert_array_equal(
        draw(case, sample, recipe=plain), draw(case, sample, recipe=plain, negative=turned)
    )


def test_less_strength_keeps_more_of_the_image(case):
    image, _ = inputs(case[0])
    kept = reconstructed(case, image)
    little, much = (draw(case, image2image, image, strength=s) for s in (0.25, 1.0))
    assert np.abs(little - kept).mean() < np.abs(much - kept).mean()


def test_what_lies_outside_the_mask_is_kept(case):
    image, _ = inputs(case[0])
    mask = np.zeros((*image.shape[:3], 1), np.float32)
    np.testing.assert_allclose(
        draw(case, inpaint, image, mask), reconstructed(case, image), atol=1e-5
    )
    np.testing.assert_allclose(draw(case, inpaint, image, 1 - mask), draw(case, sample), atol=1e-4)
    mask[:, :4] = 1
    half = draw(case, inpaint, image, mask)
    if not hasattr(case[0].space, "codec"):  # whose pixels see each other
        np.testing.assert_array_equal(half[:, 4:], image[:, 4:])
    assert np.abs(half - draw(case, sample))[:, :4].max() > 1e-3  # it saw the rest


def test_noise_that_is_given_stands_for_the_samples_own(case):
    keys = per_row(stream(root(0), "sample"), jnp.arange(B))
    noise = initial_noise(1.0, keys, case[0].shape)
    for function, images in ((sample, ()), (image2image, inputs(case[0])[:1])):
        own = draw(case, function, *images)
        np.testing.assert_allclose(draw(case, function, *images, noise=noise), own, atol=1e-4)
        assert np.abs(draw(case, function, *images, noise=noise[::-1]) - own).max() > 1e-2


def test_holding_a_region_is_putting_it_back_after_every_step(case):
    model, held = case
    image, cond = inputs(model)
    keys = per_row(stream(root(0), "sample"), jnp.arange(B))
    noise = initial_noise(1.0, keys, model.shape)
    clean = model.space.encode(held.frozen, image)
    mask = np.zeros((B, *model.shape[:2], 1), np.float32)
    mask[:, :4] = 1
    recipe = make_recipe(**RECIPE)
    given = jax.tree.map(jnp.asarray, cond)
    plain = model.denoiser(jax.tree.map(jnp.asarray, held), given, recipe.guidance, None, noise)
    rows, z = recipe.rows(model.schedule), noise
    got = jax.jit(lambda z: run_sampler(hold_known(plain, clean, mask, noise), rows, z, keys))(z)
    step = jax.jit(lambda row, z: run_sampler(plain, row, z, keys, stochastic=False))
    for i in range(rows.nfe):
        row = jax.tree.map(lambda a: a[i : i + 1].astype(np.float32), rows)  # noqa: B023
        around = row.at.alpha[0] * clean + row.at.sigma[0] * noise
        z = step(row, mask * z + (1 - mask) * around)
    np.testing.assert_allclose(got[:, :4], z[:, :4], atol=1e-4)
    assert np.abs(got[:, :4] - clean[:, :4]).max() > 0.1


def test_the_task_and_the_pipeline_draw_the_same(case):
    """Both roads are one function: bit by bit."""
    model, held = case
    _, cond = inputs(model)
    drawn = DiffusionTask(model).predict_fns()["sample"](
        held, np.uint32(7), np.arange(B, dtype=np.int32), cond, **RECIPE
    )
    pipeline = Pipeline(model, held, RECIPE, {}, lambda texts: np.zeros((len(texts), L), np.int32))
    np.testing.assert_array_equal(
        pipeline.draw(cond, 7, np.arange(B), batch_size=B), np.asarray(drawn)
    )
    image = inputs(model)[0][0]
    edited = pipeline.draw(cond, 7, np.arange(B), image=image, strength=0.5, batch_size=B)
    theirs = image2image(
        model, held, np.uint32(7), np.arange(B), np.repeat(image[None], B, 0), cond,
        strength=0.5, **RECIPE,
    )  # fmt: skip
    np.testing.assert_array_equal(edited, np.asarray(theirs))


@pytest.mark.heavy
def test_a_network_that_sees_the_mask_is_given_it():
    model = stable_diffusion(inpaints=True)
    case = model, variables(model)
    image, _ = inputs(model)
    mask = np.zeros((B, 16, 16, 1), np.float32)
    mask[:, :8] = 1
    before = draw(case, inpaint, image, mask)
    moved = image.copy()
    moved[:, :8] *= -1  # under the mask: it is not seen
    np.testing.assert_array_equal(draw(case, inpaint, moved, mask), before)
    assert np.abs(draw(case, inpaint, -image, mask) - before).max() > 1e-3
    assert np.abs(draw(case, inpaint, image, 1 - mask) - before).max() > 1e-3


def test_bad_input_is_one_line(case):
    model = case[0]
    image = inputs(model)[0]
    mask = np.ones((*image.shape[:3], 1), np.float32)
    for strength in (-0.1, 1.5):
        with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
            draw(case, image2image, image, strength=strength)
    for strength in (0.0, 0.24):
        with pytest.raises(ValueError, match=r"none of 4 steps: take 0\.25 or more"):
            draw(case, image2image, image, strength=strength)
    for wrong in (image[..., :0], image[0], image[:, :4]):
        with pytest.raises(ValueError, match="images of shape"):
            draw(case, image2image, wrong)
    for wrong in (mask[..., 0], mask[:, :4], mask[:1]):
        with pytest.raises(ValueError, match="does not fit"):
            draw(case, inpaint, image, wrong)
    with pytest.raises(ValueError, match="noise"):
        draw(case, sample, noise=np.zeros((B, 3)))
    with pytest.raises(ValueError, match="multiples of"):
        model.resized(18, 17)
