"""Whole pipelines equal diffusers' with the same weights and noise: images within 1e-3 of 1."""

from functools import partial

import jax
import numpy as np
import pytest

from diffjax.data.tokenizer_files import load_tokenizer
from diffjax.data.tokenizer_training import train_tokenizer
from diffjax.generate.image2image import image2image
from diffjax.generate.inpaint import inpaint
from diffjax.generate.sample import sample
from diffjax.interop.stable_diffusion import load_stable_diffusion, save_stable_diffusion
from diffjax.pretrained.released import stable_diffusion

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")
diffusers = pytest.importorskip("diffusers", reason="parity needs diffusers: '.[parity]'")
transformers = pytest.importorskip("transformers", reason="parity needs transformers: '.[parity]'")

from tests.parity.stable_diffusion import (  # noqa: E402
    LATENT,
    ONE_LEVEL,
    SMALL_CODEC,
    autoencoder,
    text,
    unet,
)

pytestmark = pytest.mark.parity

STEPS, GUIDANCE, SIZE = 10, 4.0, 2 * LATENT
PROMPTS = ["a red ball on a cube", "two blue cubes"]
NEGATIVE = ["a green ball", ""]
SD = dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
LEADING = dict(timestep_spacing="leading", steps_offset=1)
SCHEDULERS = {
    "DDIMScheduler": dict(clip_sample=False, set_alpha_to_one=False),
    "PNDMScheduler": dict(skip_prk_steps=True),
    "EulerDiscreteScheduler": {},
    "DPMSolverMultistepScheduler": {},
}
MODULE = "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion"


class Pair:
    """One model on both sides, its scheduler to be chosen."""

    def __init__(self, kind, version, root, **changes):
        root.mkdir()
        train_tokenizer(["a red cube on a blue ball"], 520, style="hf").save(root / "given")
        self.theirs = kind(
            vae=autoencoder(**SMALL_CODEC),
            text_encoder=text(version, depth=1),
            tokenizer=transformers.CLIPTokenizer.from_pretrained(root / "given"),
            unet=unet(version, **ONE_LEVEL[version], **changes),
            scheduler=diffusers.DDIMScheduler(**SD, **LEADING),
            safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
        self.theirs.set_progress_bar_config(disable=True)
        self.root = root

    def scheduled(self, name, **options):
        """(our model, variables, recipe options), both sides with this scheduler."""
        chosen = {**SD, **LEADING, **SCHEDULERS[name], **options}
        self.theirs.scheduler = getattr(diffusers, name)(**chosen)
        folder = self.root / f"{name}{len(options)}"
        self.theirs.save_pretrained(folder)
        model = load_stable_diffusion(folder)
        self.loaded, self.tokenizer = model, load_tokenizer(folder / "tokenizer", empty="allow")
        return *stable_diffusion(model), model.sampling.recipe

    def images(self, z, **kwargs):
        """Theirs `[B, H, W, 3]` in [0, 1]; `z` stands for all noise that is drawn."""
        out = self.theirs(
            PROMPTS, negative_prompt=NEGATIVE, num_inference_steps=STEPS, guidance_scale=GUIDANCE,
            output_type="pt", **kwargs,
        ).images  # fmt: skip
        return out.numpy().transpose(0, 2, 3, 1)

    def draw(self, function, model, variables, recipe, noise, *images, guided=(), **kwargs):
        ids, negative = self.tokenizer.encode(PROMPTS), self.tokenizer.encode(NEGATIVE)
        options = {**recipe, "steps": STEPS, "guidance": GUIDANCE, **dict(guided)}
        fn = partial(function, model, variables, np.uint32(0), np.arange(2), *images)
        cond, negative = {"tokens": ids}, {"tokens": negative}
        with jax.default_matmul_precision("highest"):
            drawn = fn(cond=cond, negative=negative, noise=noise, **kwargs, **options)
        return (np.asarray(drawn) + 1) / 2


def cases(names, quick):
    """Every version with every scheduler; all but the quick ones are heavy."""
    pairs = [(version, name) for version in ("sd1", "sd2") for name in names]
    marks = {pair: () if pair in quick else pytest.mark.heavy for pair in pairs}
    params = [pytest.param(*pair, marks=marks[pair]) for pair in pairs]
    return pytest.mark.parametrize("pair, name", params, indirect=["pair"], scope="module")


def torch_of(a):
    return torch.tensor(np.asarray(a).transpose(0, 3, 1, 2))


@pytest.fixture
def noise():
    rng = np.random.default_rng(0)
    return rng.standard_normal((2, LATENT, LATENT, 4)).astype(np.float32)


@pytest.fixture
def image():
    rng = np.random.default_rng(1)
    return rng.uniform(-1, 1, (2, SIZE, SIZE, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def pair(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("pipelines") / "text"
    return Pair(diffusers.StableDiffusionPipeline, request.param, root)


def close(a, b):
    assert b.std() > 0.02  # there is a picture
    assert np.abs(a - b).max() < 1e-3


@cases(SCHEDULERS, [("sd1", "PNDMScheduler")])
def test_text_to_image(pair, name, noise):
    model, variables, recipe = pair.scheduled(name)
    a = pair.draw(sample, model, variables, recipe, noise)
    close(a, pair.images(noise, latents=torch_of(noise)))


@cases(["DDIMScheduler"], [])
def test_v_prediction_with_rescaled_guidance(pair, name, noise):
    model, variables, recipe = pair.scheduled(name, prediction_type="v_prediction")
    a = pair.draw(sample, model, variables, recipe, noise, guided={"rescale": 0.7})
    close(a, pair.images(noise, latents=torch_of(noise), guidance_rescale=0.7))


@cases(["DDIMScheduler"], [("sd2", "DDIMScheduler")])
def test_an_exported_folder_draws_the_same(pair, name, noise, tmp_path):
    pair.scheduled(name)
    before = pair.images(noise, latents=torch_of(noise))
    save_stable_diffusion(tmp_path, pair.loaded)
    again = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    given, pair.theirs = pair.theirs, again
    after = pair.images(noise, latents=torch_of(noise))
    pair.theirs = given
    np.testing.assert_array_equal(before, after)


@pytest.fixture
def shared(noise, monkeypatch):
    """Makes their pipelines of one kind draw our noise, and encode to the mode."""

    def install(kind):
        module = f"{MODULE}_{kind}"
        mode = lambda out, **_: out.latent_dist.mode()  # noqa: E731
        monkeypatch.setattr(f"{module}.retrieve_latents", lambda out, *_, **kw: mode(out))
        monkeypatch.setattr(f"{module}.randn_tensor", lambda shape, **_: torch_of(noise))

    return install


# PNDM's first step is not begun half-way: theirs repeats a time that it then no longer has.
@cases([n for n in SCHEDULERS if n != "PNDMScheduler"], [("sd2", "DPMSolverMultistepScheduler")])
def test_image_to_image(pair, name, noise, image, shared):
    model, variables, recipe = pair.scheduled(name)
    a = pair.draw(image2image, model, variables, recipe, noise, image, strength=0.65)
    shared("img2img")
    text_to_image = pair.theirs
    kind = diffusers.StableDiffusionImg2ImgPipeline
    pair.theirs = kind(**text_to_image.components, requires_safety_checker=False)
    pair.theirs.set_progress_bar_config(disable=True)
    b = pair.images(noise, image=torch_of(image) / 2 + 0.5, strength=0.65)
    pair.theirs = text_to_image
    close(a, b)


@pytest.fixture(scope="module", params=[4, 9], ids=["masking", "nine"])
def inpainter(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("pipelines") / "inpaint"
    kind = diffusers.StableDiffusionInpaintPipeline
    return Pair(kind, "sd1", root, in_channels=request.param)


HEAVY_EULER = pytest.param("EulerDiscreteScheduler", marks=pytest.mark.heavy)


@pytest.mark.parametrize("name", ["DDIMScheduler", HEAVY_EULER])
def test_inpainting(inpainter, name, noise, image, shared):
    """By masking theirs starts at strength 1 from noise around the mask too, ours never does."""
    nine = inpainter.theirs.unet.config.in_channels == 9
    strength = 1.0 if nine else 0.9
    mask = np.zeros((2, SIZE, SIZE, 1), np.float32)
    mask[0, 4:12, 2:10], mask[1, 7:, :] = 1, 1
    model, variables, recipe = inpainter.scheduled(name)
    a = inpainter.draw(inpaint, model, variables, recipe, noise, image, mask, strength=strength)
    shared("inpaint")
    b = inpainter.images(
        noise, image=torch_of(image) / 2 + 0.5, mask_image=torch_of(mask), strength=strength,
        height=SIZE, width=SIZE,
    )  # fmt: skip
    close(a, b)
