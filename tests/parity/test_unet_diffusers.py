"""The U-Net equals diffusers' `UNet2DModel`, and its folders go both ways."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")
diffusers = pytest.importorskip("diffusers", reason="parity needs diffusers: '.[parity]'")

from configs.networks import NETWORKS  # noqa: E402
from diffjax.interop.files import read_tensors, write_tensors  # noqa: E402
from diffjax.interop.parts import Part, parameter_shapes, spec  # noqa: E402
from diffjax.interop.unet_2d import load_unet_2d, save_unet_2d  # noqa: E402
from tests.parity.networks import agree, draw, first, ours, same_part, shaken, some  # noqa: E402

pytestmark = pytest.mark.parity

SIZE = 16
DOWN, DOWN_A = "DownBlock2D", "AttnDownBlock2D"
UP, UP_A = "UpBlock2D", "AttnUpBlock2D"
# google/ddpm-cifar10-32's choices, smaller; DDPM's padding, waves and epsilon.
DDPM = dict(
    block_out_channels=(32, 64, 64),
    layers_per_block=1,
    down_block_types=(DOWN, DOWN_A, DOWN),
    up_block_types=(UP, UP_A, UP),
    norm_num_groups=8,
    norm_eps=1e-6,
    downsample_padding=0,
    flip_sin_to_cos=False,
    freq_shift=1,
    attention_head_dim=None,
)
# diffusers drops the middle attention's norm under scale_shift unless its groups are named.
IDDPM = dict(
    block_out_channels=(32, 64),
    layers_per_block=1,
    down_block_types=(DOWN_A, DOWN_A),
    up_block_types=(UP_A, UP_A),
    norm_num_groups=8,
    attn_norm_num_groups=8,
    attention_head_dim=16,
    resnet_time_scale_shift="scale_shift",
    num_class_embeds=10,
)
ADM = IDDPM | dict(
    out_channels=6,
    down_block_types=("ResnetDownsampleBlock2D", DOWN_A),
    up_block_types=(UP_A, "ResnetUpsampleBlock2D"),
    downsample_type="resnet",
    upsample_type="resnet",
    time_embedding_dim=96,
)
BARE = DDPM | dict(add_attention=False, in_channels=1, out_channels=1, attention_head_dim=8)
# What is compared has two levels, and what is refused three.
TWO_LEVELS = dict(
    block_out_channels=(32, 64), down_block_types=(DOWN, DOWN_A), up_block_types=(UP_A, UP)
)
CASES = {"ddpm": DDPM | TWO_LEVELS, "iddpm": IDDPM, "adm": ADM, "bare": BARE}


def make(**kwargs):
    torch.manual_seed(0)
    return shaken(diffusers.UNet2DModel(sample_size=SIZE, **kwargs))


@pytest.fixture(scope="module", params=some(CASES, "ddpm", "adm"))
def pair(request, tmp_path_factory):
    model = make(**CASES[request.param])
    folder = tmp_path_factory.mktemp("theirs")
    model.save_pretrained(folder)
    return model, load_unet_2d(folder)


def labels(model, batch):
    classes = model.config.num_class_embeds
    return np.arange(batch) % classes if classes else None


def run(model, x, t):
    label = labels(model, len(x))
    with torch.no_grad():
        args = (first(x), torch.tensor(t), None if label is None else torch.tensor(label))
        return model(*args).sample


def test_forward_is_equal(pair):
    model, part = pair
    x, t = draw(SIZE, model.config.in_channels), np.array([0, 17, 999])
    agree(ours(part, x, t, label=labels(model, len(x))), run(model, x, t))


def test_a_folder_goes_both_ways(pair, tmp_path):
    model, part = pair
    save_unet_2d(tmp_path, part)
    again, report = diffusers.UNet2DModel.from_pretrained(
        tmp_path, output_loading_info=True, low_cpu_mem_usage=False
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    plain = lambda c: {k: tuple(v) if isinstance(v, list) else v for k, v in c.items()}  # noqa: E731
    mine, theirs = plain(again.config), plain(model.config)
    assert {k: mine[k] for k in theirs if k[0] != "_"} == {
        k: v for k, v in theirs.items() if k[0] != "_"
    }
    x, t = draw(SIZE, model.config.in_channels), np.array([3, 300, 900])
    assert torch.equal(run(again.eval(), x, t), run(model, x, t))
    same_part(load_unet_2d(tmp_path), part)


def test_names_of_before_2023(tmp_path):
    """google/ddpm-cifar10-32 and its like: other names of attention's layers, torch's own file."""
    model = make(**CASES["ddpm"])
    model.save_pretrained(tmp_path)
    part = load_unet_2d(tmp_path)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = {}
    for key, value in model.state_dict().items():
        for new, name in old.items():
            key = key.replace(f".{new}.", f".{name}.")
        weights[key] = value
    assert any("mid_block.attentions.0.proj_attn.bias" in key for key in weights)
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(weights, tmp_path / "diffusion_pytorch_model.bin")
    config = json.loads((tmp_path / "config.json").read_text())
    newer = ("attn_norm_num_groups", "add_attention", "class_embed_type", "time_embedding_dim",
             "resnet_time_scale_shift", "downsample_type", "upsample_type", "dropout",
             "num_class_embeds", "num_train_timesteps")  # fmt: skip
    config = {k: v for k, v in config.items() if k not in newer}
    (tmp_path / "config.json").write_text(json.dumps({**config, "_diffusers_version": "0.0.4"}))
    same_part(load_unet_2d(tmp_path), part)


@pytest.mark.parametrize(
    "name", some(("ddpm_cifar10", "ddpm_256", "ddim_celeba64"), "ddpm_cifar10")
)
def test_a_network_that_we_train_can_be_given_away(name, tmp_path):
    """A config attends by height; its folder reads back as one that attends at those levels."""
    section = NETWORKS[name] | {"channels": 16, "norm_groups": 8, "blocks": 1}
    size = 256 if name.endswith("256") else 64 if name.endswith("64") else 32
    shapes = parameter_shapes(section, spec(1, size, size, 3), spec(1))
    nested: dict = {}
    rng = np.random.default_rng(0)
    for path, shape in shapes.items():
        *parents, leaf = path.split("/")
        at = nested
        for parent in parents:
            at = at.setdefault(parent, {})
        at[leaf] = rng.standard_normal(shape.shape).astype(np.float32)
    part = Part(section, {"params": nested}, {"sample_size": size})
    save_unet_2d(tmp_path, part)
    back = load_unet_2d(tmp_path)
    levels = {i for i in range(len(section["channel_mult"])) if size >> i == 16}
    assert set(back.section["attention_levels"]) == levels
    same_part(back, part._replace(section=back.section))
    with pytest.raises(ValueError, match="size of the images"):
        save_unet_2d(tmp_path, part._replace(facts={}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(_class_name="UNet2DConditionModel"), "UNet2DConditionModel"),
        (dict(time_embedding_type="fourier"), "time_embedding_type='fourier'"),
        (dict(down_block_types=["SkipDownBlock2D"] * 3), "SkipDownBlock2D"),
        (dict(down_block_types=[DOWN, DOWN, DOWN_A]), "different levels"),
        (dict(resnet_time_scale_shift="spatial"), "spatial"),
        (dict(resnet_time_scale_shift="scale_shift"), "attn_norm_num_groups=None"),
        (dict(upsample_type="resnet"), "in different ways"),
        (dict(center_input_sample=True), "center_input_sample=True"),
        (dict(mid_block_type=None), "mid_block_type=None"),
        (dict(class_embed_type="timestep"), "class_embed_type='timestep'"),
        (dict(layers_per_block=3), "missing"),
        (dict(out_channels=5), "shapes differ"),
        (dict(norm_num_groups=7), "divide"),
        (dict(block_out_channels=[32, 48, 64]), "no multiples"),
        (dict(a_thing_of_tomorrow=3), "a_thing_of_tomorrow=3"),
    ],
)
def test_another_network_is_refused_in_a_line(change, said, pair_of_ddpm, tmp_path):
    config = json.loads((pair_of_ddpm / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    name = "diffusion_pytorch_model.safetensors"
    (tmp_path / name).symlink_to(pair_of_ddpm / name)
    with pytest.raises(ValueError, match=said) as caught:
        load_unet_2d(tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.fixture(scope="module")
def pair_of_ddpm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ddpm")
    make(**DDPM).save_pretrained(folder)
    return folder


def test_damaged_files_are_refused_in_a_line(pair_of_ddpm, tmp_path):
    name = "diffusion_pytorch_model.safetensors"
    (tmp_path / "config.json").write_bytes((pair_of_ddpm / "config.json").read_bytes())
    with pytest.raises(ValueError, match="no weights"):
        load_unet_2d(tmp_path)
    whole = (pair_of_ddpm / name).read_bytes()
    for cut in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / name).write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="safetensors") as caught:
            load_unet_2d(tmp_path)
        assert "\n" not in str(caught.value)
    weights = read_tensors(pair_of_ddpm / name)
    write_tensors(tmp_path / name, {**weights, "surplus": np.zeros(1)})
    with pytest.raises(ValueError, match=r"unexpected.*surplus"):
        load_unet_2d(tmp_path)
    write_tensors(tmp_path / name, {k: v for k, v in weights.items() if k != "conv_in.bias"})
    with pytest.raises(ValueError, match=r"missing.*conv_in\.bias"):
        load_unet_2d(tmp_path)


def test_a_network_that_diffusers_has_not_is_not_saved(pair_of_ddpm, tmp_path):
    part = load_unet_2d(pair_of_ddpm)
    for change in (dict(norm_min_channels=4), dict(skip_scale=0.5), dict(num_heads=4)):
        changed = part._replace(section={**part.section, **change})
        with pytest.raises(ValueError, match=f"no place for {next(iter(change))}"):
            save_unet_2d(tmp_path / "out", changed)
    assert not (tmp_path / "out").exists()
