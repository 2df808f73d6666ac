"""The autoencoder equals diffusers' `AutoencoderKL` and `VQModel`; folders go both ways."""

import json
import re

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file, save_file

from diffjax.interop.autoencoder import load_autoencoder, save_autoencoder
from diffjax.models import build_model

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")
diffusers = pytest.importorskip("diffusers", reason="parity needs diffusers: '.[parity]'")
pytest.importorskip("transformers", reason="parity needs transformers: '.[parity]'")

from tests.parity.networks import some  # noqa: E402
from tests.parity.stable_diffusion import autoencoder, shaken  # noqa: E402

pytestmark = pytest.mark.parity

FILE = "diffusion_pytorch_model.safetensors"


def quantised():
    torch.manual_seed(1)
    kwargs = dict(block_out_channels=(16, 32), latent_channels=3, num_vq_embeddings=24,
                  norm_num_groups=8, layers_per_block=1,
                  down_block_types=("DownEncoderBlock2D",) * 2,
                  up_block_types=("UpDecoderBlock2D",) * 2)  # fmt: skip
    return shaken(diffusers.VQModel(**kwargs))


SMALL = dict(
    block_out_channels=(16, 32),
    down_block_types=("DownEncoderBlock2D",) * 2,
    up_block_types=("UpDecoderBlock2D",) * 2,
)
CASES = {
    "f2": lambda: autoencoder(layers_per_block=2, **SMALL),
    "f8": lambda: autoencoder(layers_per_block=2),
    "f4": lambda: autoencoder(
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=3,
        scaling_factor=0.3,
        shift_factor=0.1,
        layers_per_block=1,
    ),
    "f16": lambda: autoencoder(
        block_out_channels=(16, 16, 32, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 4 + ("AttnDownEncoderBlock2D",),
        up_block_types=("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 4,
        latent_channels=16,
        layers_per_block=1,
    ),
    # Attention at the last level and more latent channels, as of factor 16; shifted, as others.
    "attends": lambda: autoencoder(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=16,
        scaling_factor=0.3,
        shift_factor=0.1,
    ),
    "vq": quantised,
}


@pytest.fixture(scope="module", params=some(CASES, "f2", "attends", "vq"))
def pair(request, tmp_path_factory):
    model = CASES[request.param]()
    folder = tmp_path_factory.mktemp("theirs")
    model.save_pretrained(folder)
    return model, folder


def relative(a, b):
    b = b.numpy().transpose(0, 2, 3, 1)
    return np.linalg.norm(np.asarray(a) - b) / np.linalg.norm(b)


def test_encode_and_decode_are_equal(pair):
    theirs, folder = pair
    part = load_autoencoder(folder)
    model = build_model(**part.section)
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (2, 32, 48, 3)).astype(np.float32)
    h, w = 32 // model.factor, 48 // model.factor
    z = rng.standard_normal((2, h, w, model.latent_channels)).astype(np.float32)
    torch_of = lambda a: torch.tensor(a.transpose(0, 3, 1, 2))  # noqa: E731

    @jax.jit
    def ours(variables, x, z):
        encoded = model.apply(variables, x, method="encode")
        # What is decoded there is quantised first, as what diffusion has drawn is here.
        quantised = model.bottleneck != "kl"
        drawn = quantised and model.apply(variables, z * model.scale, method="from_latents")
        sample = encoded if quantised else encoded.sample(z)
        return encoded, sample, model.apply(variables, z, method="decode"), drawn

    with jax.default_matmul_precision("highest"), torch.no_grad():
        latents, sample, image, drawn = ours(part.variables, x, z)
        if model.bottleneck == "kl":
            ref = theirs.encode(torch_of(x)).latent_dist
            assert relative(latents.mean, ref.mean) < 1e-5  # promised: 1e-4
            assert relative(latents.log_variance, ref.logvar) < 1e-5
            assert np.abs(np.asarray(sample) - np.asarray(latents.mean)).max() > 0
            assert relative(sample, ref.mean + ref.std * torch_of(z)) < 1e-5
            assert relative(image, theirs.decode(torch_of(z)).sample) < 1e-5
        else:
            assert relative(latents, theirs.encode(torch_of(x)).latents) < 1e-5
            assert relative(drawn, theirs.decode(torch_of(z)).sample) < 1e-5
            assert (
                relative(image, theirs.decode(torch_of(z), force_not_quantize=True).sample) < 1e-5
            )
    assert (model.scale, model.shift) == (
        theirs.config.scaling_factor,
        theirs.config.get("shift_factor") or 0.0,
    )


def test_a_folder_goes_both_ways(pair, tmp_path):
    theirs, folder = pair
    part = load_autoencoder(folder)
    save_autoencoder(tmp_path / "a", part)
    again, report = type(theirs).from_pretrained(
        tmp_path / "a", output_loading_info=True, low_cpu_mem_usage=False
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert all(torch.equal(again.state_dict()[k], v) for k, v in theirs.state_dict().items())
    lists = lambda c: {k: tuple(v) if isinstance(v, list) else v for k, v in c.items()}  # noqa: E731
    mine, ref = lists(dict(again.config)), lists(dict(theirs.config))
    assert {k: mine[k] for k in ref if k[0] != "_"} == {k: ref[k] for k in ref if k[0] != "_"}
    back = load_autoencoder(tmp_path / "a")
    assert (back.section, back.facts) == (part.section, part.facts)
    before, after = (flatten_dict(p.variables, sep="/") for p in (part, back))
    assert before.keys() == after.keys()
    assert all(before[k].tobytes() == after[k].tobytes() for k in before)
    save_autoencoder(tmp_path / "b", back)
    assert (tmp_path / "a" / FILE).read_bytes() == (tmp_path / "b" / FILE).read_bytes()


@pytest.mark.parametrize("convolutions", [False, True])
def test_old_names_and_shapes_of_attention_are_read(convolutions, tmp_path):
    autoencoder().save_pretrained(tmp_path)
    part = load_autoencoder(tmp_path)
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for key, value in load_file(tmp_path / FILE).items():
        for new, name in names.items():
            key = re.sub(rf"(attentions\.0)\.{re.escape(new)}\.", rf"\1.{name}.", key)
        split = convolutions and value.ndim == 2
        old[key] = value[:, :, None, None].copy() if split else value
    assert any("proj_attn" in key for key in old)
    save_file(old, tmp_path / FILE)
    again = load_autoencoder(tmp_path)
    a, b = (flatten_dict(p.variables, sep="/") for p in (part, again))
    assert all(np.array_equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(_class_name="AutoencoderKLFlux2"), "AutoencoderKLFlux2"),
        (dict(use_quant_conv=False), "use_quant_conv=False"),
        (dict(latent_channels=5), "shapes differ"),
        (dict(latents_mean=[1.0]), "latents_mean"),
        (dict(out_channels=4), "differ in channels"),
        (dict(down_block_types=["DownEncoderBlock2D"]), "down_block_types"),
    ],
)
def test_another_network_is_refused_in_a_line(change, said, tmp_path):
    autoencoder().save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ValueError, match=said) as caught:
        load_autoencoder(tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
