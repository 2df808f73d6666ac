"""unCLIP's decoder equals diffusers' `UNet2DConditionModel` of Karlo, and folders go both ways."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")
diffusers = pytest.importorskip("diffusers", reason="parity needs diffusers: '.[parity]'")

from diffjax.interop.unclip_decoder import (  # noqa: E402
    load_unclip_decoder,
    save_unclip_decoder,
)
from tests.parity.networks import agree, draw, first, ours, same_part  # noqa: E402
from tests.parity.unclip import decoder  # noqa: E402

pytestmark = pytest.mark.parity

SIZE, L, B = 8, 5, 3
TIMES = np.array([0.0, 250.0, 999.0])
MASK = np.arange(L)[None, :] < np.array([L, 3, 1])[:, None]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    model = decoder()
    folder = tmp_path_factory.mktemp("decoder")
    model.save_pretrained(folder)
    return model, folder


def given(model):
    """The conditioning: a vector, a context."""
    rng = np.random.default_rng(1)
    width = 4 * model.config.block_out_channels[0]
    shapes = (B, width), (B, L, model.config.cross_attention_dim)
    return [rng.standard_normal(s).astype("f4") for s in shapes]


def run(model, x, masked):
    vector, context = (torch.tensor(a) for a in given(model))
    mask = torch.tensor(MASK) if masked else None
    with torch.inference_mode():
        return model(
            first(x), torch.tensor(TIMES), context, class_labels=vector, attention_mask=mask
        ).sample


@pytest.mark.parametrize("masked", [True, False])
def test_forward_is_equal(pair, masked):
    model, folder = pair
    x, (vector, context) = draw(SIZE, 3), given(model)
    cond = dict(vector=vector, context=context, context_mask=MASK if masked else None)
    theirs = run(model, x, masked)
    agree(ours(load_unclip_decoder(folder), x, TIMES, **cond), theirs)
    assert (theirs - run(model, x, not masked)).abs().max() > 1e-3


def test_a_folder_goes_both_ways(pair, tmp_path):
    model, folder = pair
    part = load_unclip_decoder(folder)
    save_unclip_decoder(tmp_path, part)
    again, report = diffusers.UNet2DConditionModel.from_pretrained(
        tmp_path, output_loading_info=True, low_cpu_mem_usage=False
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    x = draw(SIZE, 3)
    assert torch.equal(run(again.eval(), x, True), run(model, x, True))
    same_part(load_unclip_decoder(tmp_path), part)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(class_embed_type=None), "class_embed_type=None is not supported (identity is)"),
        (
            dict(mid_block_type="UNetMidBlock2DCrossAttn"),
            "mid_block_type='UNetMidBlock2DCrossAttn'",
        ),
        (dict(norm_eps=1e-6), "norm_eps=1e-06 is not supported"),
        (dict(only_cross_attention=True), "only_cross_attention=True is not supported"),
        (dict(encoder_hid_dim=4), "encoder_hid_dim=4 is not supported"),
        (dict(cross_attention_dim=7), "cross_attention_dim=7, but the weights"),
        (dict(out_channels=3), "out_channels=3, but the weights"),
        (dict(layers_per_block=2), "layers_per_block=2, but the weights"),
        (dict(down_block_types=["DownBlock2D"] * 2), "['DownBlock2D', 'DownBlock2D'] are not"),
    ],
)
def test_another_network_is_one_line(pair, tmp_path, change, said):
    _, folder = pair
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    weights = "diffusion_pytorch_model.safetensors"
    (tmp_path / weights).symlink_to(folder / weights)
    with pytest.raises(ValueError) as error:
        load_unclip_decoder(tmp_path)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_what_theirs_has_no_place_for_is_refused(pair, tmp_path):
    part = load_unclip_decoder(pair[1])
    for change, said in ((dict(skip_scale=0.5), "skip_scale=0.5"), (dict(dropout=1.5), "dropout")):
        with pytest.raises(ValueError, match=said):
            save_unclip_decoder(tmp_path, part._replace(section={**part.section, **change}))
    params = {k: v for k, v in part.variables["params"].items() if k == "conv_in"}
    with pytest.raises(ValueError, match="this network does not"):
        save_unclip_decoder(tmp_path, part._replace(variables={"params": params}))
