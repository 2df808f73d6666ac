"""Whole Stable Diffusions: folders of diffusers', original files, text towers, schedulers."""

import json
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file, save_file

from diffjax.data.tokenizer_training import train_tokenizer
from diffjax.interop.scheduler import Sampling, read_scheduler, write_scheduler
from diffjax.interop.stable_diffusion import load_stable_diffusion, save_stable_diffusion
from diffjax.interop.stable_diffusion_original import load_original, save_original
from diffjax.models import build_model

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")
diffusers = pytest.importorskip("diffusers", reason="parity needs diffusers: '.[parity]'")
transformers = pytest.importorskip("transformers", reason="parity needs transformers: '.[parity]'")

from diffusers.loaders import single_file_utils  # noqa: E402

from tests.parity.stable_diffusion import CONTEXT, VERSIONS, VOCAB, autoencoder, text, unet  # noqa: E402

pytestmark = pytest.mark.parity

# What an original file cannot say must be the published models': 8 heads or 64 channels per head,
# 32 groups.
PUBLISHED = {
    "sd1": dict(block_out_channels=(32, 64, 64), attention_head_dim=8),
    "sd2": dict(block_out_channels=(64, 128, 128), attention_head_dim=[1, 2, 2]),
}


@pytest.fixture(scope="module", params=list(VERSIONS))
def theirs(request, tmp_path_factory):
    """(version, their pipeline, the folder it was saved in)."""
    version, folder = request.param, tmp_path_factory.mktemp("theirs")
    train_tokenizer(["a red cube on a blue ball"], 520, style="hf").save(folder / "given")
    pipeline = diffusers.StableDiffusionPipeline(
        vae=autoencoder(block_out_channels=(32, 32, 64, 64), norm_num_groups=32),
        text_encoder=text(version),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(folder / "given"),
        unet=unet(version, **PUBLISHED[version], norm_num_groups=32),
        scheduler=diffusers.PNDMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
            skip_prk_steps=True, steps_offset=1,
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder / "pipeline")
    return version, pipeline, folder / "pipeline"


def leaves(model):
    parts = {"unet": model.unet, "vae": model.vae, "text": model.text}
    return flatten_dict({k: p.variables for k, p in parts.items()}, sep="/")


def same(a, b):
    a, b = leaves(a), leaves(b)
    return a.keys() == b.keys() and all(a[k].tobytes() == b[k].tobytes() for k in a)


def states(pipeline):
    return {
        (name, k): v
        for name in ("unet", "vae", "text_encoder")
        for k, v in getattr(pipeline, name).state_dict().items()
    }


def tokens():
    rng = np.random.default_rng(0)
    return rng.integers(1, VOCAB, (2, CONTEXT)).astype(np.int32)


def test_text_features_are_equal(theirs):
    """Their last hidden state, after the norm: of a folder all blocks, of version 2 too."""
    _, pipeline, folder = theirs
    model = load_stable_diffusion(folder)
    ids = tokens()
    with jax.default_matmul_precision("highest"), torch.no_grad():
        tower = build_model(**model.text.section)
        apply = jax.jit(tower.apply, static_argnames=("pooled", "skip"))
        got = apply(model.text.variables, ids, pooled=False, skip=model.skip)
        ref = pipeline.text_encoder(torch.tensor(ids, dtype=torch.long))[0].numpy()
    assert np.linalg.norm(got - ref) < 1e-5 * np.linalg.norm(ref)


def test_a_folder_goes_both_ways(theirs, tmp_path):
    _, pipeline, folder = theirs
    model = load_stable_diffusion(folder)
    save_stable_diffusion(tmp_path / "a", model)
    again = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "a")
    mine, ref = states(again), states(pipeline)
    assert mine.keys() == ref.keys() and all(torch.equal(mine[k], ref[k]) for k in ref)
    _, report = transformers.CLIPTextModel.from_pretrained(
        tmp_path / "a" / "text_encoder", output_loading_info=True
    )
    assert not any(report[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(again.scheduler) is type(pipeline.scheduler)
    a, b = dict(again.scheduler.config), dict(pipeline.scheduler.config)
    assert {k: v for k, v in a.items() if k[0] != "_"} == {
        k: v for k, v in b.items() if k[0] != "_"
    }
    ids = again.tokenizer("a red ball", padding="max_length").input_ids
    assert ids == pipeline.tokenizer("a red ball", padding="max_length").input_ids
    back = load_stable_diffusion(tmp_path / "a")
    assert same(model, back) and back.sampling == model.sampling
    assert [back.unet.section, back.vae.section, back.text.section] == [
        model.unet.section, model.vae.section, model.text.section
    ]  # fmt: skip


def test_an_original_file_goes_both_ways(theirs, tmp_path):
    version, pipeline, folder = theirs
    model = load_stable_diffusion(folder)
    file = tmp_path / "model.safetensors"
    save_original(file, model)
    checkpoint = {k: torch.tensor(v) for k, v in load_file(file).items()}
    ref = states(pipeline)

    # Their own converter reads what we wrote.
    as_dict = lambda m: dict(m.config)  # noqa: E731
    got = single_file_utils.convert_ldm_unet_checkpoint(dict(checkpoint), as_dict(pipeline.unet))
    assert {("unet", k) for k in got} == {k for k in ref if k[0] == "unet"}
    assert all(torch.equal(v.reshape(ref["unet", k].shape), ref["unet", k]) for k, v in got.items())
    got = single_file_utils.convert_ldm_vae_checkpoint(dict(checkpoint), as_dict(pipeline.vae))
    assert {("vae", k) for k in got} == {k for k in ref if k[0] == "vae"}
    assert all(torch.equal(v.reshape(ref["vae", k].shape), ref["vae", k]) for k, v in got.items())

    prediction = "eps" if version == "sd2" else None
    back = load_original(file, prediction)
    assert same(model, back) and back.skip == 0
    assert back.sampling == model.sampling
    for x, y in ((back.unet, model.unet), (back.vae, model.vae)):
        assert build_model(**x.section) == build_model(**y.section)
    x, y = (build_model(**m.text.section) for m in (back, model))
    assert (x.activation, x.width, x.depth) == (y.activation, y.width, y.depth)
    save_original(tmp_path / "again.safetensors", back)
    assert file.read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def ckpt(path, state):
    """As PyTorch Lightning writes it: weights among buffers, averages and callbacks."""
    state = {k: torch.tensor(np.asarray(v)) for k, v in state.items()}
    averaged = {
        "model_ema." + k.removeprefix("model.").replace(".", ""): 2 * v
        for k, v in state.items()
        if k.startswith("model.diffusion_model.")
    }
    buffers = ("betas", "alphas_cumprod_prev", "sqrt_recipm1_alphas_cumprod", "posterior_variance",
               "log_one_minus_alphas_cumprod", "posterior_mean_coef1", "logvar",
               "model_ema.decay", "model_ema.num_updates")  # fmt: skip
    state |= averaged | {name: torch.ones(3) for name in buffers}
    content = {"epoch": 1, "global_step": 3, "callbacks": {}, "lr_schedulers": [{"a": 1.0}]}
    torch.save({**content, "state_dict": state}, path)


def test_a_checkpoint_with_everything_else_that_training_left(theirs, tmp_path):
    _, _, folder = theirs
    model = load_stable_diffusion(folder)
    save_original(tmp_path / "a.safetensors", model)
    ckpt(tmp_path / "model.ckpt", load_file(tmp_path / "a.safetensors"))
    kwargs = dict(prediction="eps")
    assert same(load_original(tmp_path / "model.ckpt", **kwargs), model)
    averaged = load_original(tmp_path / "model.ckpt", ema=True, **kwargs)
    a, b = leaves(averaged), leaves(model)
    for key in a:
        factor = 2 if key.startswith("unet") else 1
        np.testing.assert_array_equal(a[key], factor * b[key])
    with pytest.raises(ValueError, match="no averaged weights"):
        load_original(tmp_path / "a.safetensors", ema=True, **kwargs)


def test_a_whole_open_clip_tower_is_read_without_its_last_block(tmp_path, theirs):
    """An original file of version 2 holds a block more than a folder, which diffusers drops."""
    version, _, folder = theirs
    if version == "sd1":
        pytest.skip("version 1 has transformers' tower")
    model = load_stable_diffusion(folder)
    save_original(tmp_path / "a.safetensors", model)
    state = load_file(tmp_path / "a.safetensors")
    prefix = "cond_stage_model.model."
    for key in [k for k in state if "resblocks.0." in k]:
        state[key.replace("resblocks.0.", "resblocks.3.")] = state[key] + 1
    state[f"{prefix}text_projection"] = np.ones((24, 20), np.float32)
    state[f"{prefix}logit_scale"] = np.float32(4.5)
    state[f"{prefix}attn_mask"] = np.zeros((CONTEXT, CONTEXT), np.float32)
    save_file({k: np.asarray(v) for k, v in state.items()}, tmp_path / "whole.safetensors")
    with pytest.raises(ValueError, match="give prediction='v'"):
        load_original(tmp_path / "whole.safetensors")
    whole = load_original(tmp_path / "whole.safetensors", "v")
    assert (whole.skip, whole.text.section["depth"], whole.text.section["embed"]) == (1, 4, 20)
    assert whole.sampling.prediction == {"type": "v"}
    # A file does not say how many heads: the published towers have 64 channels each, ours 8.
    own = whole.text._replace(section={**whole.text.section, "heads": 3})
    whole = replace(whole, text=own)
    read = lambda m: build_model(**m.text.section).apply(  # noqa: E731
        m.text.variables, jnp.asarray(tokens()), pooled=False, skip=m.skip
    )
    np.testing.assert_array_equal(read(whole), read(model))
    save_stable_diffusion(tmp_path / "folder", replace(whole, tokenizer=folder / "tokenizer"))
    cut = load_stable_diffusion(tmp_path / "folder")
    assert (cut.skip, cut.text.section["depth"]) == (0, 3)
    np.testing.assert_array_equal(read(cut), read(model))
    save_original(tmp_path / "again.safetensors", whole)
    again = load_file(tmp_path / "again.safetensors")
    del state[f"{prefix}attn_mask"]
    assert again.keys() == state.keys()
    assert all(np.array_equal(again[k], state[k]) for k in state)


def test_what_is_wrong_with_a_folder_is_one_line(theirs, tmp_path):
    _, _, given = theirs
    folder = tmp_path / "copy"
    shutil.copytree(given, folder)

    def refused(match, at=folder):
        with pytest.raises(ValueError, match=match) as caught:
            load_stable_diffusion(at)
        assert "\n" not in str(caught.value)

    refused("model_index.json", folder / "unet")
    index = json.loads((folder / "model_index.json").read_text())

    def changed(**kw):
        (folder / "model_index.json").write_text(json.dumps({**index, **kw}))

    changed(_class_name="StableDiffusionXLPipeline")
    refused("StableDiffusionXLPipeline")
    changed(text_encoder_2=["transformers", "CLIPTextModelWithProjection"])
    refused("text_encoder_2")
    changed(unet=["diffusers", "UNetSpatioTemporalConditionModel"])
    refused("UNetSpatioTemporalConditionModel")
    changed()
    (folder / "vae" / "config.json").unlink()
    refused("vae/config.json is missing")
    shutil.rmtree(folder / "vae")
    refused("lacks vae")
    model = load_stable_diffusion(given)
    with pytest.raises(ValueError, match="no tokenizer"):
        save_stable_diffusion(tmp_path / "out", replace(model, tokenizer=None))


def test_what_is_wrong_with_an_original_file_is_one_line(theirs, tmp_path):
    _, _, given = theirs
    file = tmp_path / "model.safetensors"
    save_original(file, load_stable_diffusion(given))
    state = load_file(file)
    unet_key = "model.diffusion_model.input_blocks.1.0.in_layers.2.weight"
    cases = [
        ({**state, "control_model.x": np.zeros(1)}, "control_model"),
        ({**state, f"{unet_key}s": np.zeros(1)}, "unexpected"),
        ({k: v for k, v in state.items() if k != unet_key}, "in_layers.2.weight"),
        ({**state, unet_key: np.zeros((2, 2, 3, 3), np.float32)}, "shapes differ"),
        ({k: v for k, v in state.items() if k[:5] != "first"}, "no Stable Diffusion 1 or 2"),
        ({k: v for k, v in state.items() if "middle_block.1" not in k}, "no U-Net"),
    ]
    for tensors, said in cases:
        save_file({k: np.asarray(v) for k, v in tensors.items()}, file)
        with pytest.raises(ValueError, match=said) as caught:
            load_original(file, "eps")
        assert "\n" not in str(caught.value) and str(file) in str(caught.value)
    with pytest.raises(ValueError, match="safetensors"):
        save_original(tmp_path / "model.ckpt", load_stable_diffusion(given))


SD = dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
SCHEDULERS = {
    "PNDMScheduler": dict(
        **SD, skip_prk_steps=True, steps_offset=1, prediction_type="v_prediction"
    ),
    "DDIMScheduler": dict(**SD, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
    "DDPMScheduler": dict(variance_type="learned_range", beta_schedule="squaredcos_cap_v2"),
    "EulerDiscreteScheduler": dict(**SD, use_karras_sigmas=True),
    "HeunDiscreteScheduler": dict(**SD, timestep_spacing="trailing"),
    "DPMSolverMultistepScheduler": dict(**SD, algorithm_type="sde-dpmsolver++"),
}


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("plain", [True, False])
def test_a_scheduler_goes_both_ways(name, plain, tmp_path):
    given = getattr(diffusers, name)(**({} if plain else SCHEDULERS[name]))
    given.save_pretrained(tmp_path / "a")
    sampling = read_scheduler(tmp_path / "a")
    write_scheduler(tmp_path / "b", sampling)
    assert read_scheduler(tmp_path / "b") == sampling
    back = type(given).from_pretrained(tmp_path / "b")
    a, b = ({k: v for k, v in dict(s.config).items() if k[0] != "_"} for s in (given, back))
    if a["beta_schedule"] == "squaredcos_cap_v2":  # which reads neither
        del a["beta_start"], a["beta_end"], b["beta_start"], b["beta_end"]
    assert a == b


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(_class_name="UniPCMultistepScheduler"), "UniPCMultistepScheduler"),
        (dict(beta_schedule="laplace"), "laplace"),
        (dict(thresholding=True), "thresholding"),
        (dict(trained_betas=[0.1]), "trained_betas"),
        (dict(timestep_spacing="wild"), "wild"),
    ],
)
def test_another_scheduler_is_refused(change, said, tmp_path):
    diffusers.DDIMScheduler().save_pretrained(tmp_path)
    file = tmp_path / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ValueError, match=said):
        read_scheduler(tmp_path)


def test_a_recipe_that_diffusers_has_not_is_not_written(tmp_path):
    recipe = {"sampler": "ddpm", "spacing": "leading", "offset": 0, "final": "first", "clip": True}
    with pytest.raises(ValueError, match="no place"):
        write_scheduler(tmp_path, Sampling({"type": "linear"}, {"type": "eps"}, recipe))
    assert not list(tmp_path.iterdir())


def test_a_cached_name_of_the_hub_is_read_offline(theirs, tmp_path, monkeypatch):
    from huggingface_hub import constants

    _, _, folder = theirs
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    at = tmp_path / "models--owner--name"
    (at / "refs").mkdir(parents=True)
    (at / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folder, at / "snapshots" / ("0" * 40))
    model = load_stable_diffusion("owner/name")
    assert same(model, load_stable_diffusion(folder))
    assert model.tokenizer is not None and (model.tokenizer / "tokenizer_config.json").is_file()
    for name, said in (("owner/other", "offline"), ("stable-diffusion", "no such file")):
        with pytest.raises(ValueError, match=said):
            load_stable_diffusion(name)
