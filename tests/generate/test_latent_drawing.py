"""Drawing with latent diffusion: what holds whatever the networks have learned."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.diffusion.predictions import Eps
from diffjax.diffusion.recipes import make_recipe
from diffjax.diffusion.sampling import sample
from diffjax.diffusion.schedules import ScaledLinear
from diffjax.generate.image2image import image2image
from diffjax.generate.inpaint import held, inpaint
from diffjax.generate.latent_model import LatentModel, draw_noise, run
from diffjax.generate.text2image import text2image
from diffjax.keys import per_row
from diffjax.models import build_model

# A program for every drawing; tests/experiments/test_sample.py draws by default.
pytestmark = pytest.mark.heavy

B, L, SIZE = 3, 5, 16
RECIPE = make_recipe("ddim", steps=4, guidance=3.0)


@pytest.fixture(scope="module")
def case():
    parts = {
        "unet": dict(channels=8, out_channels=4, channel_mult=(1,), blocks=1, norm_groups=4,
                     attention_levels=(0,), transformer_depth=1, cross_attention=True, num_heads=2,
                     time_embed="cos", type="unet", init_style="song"),
        "vae": dict(channels=8, channel_mult=(1, 2), blocks=1, norm_groups=4, type="autoencoder"),
        "text": dict(embed=8, width=8, depth=1, heads=2, context=L, vocab=20, type="text"),
    }  # fmt: skip
    networks = {k: build_model(**kwargs) for k, kwargs in parts.items()}
    z, x = jnp.zeros((1, 8, 8, 4)), jnp.zeros((1, SIZE, SIZE, 3))
    ids = jnp.zeros((1, L), jnp.int32)
    told = {
        "unet": partial(networks["unet"].init, tokens=jnp.zeros((1, L, 8))),
        "vae": networks["vae"].init,
        "text": partial(networks["text"].init, pooled=False),
    }
    seen = {"unet": (z, jnp.zeros(1)), "vae": (x,), "text": (ids,)}
    variables = {k: jax.jit(told[k])(jax.random.key(0), *seen[k]) for k in told}
    # A U-Net that closes with a layer near zero says the same whatever it is told.
    shake = lambda a: a + 0.2 * np.random.default_rng(a.size).standard_normal(a.shape)  # noqa: E731
    variables = jax.tree.map(lambda a: shake(a).astype(np.float32), variables)
    return LatentModel(**networks, schedule=ScaledLinear(), prediction=Eps()), variables


def inputs(rows=range(B)):
    rng = np.random.default_rng(0)
    prompt, negative = rng.integers(0, 20, (2, B, L)).astype(np.int32)
    keys = per_row(jax.random.key(0), jnp.arange(B))
    image = rng.uniform(-1, 1, (B, SIZE, SIZE, 3)).astype(np.float32)
    rows = np.asarray(rows)
    told = dict(prompt=prompt[rows], negative=negative[rows], keys=keys[rows])
    return image[rows], {**told, "noise": draw_noise(keys, (8, 8, 4))[rows]}


def draw(case, function, *images, recipe=RECIPE, rows=range(B), **kwargs):
    model, variables = case
    _, told = inputs(rows)
    fn = jax.jit(partial(function, model, recipe=recipe, **kwargs))
    return np.asarray(fn(variables, *images, **told))


def test_an_image_does_not_depend_on_its_batch(case):
    for recipe in (RECIPE, make_recipe("ddpm", steps=3, guidance=2.0)):
        whole = draw(case, text2image, recipe=recipe)
        assert whole.shape == (B, SIZE, SIZE, 3) and np.abs(whole).max() <= 1
        part = draw(case, text2image, recipe=recipe, rows=[2, 0])
        np.testing.assert_allclose(part, whole[[2, 0]], atol=1e-4)
        assert np.abs(whole[0] - whole[1]).max() > 1e-2


def test_prompts_and_negative_prompts_are_heard(case):
    model, variables = case
    _, told = inputs()
    fn = jax.jit(partial(text2image, model, recipe=RECIPE))
    before = fn(variables, **told)
    for name in ("prompt", "negative"):
        after = fn(variables, **{**told, name: told[name][::-1]})
        assert np.abs(after - before).max() > 1e-3


def test_guidance_of_one_hears_no_negative_prompt(case):
    model, variables = case
    _, told = inputs()
    fn = jax.jit(partial(text2image, model, recipe=make_recipe("ddim", steps=3)))
    after = fn(variables, **{**told, "negative": told["negative"][::-1]})
    np.testing.assert_array_equal(fn(variables, **told), after)


def test_less_strength_keeps_more_of_the_image(case):
    model, variables = case
    image, _ = inputs()
    kept = model.decode(variables, model.encode(variables, image))
    little, much = (draw(case, image2image, image, strength=s) for s in (0.25, 1.0))
    assert np.abs(little - kept).mean() < np.abs(much - kept).mean()


def test_what_lies_outside_the_mask_is_kept(case):
    model, variables = case
    image, _ = inputs()
    mask = np.zeros((B, SIZE, SIZE, 1), np.float32)
    passed = model.decode(variables, model.encode(variables, image))
    np.testing.assert_allclose(draw(case, inpaint, image, mask), passed, atol=1e-5)
    drawn = draw(case, inpaint, image, 1 - mask)
    np.testing.assert_allclose(drawn, draw(case, text2image), atol=1e-4)


def test_a_held_denoiser_is_the_same_as_putting_the_image_back_after_every_step(case):
    model, variables = case
    image, told = inputs()
    known, noise, keys = model.encode(variables, image), told["noise"], told["keys"]
    mask = np.zeros((B, 8, 8, 1), np.float32)
    mask[:, :4] = 1
    plain = model.denoiser(variables, told["prompt"], told["negative"], RECIPE)
    got = jax.jit(lambda z: run(model, held(plain, known, mask, noise), RECIPE, z, keys))(noise)
    rows, z = RECIPE.rows(model.schedule), noise
    step = jax.jit(lambda row, z: sample(plain, row, z, keys, stochastic=False))
    for i in range(rows.nfe):
        row = jax.tree.map(lambda a: a[i : i + 1].astype(np.float32), rows)  # noqa: B023
        around = row.at.alpha[0] * known + row.at.sigma[0] * noise
        z = step(row, mask * z + (1 - mask) * around)
    np.testing.assert_allclose(got[:, :4], z[:, :4], atol=1e-4)
    assert np.abs(got[:, :4] - known[:, :4]).max() > 0.1


def test_bad_input_is_one_line(case):
    image, _ = inputs()
    mask = np.ones((B, SIZE, SIZE, 1), np.float32)
    for strength in (-0.1, 1.5):
        with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
            draw(case, image2image, image, strength=strength)
    for strength in (0.0, 0.24):
        with pytest.raises(ValueError, match=r"none of 4 steps: take 0\.25 or more"):
            draw(case, image2image, image, strength=strength)
    for wrong in (image[..., :1], image[0], image[:, :8], np.zeros((B, 18, 16, 3), np.float32)):
        with pytest.raises(ValueError, match="image"):
            draw(case, image2image, wrong)
    for wrong in (mask[..., 0], mask[:, :8], mask[:1]):
        with pytest.raises(ValueError, match="does not fit"):
            draw(case, inpaint, image, wrong)
    model, variables = case
    _, told = inputs()
    with pytest.raises(ValueError, match="as many"):
        text2image(model, variables, recipe=RECIPE, **{**told, "negative": told["negative"][:1]})
    unet = jax.tree.map(jnp.asarray, variables["unet"])
    unet["params"]["conv_in"]["kernel"] = jnp.zeros((3, 3, 7, 8))
    with pytest.raises(ValueError, match="7 channels"):
        inpaint(model, {**variables, "unet": unet}, image, mask, recipe=RECIPE, **told)
