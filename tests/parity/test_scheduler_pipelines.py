"""What Stable Diffusion's pipelines make of a scheduler file, and images of a chosen sampler."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

from diffjax.choices import build
from diffjax.diffusion.recipes import make_recipe
from diffjax.diffusion.sampling import initial_noise
from diffjax.diffusion.schedules import SCHEDULES
from diffjax.interop import stable_diffusion
from diffjax.interop.scheduler import SAMPLERS, own_recipe
from diffjax.keys import per_row, stream

torch = pytest.importorskip("torch", reason="parity needs torch: pip install -e '.[parity]'")
diffusers = pytest.importorskip("diffusers", reason="parity needs diffusers: '.[parity]'")
transformers = pytest.importorskip("transformers", reason="parity needs transformers: '.[parity]'")

from tests.parity.scheduler_files import SD, SOURCES  # noqa: E402
from tests.parity.stable_diffusion import LATENT, autoencoder, text, unet  # noqa: E402

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore::FutureWarning")]
FILES = {
    "missing": ("DDIMScheduler", dict(**SD, set_alpha_to_one=False)),
    "missing, leading": ("DDIMScheduler", dict(**SD, timestep_spacing="leading")),
    "said": ("DDIMScheduler", dict(**SD, clip_sample=True, steps_offset=0)),
    "of PNDM": ("PNDMScheduler", dict(**SD, skip_prk_steps=True)),
    "of Euler": ("EulerDiscreteScheduler", dict(**SD, timestep_spacing="leading", steps_offset=0)),
}
PARTS = ("vae", "text_encoder", "tokenizer", "unet", "safety_checker", "feature_extractor")


@pytest.mark.parametrize("sampler", [s for s in SAMPLERS if s != "ode"])
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("pipeline", [
    stable_diffusion.PIPELINES[0],
    pytest.param(stable_diffusion.PIPELINES[1], marks=pytest.mark.heavy),
])  # fmt: skip
def test_what_their_pipeline_sets(pipeline, name, sampler, tmp_path, monkeypatch):
    """The scheduler that a pipeline is given has clip_sample False and steps_offset 1 after."""
    kind, settings = FILES[name]
    for part in stable_diffusion.PARTS:
        (tmp_path / part).mkdir()
    file = tmp_path / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({"_class_name": kind, **settings}))
    given = {"skip_prk_steps": sampler == "plms"} if "PNDM" in SAMPLERS[sampler] else {}
    scheduler = getattr(diffusers, SAMPLERS[sampler]).from_pretrained(file.parent, **given)
    kw = {**dict.fromkeys(PARTS), "scheduler": scheduler, "requires_safety_checker": False}
    theirs = getattr(diffusers, pipeline)(**kw).scheduler
    theirs.set_timesteps(7)

    for loader in ("load_unet", "load_autoencoder", "load_text"):
        monkeypatch.setattr(stable_diffusion, loader, lambda folder: None)
    index = {k: [lib, classes[0]] for k, (lib, classes) in stable_diffusion.PARTS.items()}
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": pipeline, **index}))
    sampling = stable_diffusion.load_stable_diffusion(tmp_path).sampling
    recipe = make_recipe(**own_recipe(sampling, sampling.recipe, sampler), steps=7)
    rows = recipe.rows(build(SCHEDULES, "schedule", sampling.schedule))
    np.testing.assert_allclose(rows.at.t, theirs.timesteps.numpy(), rtol=1e-6)
    assert recipe.guidance.clip is bool(theirs.config.get("clip_sample", False)) is False
    assert recipe.grid["offset"] == theirs.config.steps_offset == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Version 1, tiny, with its scheduler file as released."""
    from diffjax.data.tokenizer_training import train_tokenizer

    root = tmp_path_factory.mktemp("sd1")
    train_tokenizer(["a red cube on a blue ball"], 520, style="hf").save(root / "given")
    pipeline = diffusers.StableDiffusionPipeline(
        vae=autoencoder(), text_encoder=text("sd1"), unet=unet("sd1"),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(root / "given"),
        scheduler=diffusers.PNDMScheduler(), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(root / "model")
    kind, settings = SOURCES["sd1"]
    file = root / "model" / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({"_class_name": kind, **settings}))
    return root / "model"


@pytest.mark.heavy
@pytest.mark.parametrize("sampler", ["plms", "euler", "heun", "dpmpp_2m", "ddim"])
def test_images_of_a_chosen_sampler(sampler, folder):
    """As `pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)` draws."""
    from diffjax.pretrained.released import stable_diffusion_pipeline

    side = 8 * LATENT
    keys = per_row(stream(jax.random.key(3), "sample"), np.arange(2))
    noise = np.asarray(initial_noise(1.0, keys, (LATENT, LATENT, 4)))
    pipeline = stable_diffusion_pipeline(str(folder))
    cond, negative = ({"tokens": pipeline.tokenize([s] * 2)} for s in ("a red ball", "a cube"))
    with jax.default_matmul_precision("highest"):
        ours = pipeline.draw(
            cond, 3, np.arange(2), negative, (side, side), sampler=sampler, steps=7, guidance=4.0
        )
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = getattr(diffusers, SAMPLERS[sampler]).from_config(pipe.scheduler.config)
    theirs = pipe(
        ["a red ball"] * 2, negative_prompt=["a cube"] * 2, num_inference_steps=7,
        guidance_scale=4.0, output_type="np", latents=torch.tensor(np.moveaxis(noise, -1, 1)),
        height=side, width=side,
    ).images  # fmt: skip
    assert theirs.std() > 0.02
    assert np.abs((ours + 1) / 2 - theirs).max() < 1e-3
