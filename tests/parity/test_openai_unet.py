"""iDDPM's and ADM's files: the U-Net equals an independent PyTorch one with the same weights."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")

from configs.networks import NETWORKS  # noqa: E402
from diffjax.interop.files import write_tensors  # noqa: E402
from diffjax.interop.openai_unet import (  # noqa: E402
    PUBLISHED,
    Release,
    load_openai_unet,
    openai_sampling,
)
from tests.parity.networks import agree, draw, first, ours, shaken, some, state  # noqa: E402
from tests.parity.openai_twin import UNet  # noqa: E402

pytestmark = pytest.mark.parity

SIZE = 8
# (the twin's choices, what the file does not say)
CASES = {
    # Strided convolutions, heads by number.
    "iddpm": (dict(heads=4), Release(SIZE, num_heads=4)),
    # ADM at 64 pixels: residual blocks resample, heads by width, queries before keys and values.
    "adm, new order": (
        dict(heads=1, head_width=16, new_order=True, resblock=True, classes=7),
        Release(SIZE, head_channels=16, new_order=True),
    ),
    "adm": (
        dict(heads=1, head_width=16, resblock=True, attends=(0, 1), blocks=2, classes=7),
        Release(SIZE, head_channels=16),
    ),
    # LSUN's of iDDPM: added embeddings; and ADM's at 512 pixels: a first level of half the width.
    "narrow": (
        dict(heads=1, width=64, mult=(0.5, 1), shift=False, out=3),
        Release(SIZE, num_heads=1),
    ),
}


def make(**kwargs):
    torch.manual_seed(0)
    return shaken(UNet(**{"width": 32, "mult": (1, 2), "blocks": 1, "attends": (1,), **kwargs}))


@pytest.fixture(scope="module", params=some(CASES, "iddpm", "adm, new order"))
def case(request, tmp_path_factory):
    kwargs, release = CASES[request.param]
    file = tmp_path_factory.mktemp("openai") / "diffusion.pt"
    model = make(**kwargs)
    torch.save(model.state_dict(), file)
    return model, file, release


def test_forward_is_equal(case):
    model, file, release = case
    part = load_openai_unet(file, release)
    assert part.facts == {"sample_size": SIZE}
    x, t = draw(SIZE, 3), np.array([0, 250, 999])
    label = np.array([0, 3, 6]) if hasattr(model, "label_emb") else None
    with torch.no_grad():
        labels = () if label is None else (torch.tensor(label),)
        ref = model(first(x), torch.tensor(t), *labels)
    agree(ours(part, x, t, label=label), ref)


# Of the published networks the shapes say all but the heads, dropout and how they are drawn.
@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        pytest.param(
            "iddpm_cifar10",
            dict(width=32, mult=(1, 2, 2, 2), blocks=3, attends=(1, 2), heads=4),
            marks=pytest.mark.heavy,
        ),
        pytest.param(
            "adm_256",
            dict(width=64, mult=(1, 1, 2, 2, 4, 4), blocks=2, attends=(3, 4, 5), heads=1,
                 head_width=64, resblock=True, classes=1000),
            marks=pytest.mark.heavy,
        ),
    ],
)  # fmt: skip
def test_sections_are_those_of_the_configs(name, kwargs, tmp_path):
    write_tensors(tmp_path / "a.safetensors", state(make(**kwargs)))
    part = load_openai_unet(tmp_path / "a.safetensors", name)
    paper = dict(NETWORKS[name])
    size, heights = PUBLISHED[name].size, paper.pop("attention_resolutions")
    levels = tuple(i for i in range(len(paper["channel_mult"])) if size >> i in heights)
    assert part.section == {
        "scale_shift": True,
        "resample": "conv",
        **{k: v for k, v in paper.items() if k != "dropout"},
        "channels": kwargs["width"],
        "attention_levels": levels,
    }


def test_releases_are_drawn_as_their_readmes_say():
    iddpm, steps = openai_sampling("iddpm_imagenet64_cond", learned=True)
    assert iddpm.schedule == {"type": "cosine", "steps": 4000, "rescaled": False} and steps == 250
    assert iddpm.recipe["variance"] == "learned" and iddpm.recipe["clip"]
    assert openai_sampling("adm_128", learned=False)[0].recipe["variance"] == "large"
    with pytest.raises(ValueError, match="did you mean 'adm_256'"):
        openai_sampling("adm_265", learned=True)


def test_a_file_that_is_no_such_network_is_refused_in_a_line(tmp_path):
    weights = state(make(heads=4))
    without = lambda word: {k: v for k, v in weights.items() if word not in k}  # noqa: E731
    extra = {"surplus": np.zeros(1, np.float32)}
    wrong = {
        # What a classifier of the same code looks like: half a U-Net.
        "no U-Net in OpenAI's layout.*output_blocks": without("output_blocks"),
        "no U-Net in OpenAI's layout: input_blocks": without("input_blocks.3."),
        r"missing.*middle_block\.1\.qkv": without("middle_block.1.qkv"),
        r"time_embed\.0": without("time_embed.0"),
        "unexpected.*surplus": {**weights, **extra},
        "shapes differ": {**weights, "out.0.weight": np.zeros(7, np.float32)},
        "gives 5 channels": {**weights, "out.2.bias": np.zeros(5, np.float32)},
    }
    file = tmp_path / "a.safetensors"
    for said, tensors in wrong.items():
        write_tensors(file, tensors)
        with pytest.raises(ValueError, match=said) as caught:
            load_openai_unet(file, Release(SIZE))
        assert "\n" not in str(caught.value) and str(file) in str(caught.value)
    write_tensors(file, weights)
    with pytest.raises(ValueError, match="does not divide by head_channels=48"):
        load_openai_unet(file, Release(SIZE, head_channels=48))
    with pytest.raises(ValueError, match="unknown released U-Net 'adm'"):
        load_openai_unet(file, "adm")
    torch.save(make(heads=4).state_dict(), tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be read as a torch archive"):
        load_openai_unet(tmp_path / "cut.pt", Release(SIZE))
