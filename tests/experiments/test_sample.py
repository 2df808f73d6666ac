"""Drawing by prompt from a released folder on the command line: what is written and refused."""

import itertools
import json
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from mains import flags_of
from PIL import Image, ImageOps

from diffjax.assembly.stages import train_config
from diffjax.data.tokenizer_training import train_tokenizer
from diffjax.generate.pipeline import Pipeline
from diffjax.interop.parts import Part
from diffjax.interop.scheduler import Sampling
from diffjax.interop.stable_diffusion import StableDiffusion, save_stable_diffusion
from diffjax.models import build_model
from diffjax.models.conditioning import Conditioning
from diffjax.pretrained.released import stable_diffusion_pipeline
from diffjax.train.writer import read_text
from experiments import sample

L = 12
UNET = dict(type="unet", channels=8, out_channels=4, channel_mult=(1, 2), blocks=1, norm_groups=4,
            norm_eps=1e-5, attention_levels=(0,), transformer_depth=1, cross_attention=True,
            num_heads=2, time_embed="cos", init_style="adm", down_padding="both")  # fmt: skip
VAE = dict(type="autoencoder", channels=8, channel_mult=(1, 2), blocks=1, norm_groups=4,
           latent_channels=4)  # fmt: skip
TEXT = dict(type="text", embed=8, width=8, depth=2, heads=2, context=L, pool="first_eos")
SIZE = dict(height=16, width=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Stable Diffusion of a few thousand weights, as diffusers keeps it."""
    root = tmp_path_factory.mktemp("released")
    words = train_tokenizer(["a red cube on a blue ball"], 520, style="hf", context=L)
    words.save(root / "words")
    text = {**TEXT, "vocab": words.vocab_size, "eos": words.eot}
    z, x, ids = jnp.zeros((1, 8, 8, 4)), jnp.zeros((1, 16, 16, 3)), jnp.zeros((1, L), jnp.int32)
    key, one = jax.random.key(0), jnp.zeros(1)
    cond = Conditioning(context=jnp.zeros((1, L, 8)))
    made = {
        "unet": (UNET, lambda m: m.init(key, z, one, cond)),
        "vae": (VAE, lambda m: m.init(key, x)),
        "text": (text, lambda m: m.init(key, ids, pooled=False)),
    }
    random = np.random.default_rng(0)
    parts = {}
    for name, (section, init) in made.items():
        shapes = jax.eval_shape(partial(init, build_model(**section)))
        weights = jax.tree.map(
            lambda a: (0.3 * random.standard_normal(a.shape)).astype("f4"), shapes
        )
        parts[name] = Part(section, weights)
    sampling = Sampling(
        dict(type="scaled_linear"), dict(type="eps"),
        dict(spacing="leading", offset=1, final="first", sampler="ddim", clip=False),
    )  # fmt: skip
    save_stable_diffusion(
        root / "model", StableDiffusion(**parts, sampling=sampling, tokenizer=root / "words")
    )
    return root / "model"


@pytest.fixture
def run(monkeypatch, tmp_path):
    """`experiments.sample` with these flags; gives the recipe in the picture it wrote."""

    def main(**given):
        values = flags_of(sample, monkeypatch)
        monkeypatch.setattr(sample, "FLAGS", values)
        given = {"out": str(tmp_path / "drawn.png"), **given}
        said = [
            f"--{k}={one}" for k, v in given.items() for one in (v if isinstance(v, list) else [v])
        ]
        values(["sample", *said])
        sample.main()
        return json.loads(read_text(given["out"])["recipe"])

    return main


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def test_a_picture_tells_how_it_was_drawn(folder, run, tmp_path):
    said = run(model=folder, prompt=["a red cube", "a blue ball"], negative="red", steps=2,
               guidance=3.0, sampler="euler", seed=5, num=2, **SIZE)  # fmt: skip
    for key, value in dict(
        prompt=["a red cube", "a blue ball"], negative="red", steps=2, guidance=3.0, num=2, seed=5,
        sampler="euler", spacing="leading", offset=1, nfe=2, height=16, width=16,
        model=str(folder),
    ).items():  # fmt: skip
        assert said[key] == value, key
    assert Image.open(tmp_path / "drawn.png").size[0] > 2 * 56


@pytest.mark.heavy
def test_an_image_depends_on_its_seed_number_and_prompt_alone(folder):
    pipeline = stable_diffusion_pipeline(str(folder))

    def draw(prompts, num, **kw):
        tokens = np.repeat(pipeline.tokenize(prompts), num, axis=0)
        index = np.tile(np.arange(num), len(prompts))
        how = dict(size=(16, 16), steps=2, sampler="ddim", **kw)
        images = pipeline.draw({"tokens": tokens}, 3, index, **how)
        return images.reshape(len(prompts), num, 16, 16, 3)

    whole = draw(["a red cube", "a blue ball"], 2, batch_size=4)
    assert whole.shape == (2, 2, 16, 16, 3) and np.abs(whole).max() <= 1
    assert np.abs(whole[0, 0] - whole[0, 1]).max() > 1e-3 < np.abs(whole[0] - whole[1]).max()
    turned = draw(["a blue ball", "a red cube"], 2, batch_size=4)
    np.testing.assert_allclose(turned, whole[::-1], atol=1e-4)
    with pytest.raises(ValueError, match="tokens, the context 12"):
        draw(["a red cube on a blue ball a red cube"], 1)


@pytest.mark.heavy
def test_images_and_masks(folder, run, image, tmp_path):
    mask = np.zeros((16, 16), np.uint8)
    mask[:8] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    kw = dict(model=folder, prompt="a red cube", steps=3, num=1, init_image=image)
    said = run(**kw, strength=0.7)
    assert said["nfe"] == 2
    assert said["strength"] == 0.7 and said["init_image"] == str(image) and said["mask"] is None
    said = run(**kw, mask=tmp_path / "mask.png")
    assert said["strength"] == 1.0 and said["mask"].endswith("mask.png")


@pytest.fixture
def drawn(monkeypatch):
    """What the pipeline was asked to draw, which it leaves blank."""
    requested = {}

    def draw(self, cond, seed, index, negative, size, image, mask, strength, batch_size, **recipe):
        requested.update(seed=seed, size=size, image=image, mask=mask, strength=strength)
        return np.zeros((len(index), *size, 3), np.float32)

    monkeypatch.setattr(Pipeline, "draw", draw)
    return requested


@pytest.mark.parametrize(
    ("given", "nfe", "passes"),
    [
        (dict(steps=4, sampler="ddim", guidance=1.0), 4, 4),
        (dict(steps=4, sampler="ddim", guidance=1.0, init_image="#", strength=0.5), 2, 2),
        (dict(steps=4, sampler="ddim", guidance=3.0, init_image="#", strength=0.5), 2, 4),
        (dict(steps=4, sampler="heun", set="final=clean", init_image="#", guidance=1.0), 5, 5),
        (dict(steps=4, sampler="ddim", init_image="#", mask="grey"), 4, 8),
        (dict(steps=4, sampler="ddim", set="guidance_high=0.5", **SIZE), 4, None),
    ],
    ids=str,
)
def test_the_recipe_in_the_picture_counts_what_was_run(
    folder, run, image, drawn, tmp_path, given, nfe, passes
):
    Image.new("L", (16, 16)).save(tmp_path / "grey.png")
    places = {"#": image, "grey": tmp_path / "grey.png"}
    given = {k: places.get(v, v) if isinstance(v, str) else v for k, v in given.items()}
    said = run(model=folder, prompt="a red cube", num=1, **given)
    assert said["nfe"] == nfe and said["steps"] == 4
    assert passes is None or said["network_passes"] == passes
    assert nfe <= said["network_passes"] <= 2 * nfe


@pytest.mark.parametrize("turned", range(1, 9))
def test_images_and_masks_stand_as_their_exif_says(folder, run, drawn, tmp_path, turned):
    """A photograph of a telephone: wider than high in the file, upright by its tag."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = turned
    Image.fromarray(pixels).save(tmp_path / "i.png", exif=exif)
    mask = np.where(np.arange(24) < 8, 255, 0).astype(np.uint8) * np.ones((16, 1), np.uint8)
    Image.fromarray(mask).save(tmp_path / "m.png", exif=exif)
    files = dict(init_image=tmp_path / "i.png", mask=tmp_path / "m.png")
    said = run(model=folder, prompt="a", num=1, steps=2, **files)
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "i.png"))
    np.testing.assert_array_equal(np.rint((drawn["image"] + 1) * 127.5), np.asarray(upright))
    assert (said["height"], said["width"]) == drawn["size"] == upright.size[::-1]
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "m.png"))
    np.testing.assert_array_equal(drawn["mask"][..., 0], np.asarray(upright) / 255)
    if turned >= 5:
        Image.fromarray(mask).save(tmp_path / "m.png")
        with pytest.raises(ValueError, match="24 x 16 pixels and does not fit an image of 16 x 24"):
            run(model=folder, prompt="a", num=1, steps=2, **files)


@pytest.mark.parametrize("seed", [5, 2**32 + 5, 2**63 - 1])
def test_the_seed_of_a_picture_is_written_whole(folder, run, drawn, seed):
    assert run(model=folder, prompt="a", num=1, seed=seed, **SIZE)["seed"] == seed == drawn["seed"]


@pytest.mark.parametrize("seed", ["-1", str(2**63), "5.0", "five", "true"])
def test_what_is_no_seed_is_refused_by_its_flag(folder, run, drawn, seed):
    with pytest.raises(flags.IllegalFlagValueError, match=f"--seed={seed}: "):
        run(model=folder, prompt="a", num=1, seed=seed, **SIZE)


@pytest.mark.heavy
def test_seeds_that_share_their_low_bits_draw_apart(folder):
    pipeline = stable_diffusion_pipeline(str(folder))
    cond = {"tokens": pipeline.tokenize(["a red cube"])}
    drawn = [
        pipeline.draw(cond, seed, np.arange(1), size=(16, 16), steps=2, sampler="ddim")
        for seed in (5, 2**32 + 5, 2**33 + 5, 2**63 - 1)
    ]
    for a, b in itertools.combinations(drawn, 2):
        assert np.abs(a - b).max() > 1e-3


WRONG = {
    "neither": (dict(prompt="a"), "give one of --run"),
    "both": (dict(model="@", run="x", prompt="a"), "give one of --run"),
    "no prompt": (dict(model="@"), "give --prompt"),
    "no such model": (dict(model="nowhere", prompt="a"), "nowhere: no such file or folder"),
    "no such run": (dict(run="nowhere", prompt="a"), "nowhere holds no run"),
    "long prompt": (dict(model="@", prompt="red " * 11, **SIZE), "tokens, the context 12"),
    "strength": (dict(model="@", prompt="a", init_image="#", strength=1.5), r"outside \[0, 1\]"),
    "no step": (
        dict(model="@", prompt="a", init_image="#", strength=0.1, steps=9),
        r"strength=0\.1 leaves none of 9 steps: take 0\.112 or more",
    ),
    "no step of one": (
        dict(model="@", prompt="a", init_image="#", steps=1),
        "none of 1 step: take 1 or more",
    ),
    "strength of nothing": (
        dict(model="@", prompt="a", init_image="#", mask="grey", strength=0, steps=9),
        "leaves none of 9 steps",
    ),
    "strength alone": (dict(model="@", prompt="a", strength=0.5), "give --init_image"),
    "mask alone": (dict(model="@", prompt="a", mask="#"), "give --init_image"),
    "mask size": (dict(model="@", prompt="a", init_image="#", mask="small"), "does not fit"),
    "mask mode": (dict(model="@", prompt="a", init_image="#", mask="#"), "of mode RGB"),
    "image mode": (dict(model="@", prompt="a", init_image="small"), "must be an RGB image"),
    "image size": (dict(model="@", prompt="a", init_image="odd"), "multiples of 4"),
    "two sizes": (dict(model="@", prompt="a", init_image="#", height=32), "is 16 x 16 pixels"),
    "size": (dict(model="@", prompt="a", height=30, width=32), "multiples of 4"),
    "sampler": (dict(model="@", prompt="a", sampler="dimm", **SIZE), "did you mean 'ddim'"),
    "option": (dict(model="@", prompt="a", set="etaa=1", **SIZE), "did you mean 'eta'"),
    "clip": (dict(model="@", prompt="a", set="clip=True", **SIZE), "latents have no such bounds"),
    "clip skip": (dict(model="@", prompt="a", clip_skip=3, **SIZE), "--clip_skip=3 of a tower"),
    "step": (dict(model="@", prompt="a", step=3, **SIZE), "--step is of a run"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_one_line_and_draws_nothing(case, folder, run, image, tmp_path):
    Image.new("L", (8, 16)).save(tmp_path / "small.png")
    Image.new("RGB", (18, 16)).save(tmp_path / "odd.png")
    Image.new("L", (16, 16)).save(tmp_path / "grey.png")
    files = {n: tmp_path / f"{n}.png" for n in ("small", "odd", "grey")}
    places = {"@": folder, "#": image, **files}
    given, said = WRONG[case]
    given = {k: places.get(v, v) if isinstance(v, str) else v for k, v in given.items()}
    with pytest.raises(ValueError, match=said) as error:
        run(**given)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "drawn.png").exists()


def test_a_folder_that_is_not_whole_or_another_architectures_is_named(folder, run, tmp_path):
    broken = shutil.copytree(folder, tmp_path / "broken")
    shutil.rmtree(broken / "vae")
    with pytest.raises(ValueError, match="lacks vae"):
        run(model=broken, prompt="a")
    index = json.loads((broken / "model_index.json").read_text())
    index["_class_name"] = "FluxPipeline"
    (broken / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="'FluxPipeline', which is no Stable Diffusion"):
        run(model=broken, prompt="a")
    weights = next((folder / "vae").glob("*.safetensors"))
    shutil.copyfile(weights, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors"):
        run(model=tmp_path / "other.safetensors", prompt="a", tokenizer=folder / "tokenizer")


def test_a_run_draws_the_picture_of_its_report(tiny, run, tmp_path):
    """By the recipe and the average of the config's `sampling`, pixel by pixel."""
    config = tmp_path / "evaluated.py"
    config.write_text(
        tiny.read_text()
        + "\nbase = get_config\n"
        + "def get_config(arg=None):\n"
        + "    config = base(arg)\n"
        + "    config.sampling = dict(sampler='heun', steps=2, guidance=1.5, ema='slow')\n"
        + "    config.evals = dict(samples=dict(type='samples', columns=3))\n"
        + "    return config\n"
    )
    workdir = tmp_path / "run"
    short = ["train.steps=2", "train.checkpoint_every=2", "train.log_every=2"]
    train_config(str(config), workdir, short)
    said = run(run=workdir, columns=3)
    assert (said["sampler"], said["steps"], said["guidance"], said["ema"]) == (
        "heun", 2, 1.5, "slow",
    )  # fmt: skip
    shown = next((workdir / "figures" / "samples").glob("*.png"))
    drawn, reported = (np.asarray(Image.open(f)) for f in (tmp_path / "drawn.png", shown))
    np.testing.assert_array_equal(drawn, reported)
    other = run(run=workdir, columns=3, ema="none", steps=3)
    assert other["ema"] is None and other["steps"] == 3
    assert (np.asarray(Image.open(tmp_path / "drawn.png")) != reported).any()
