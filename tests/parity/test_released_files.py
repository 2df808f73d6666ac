"""Files that are state dicts alone, opened by the name of their release and drawn from."""

import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")

from diffjax.diffusion.sampling import initial_noise  # noqa: E402
from diffjax.interop.autoencoder import autoencoder_shapes, save_autoencoder  # noqa: E402
from diffjax.interop.files import write_tensors  # noqa: E402
from diffjax.interop.parts import Part  # noqa: E402
from diffjax.keys import per_row, stream  # noqa: E402
from diffjax.pretrained.released import open_released  # noqa: E402
from tests.parity import dit_twin, edm_twin, openai_twin  # noqa: E402
from tests.parity.networks import first, same_part, shaken, state  # noqa: E402

pytestmark = pytest.mark.parity


def heun(denoise, z, steps):
    """Karras et al. 2022, algorithm 1, in float64 but for the network."""
    ramp = np.linspace(0, 1, steps)
    sigma = (80 ** (1 / 7) + ramp * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    z = z.double() * sigma[0]
    slope = lambda z, s: (z - denoise(z.float(), torch.full((len(z),), s)).double()) / s  # noqa: E731
    for s, below in zip(sigma, [*sigma[1:], 0.0], strict=True):
        d = slope(z, s)
        ahead = z + (below - s) * d
        if below:
            d = (d + slope(ahead, below)) / 2
        z = z + (below - s) * d
    return z


def test_edm_is_drawn_as_its_paper_says(tmp_path):
    torch.manual_seed(0)
    twin = shaken(edm_twin.Preconditioned(size=8, width=32, mult=(1,), attends=(8,)))
    write_tensors(tmp_path / "edm.safetensors", state(twin))
    model = open_released(tmp_path / "edm.safetensors", "edm")
    assert model.image_shape == (8, 8, 3) and model.nfe()["nfe"] == 35
    index = np.arange(2, dtype=np.int32)
    keys = per_row(stream(jax.random.key(5), "sample"), index)
    noise = np.asarray(initial_noise(1.0, keys, (8, 8, 3)))
    with jax.default_matmul_precision("highest"):
        drawn = model.predict_fns()["sample"](model.variables, np.int32(5), index, steps=3)
    with torch.no_grad():
        ref = heun(twin, first(noise), 3).numpy().transpose(0, 2, 3, 1)
    assert ref.std() > 0.1 and np.abs(drawn - ref).max() < 1e-3 * np.abs(ref).max()


def test_openai_s_are_drawn_as_their_readmes_say(tmp_path):
    twin = openai_twin.UNet(32, (1, 2), 1, (1,), 4, classes=3)
    torch.save(twin.state_dict(), tmp_path / "128x128_diffusion.pt")
    model = open_released(tmp_path / "128x128_diffusion.pt", "adm_128")
    assert model.image_shape == (128, 128, 3) and model.num_classes == 3
    how = model.nfe()
    assert (how["nfe"], how["variance"], how["spacing"]) == (250, "learned", "linspace")
    assert model.model.learned_variance and how["clip"]
    with pytest.raises(ValueError, match="guidance needs a null condition"):
        model.nfe(guidance=2.0)


def test_a_dit_has_its_codec_beside_it(tmp_path):
    twin = dit_twin.DiT(width=384, depth=1, heads=6, classes=3)
    torch.save({"ema": twin.state_dict()}, tmp_path / "DiT.pt")
    section = {"type": "autoencoder", "channels": 8, "channel_mult": (1, 2), "blocks": 1,
               "latent_channels": 4, "norm_groups": 4}  # fmt: skip
    draw = np.random.default_rng(0).standard_normal
    shapes = autoencoder_shapes(section)
    params = {path: draw(s.shape).astype(np.float32) for path, s in shapes.items()}
    part = Part(section, {"params": unflatten_dict(params, sep="/")})
    save_autoencoder(tmp_path / "vae", part)
    model = open_released(tmp_path / "DiT.pt", "dit", tmp_path / "vae")
    assert model.image_shape == (16, 16, 3) and model.model.shape == (8, 8, 4)
    # Of latents there are densities, but none of the images they stand for.
    assert "sample" in model.predict_fns() and "bits_per_dim" not in model.predict_fns()
    how = model.nfe(guidance=1.5, guidance_channels=3)
    assert (how["nfe"], how["variance"], how["guidance_channels"]) == (250, "learned", 3)
    same_part(Part(section, {"params": model.variables.frozen["codec"]["params"]}), part)


def test_a_network_that_is_shown_another_image_is_refused(tmp_path):
    """ADM's upsamplers see the smaller image beside the larger."""
    weights = state(openai_twin.UNet(32, (1, 2), 1, (1,), 4))
    weights["input_blocks.0.0.weight"] = np.zeros((32, 6, 3, 3), np.float32)
    weights["out.2.weight"] = np.zeros((3, 32, 3, 3), np.float32)
    weights["out.2.bias"] = np.zeros(3, np.float32)
    write_tensors(tmp_path / "upsampler.safetensors", weights)
    with pytest.raises(ValueError, match="takes 6 channels and gives 3"):
        open_released(tmp_path / "upsampler.safetensors", "adm_128")
