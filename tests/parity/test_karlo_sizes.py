"""Karlo's networks at their released size: the same tensors of the same shapes, by shapes alone."""

import math

import pytest

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")
diffusers = pytest.importorskip("diffusers", reason="parity needs diffusers: '.[parity]'")

from diffjax.interop import clip_projection, prior, unclip_decoder, unet_2d  # noqa: E402
from diffjax.interop.parts import read_config  # noqa: E402
from diffjax.interop.unet_tables import rename_table  # noqa: E402

pytestmark = [pytest.mark.parity, pytest.mark.heavy]

WIDTHS = (320, 640, 960, 1280)
_ATTEND = "SimpleCrossAttn{}Block2D"


def decoder():
    return diffusers.UNet2DConditionModel(
        sample_size=64, layers_per_block=3, block_out_channels=WIDTHS, in_channels=3,
        out_channels=6, cross_attention_dim=1536, class_embed_type="identity",
        attention_head_dim=64, resnet_time_scale_shift="scale_shift",
        down_block_types=("ResnetDownsampleBlock2D", *[_ATTEND.format("Down")] * 3),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=(*[_ATTEND.format("Up")] * 3, "ResnetUpsampleBlock2D"),
    )  # fmt: skip


def upsampler():
    return diffusers.UNet2DModel(
        sample_size=256, layers_per_block=3, block_out_channels=WIDTHS, in_channels=6,
        out_channels=3, add_attention=False, down_block_types=("ResnetDownsampleBlock2D",) * 4,
        up_block_types=("ResnetUpsampleBlock2D",) * 4,
    )  # fmt: skip


def projection():
    from diffusers.pipelines.deprecated.unclip import UnCLIPTextProjModel

    return UnCLIPTextProjModel(time_embed_dim=1280, cross_attention_dim=1536)


def of_unet(shapes_of):
    def read(section, *more):
        shapes = shapes_of(section, *more)
        return shapes, rename_table(section["channel_mult"], section["blocks"], shapes)

    return read


# Part -> theirs, its reader, (shapes, table) of a section.
CASES = {
    "prior": (
        diffusers.PriorTransformer,
        prior,
        lambda s: (prior._shapes(s, 768), prior.prior_table(s["depth"])),
    ),
    "projection": (
        projection,
        clip_projection,
        lambda s: (clip_projection._shapes(s, 768), clip_projection.TABLE),
    ),
    "decoder": (
        decoder,
        unclip_decoder,
        lambda s: of_unet(unclip_decoder._shapes)(s, 3, 1536),
    ),
    "upsampler": (upsampler, unet_2d, lambda s: of_unet(unet_2d.unet_2d_shapes)(s, 6)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_released_size(name, tmp_path):
    make, reader, shapes_of = CASES[name]
    with torch.device("meta"):
        model = make()
    model.save_config(tmp_path)
    file = tmp_path / "config.json"
    shapes, table = shapes_of(reader._section(read_config(file, (reader.CLASS,)), file))
    theirs = {k: v.numel() for k, v in model.state_dict().items() if not k.startswith("clip_")}
    if name == "projection":
        theirs = {k: v.numel() for k, v in model.state_dict().items()}
    assert sorted(key for row in table for key in row.theirs) == sorted(theirs)
    for row in table:
        ours = math.prod(shapes[row.ours].shape)
        assert ours == sum(theirs[key] for key in row.theirs), row
