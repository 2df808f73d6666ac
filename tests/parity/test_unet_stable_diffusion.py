"""The U-Net equals diffusers' `UNet2DConditionModel`, and its folders go both ways."""

import json

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from diffjax.interop.unet import load_unet, save_unet
from diffjax.models import build_model
from diffjax.models.conditioning import Conditioning

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")
diffusers = pytest.importorskip("diffusers", reason="parity needs diffusers: '.[parity]'")
pytest.importorskip("transformers", reason="parity needs transformers: '.[parity]'")

from tests.parity.networks import some  # noqa: E402
from tests.parity.stable_diffusion import LATENT, TWO_LEVELS, unet  # noqa: E402

pytestmark = pytest.mark.parity

CASES = {
    "sd1": ("sd1", TWO_LEVELS["sd1"] | dict(layers_per_block=2)),
    "sd2": ("sd2", TWO_LEVELS["sd2"]),
    "sd2, 64 per head as in SD 1": (
        "sd2",
        TWO_LEVELS["sd2"] | dict(attention_head_dim=4, sample_size=16),
    ),
    "inpainting": ("sd1", TWO_LEVELS["sd1"] | dict(in_channels=9)),
    # None of Stable Diffusion's: other depth and heads, epsilon, waves, and a level left out.
    "other": (
        "sd2",
        TWO_LEVELS["sd2"]
        | dict(
            transformer_layers_per_block=2,
            attention_head_dim=4,
            norm_eps=1e-3,
            freq_shift=1,
            flip_sin_to_cos=False,
            downsample_padding=0,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        ),
    ),
}


@pytest.fixture(scope="module", params=some(CASES, "sd1", "sd2", "other"))
def pair(request, tmp_path_factory):
    version, changes = CASES[request.param]
    model = unet(version, **changes)
    folder = tmp_path_factory.mktemp("theirs")
    model.save_pretrained(folder)
    return model, folder


def test_forward_is_equal(pair):
    model, folder = pair
    part = load_unet(folder)
    rng = np.random.default_rng(0)
    channels = model.config.in_channels
    x = rng.standard_normal((2, LATENT, 2 * LATENT, channels)).astype(np.float32)
    t = np.array([1.0, 801.0], np.float32)
    tokens = rng.standard_normal((2, 7, 24)).astype(np.float32)
    with jax.default_matmul_precision("highest"):
        apply = jax.jit(build_model(**part.section).apply)
        y = np.asarray(apply(part.variables, x, t, Conditioning(context=tokens)))
    with torch.no_grad():
        z = torch.tensor(x.transpose(0, 3, 1, 2))
        ref = model(z, torch.tensor(t), torch.tensor(tokens)).sample
    ref = ref.numpy().transpose(0, 2, 3, 1)
    assert np.linalg.norm(y - ref) < 1e-5 * np.linalg.norm(ref)  # promised: 1e-4
    assert np.abs(y - ref).max() < 1e-4 * np.abs(ref).max()


def test_a_folder_goes_both_ways(pair, tmp_path):
    model, folder = pair
    part = load_unet(folder)
    save_unet(tmp_path / "a", part)
    again, report = diffusers.UNet2DConditionModel.from_pretrained(
        tmp_path / "a", output_loading_info=True, low_cpu_mem_usage=False
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    mine, theirs = dict(again.config), dict(model.config)
    same = {k for k in theirs if not k.startswith("_")}
    lists = {k: (tuple(v) if isinstance(v, list) else v) for k, v in mine.items()}
    theirs = {k: (tuple(v) if isinstance(v, list) else v) for k, v in theirs.items()}
    assert {k: lists[k] for k in same} == {k: theirs[k] for k in same}

    back = load_unet(tmp_path / "a")
    assert (back.section, back.facts) == (part.section, part.facts)
    before, after = (flatten_dict(p.variables, sep="/") for p in (part, back))
    assert before.keys() == after.keys()
    assert all(before[k].tobytes() == after[k].tobytes() for k in before)
    save_unet(tmp_path / "b", back)
    for file in ("config.json", "diffusion_pytorch_model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(_class_name="SD3Transformer2DModel"), "SD3Transformer2DModel"),
        (dict(addition_embed_type="text_time"), "addition_embed_type='text_time'"),
        (dict(down_block_types=["AttnDownBlock2D"] * 3), "AttnDownBlock2D"),
        (dict(attention_head_dim=[2, 2, 4]), "attention_head_dim"),
        (dict(layers_per_block=2), "missing"),
        (dict(out_channels=5), "shapes differ"),
        (dict(block_out_channels=[16, 24, 32]), "no multiples"),
        (dict(a_thing_of_tomorrow=3), "a_thing_of_tomorrow=3"),
    ],
)
def test_another_network_is_refused_in_a_line(change, said, tmp_path):
    unet("sd1").save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ValueError, match=said) as caught:
        load_unet(tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_network_that_diffusers_has_not_is_not_saved(tmp_path):
    unet("sd1").save_pretrained(tmp_path)
    part = load_unet(tmp_path)
    for change in (dict(scale_shift=True), dict(norm_min_channels=4), dict(resample="resblock")):
        changed = part._replace(section={**part.section, **change})
        with pytest.raises(ValueError, match=f"no place for {next(iter(change))}"):
            save_unet(tmp_path / "out", changed)
