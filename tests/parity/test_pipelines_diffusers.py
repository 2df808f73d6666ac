"""Folders of pipelines without text: drawn as diffusers draws, and read and written both ways."""

import json
import shutil

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")
diffusers = pytest.importorskip("diffusers", reason="parity needs diffusers: '.[parity]'")

from diffjax.diffusion.sampling import initial_noise  # noqa: E402
from diffjax.interop.pipelines import load_pipeline, save_pipeline  # noqa: E402
from diffjax.keys import per_row, stream  # noqa: E402
from diffjax.pretrained.released import from_pipeline, open_released  # noqa: E402
from tests.parity.networks import first, same_part, shaken  # noqa: E402

pytestmark = pytest.mark.parity

SIZE = 8


def unet():
    torch.manual_seed(0)
    return shaken(
        diffusers.UNet2DModel(
            sample_size=SIZE,
            block_out_channels=(16,),
            layers_per_block=1,
            down_block_types=("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",),
            norm_num_groups=8,
            attention_head_dim=None,
        )
    )


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ddim")
    scheduler = diffusers.DDIMScheduler(clip_sample=True)
    pipeline = diffusers.DDIMPipeline(unet(), scheduler)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder)
    return pipeline, folder


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    """A DiTPipeline; its null class is number 1000 whatever the network's table."""
    torch.manual_seed(1)
    dit = shaken(
        diffusers.DiTTransformer2DModel(
            num_attention_heads=2, attention_head_dim=8, num_layers=2, out_channels=8,
            sample_size=SIZE,
        )
    )  # fmt: skip
    embedder = dit.transformer_blocks[0].norm1.emb.state_dict()
    dit.transformer_blocks[1].norm1.emb.load_state_dict(embedder)
    vae = shaken(
        diffusers.AutoencoderKL(
            block_out_channels=(16, 32), norm_num_groups=8, latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        )
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("dit")
    pipeline = diffusers.DiTPipeline(dit, vae, diffusers.DDIMScheduler(clip_sample=False))
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["id2label"] = {str(i): f"class {i}" for i in range(1000)}
    (folder / "model_index.json").write_text(json.dumps(index))
    return pipeline, folder


def start(model, seed, count):
    """The noise that samples 0, 1, ... of a seed start from."""
    keys = per_row(stream(jax.random.key(seed), "sample"), np.arange(count))
    return np.asarray(initial_noise(1.0, keys, model.model.shape))


def images(model, label=None, **recipe):
    args = (model.variables, np.int32(3), np.arange(2, dtype=np.int32), label)
    with jax.default_matmul_precision("highest"):
        drawn = model.predict_fns()["sample"](*args, **recipe)
    return np.clip(np.asarray(drawn) / 2 + 0.5, 0, 1)


def sharing(monkeypatch, kind, noise):
    """Makes their pipelines of a kind begin with our noise."""
    module = f"diffusers.pipelines.{kind}.pipeline_{kind}"
    monkeypatch.setattr(f"{module}.randn_tensor", lambda *_, **__: first(noise))


def test_pixels_are_drawn_as_theirs(pixels, monkeypatch, tmp_path):
    pipeline, folder = pixels
    model = open_released(folder)
    assert model.image_shape == (SIZE, SIZE, 3) and model.recipe["steps"] == 50
    noise = start(model, 3, 2)
    sharing(monkeypatch, "ddim", noise)
    # The noise is that of the clipped image here, as it is there when asked for.
    kw = dict(num_inference_steps=4, output_type="np", use_clipped_model_output=True)
    theirs = pipeline(2, **kw).images
    ours = images(model, steps=4)
    assert theirs.std() > 0.02 and np.abs(ours - theirs).max() < 1e-3

    save_pipeline(tmp_path, load_pipeline(folder))
    again = diffusers.DDIMPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    np.testing.assert_array_equal(again(2, **kw).images, theirs)
    same_part(load_pipeline(tmp_path).network, load_pipeline(folder).network)


def test_latents_are_drawn_as_theirs(latents, monkeypatch, tmp_path):
    pipeline, folder = latents
    model = open_released(folder)
    assert model.image_shape == (2 * SIZE, 2 * SIZE, 3) and model.recipe["steps"] == 250
    assert model.class_names[7] == "class 7" and model.model.learned_variance
    label = np.array([7, 999], np.int32)
    sharing(monkeypatch, "dit", start(model, 3, 2))
    kw = dict(guidance_scale=4.0, num_inference_steps=3, output_type="np")
    theirs = pipeline(label.tolist(), **kw).images
    ours = images(model, label, guidance=4.0, steps=3)
    assert theirs.std() > 0.02 and np.abs(ours - theirs).max() < 1e-3
    three = images(model, label, guidance=4.0, steps=3, guidance_channels=3)
    assert np.abs(three - ours).max() > 1e-3

    save_pipeline(tmp_path, load_pipeline(folder))
    again = diffusers.DiTPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    np.testing.assert_array_equal(again(label.tolist(), **kw).images, theirs)
    before, after = load_pipeline(folder), load_pipeline(tmp_path)
    assert (before.class_names, before.sampling) == (after.class_names, after.sampling)
    assert before.codec is not None and after.codec is not None
    same_part(after.codec, before.codec)


def test_a_folder_of_google_s(pixels, tmp_path):
    """Both parts' files at the root, an old index, or none; ancestral, the larger variance."""
    pipeline, _ = pixels
    pipeline.unet.save_pretrained(tmp_path)
    scheduler = {"_class_name": "DDPMScheduler", "_diffusers_version": "0.1.1", "beta_end": 0.02,
                 "beta_schedule": "linear", "beta_start": 0.0001, "clip_sample": True,
                 "num_train_timesteps": 1000, "trained_betas": None, "tensor_format": "pt",
                 "variance_type": "fixed_large"}  # fmt: skip
    (tmp_path / "scheduler_config.json").write_text(json.dumps(scheduler))
    index = {"_class_name": "DDPMPipeline", "_diffusers_version": "0.1.1",
             "scheduler": ["diffusers", "DDPMScheduler"],
             "unet": ["diffusers", "UNet2DModel"]}  # fmt: skip
    bare = load_pipeline(tmp_path)
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    found = load_pipeline(tmp_path)
    assert found.sampling == bare.sampling and found.steps == bare.steps == 1000
    recipe = from_pipeline(found).nfe()
    assert (recipe["sampler"], recipe["variance"], recipe["clip"]) == ("ddpm", "large", True)
    assert recipe["nfe"] == 1000


def test_a_cached_name_of_the_hub_is_read_offline(pixels, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder = pixels[1]
    for name, flat in (("nested", False), ("flat", True)):
        at = tmp_path / f"models--owner--{name}"
        (at / "refs").mkdir(parents=True)
        (at / "refs" / "main").write_text("0" * 40)
        snapshot = at / "snapshots" / ("0" * 40)
        shutil.copytree(folder, snapshot)
        if flat:
            for file in [*(snapshot / "unet").iterdir(), *(snapshot / "scheduler").iterdir()]:
                file.rename(snapshot / file.name)
            (snapshot / "unet").rmdir()
            (snapshot / "scheduler").rmdir()
        same_part(load_pipeline(f"owner/{name}").network, load_pipeline(folder).network)
    with pytest.raises(ValueError, match="offline"):
        load_pipeline("owner/other")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(_class_name="StableDiffusionPipeline"), "StableDiffusionPipeline"),
        (dict(unet=["diffusers", "UNet1DModel"]), "must be a UNet2DModel"),
        (dict(vqvae=["diffusers", "VQModel"]), "vqvae"),
    ],
)
def test_another_pipeline_is_refused_in_a_line(change, said, pixels, tmp_path):
    _, folder = pixels
    for part in ("unet", "scheduler"):
        (tmp_path / part).symlink_to(folder / part)
    index = json.loads((folder / "model_index.json").read_text())
    (tmp_path / "model_index.json").write_text(json.dumps({**index, **change}))
    with pytest.raises(ValueError, match=said) as caught:
        load_pipeline(tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_what_is_missing_is_named(pixels, tmp_path):
    _, folder = pixels
    with pytest.raises(ValueError, match="no folder of a diffusers pipeline"):
        load_pipeline(tmp_path)
    shutil.copy(folder / "model_index.json", tmp_path)
    with pytest.raises(ValueError, match=r"lacks scheduler/scheduler_config\.json"):
        load_pipeline(tmp_path)
    shutil.copytree(folder / "scheduler", tmp_path / "scheduler")
    with pytest.raises(ValueError, match=r"lacks unet/config\.json"):
        load_pipeline(tmp_path)
    with pytest.raises(ValueError, match="no such file or folder"):
        load_pipeline(tmp_path / "elsewhere")


def test_what_no_pipeline_draws_with_is_not_saved(pixels, tmp_path):
    found = load_pipeline(pixels[1])
    recipe = {**found.sampling.recipe, "sampler": "euler", "spacing": "linspace"}
    sampling = found.sampling._replace(recipe=recipe)
    with pytest.raises(ValueError, match="'euler'"):
        save_pipeline(tmp_path, type(found)(found.network, sampling, 50))
