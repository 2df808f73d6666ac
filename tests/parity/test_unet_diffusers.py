"""The U-Net equals diffusers' UNet2DModel with the same weights: 1e-4 relative, float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from diffjax.interop.tables import to_ours, to_theirs
from diffjax.interop.unet_tables import rename_table
from diffjax.models import build_model

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")
diffusers = pytest.importorskip("diffusers", reason="parity needs diffusers: '.[parity]'")

pytestmark = pytest.mark.parity

DOWN, DOWN_A = "DownBlock2D", "AttnDownBlock2D"
UP, UP_A = "UpBlock2D", "AttnUpBlock2D"
DDPM = (
    dict(channels=32, channel_mult=(1, 2, 2), blocks=2, attention_resolutions=(8,), norm_groups=8),
    dict(
        block_out_channels=(32, 64, 64),
        layers_per_block=2,
        down_block_types=(DOWN, DOWN_A, DOWN),
        up_block_types=(UP, UP_A, UP),
        norm_num_groups=8,
        norm_eps=1e-6,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        attention_head_dim=None,
    ),
)
# diffusers drops the middle attention's norm under scale_shift unless its groups are named.
IDDPM = (
    dict(
        channels=32,
        channel_mult=(1, 2),
        blocks=1,
        attention_resolutions=(16, 8),
        head_channels=16,
        norm_groups=8,
        norm_eps=1e-5,
        scale_shift=True,
        time_embed="cos",
        down_padding="both",
        num_classes=10,
        null_class=False,
    ),
    dict(
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=(DOWN_A, DOWN_A),
        up_block_types=(UP_A, UP_A),
        norm_num_groups=8,
        attn_norm_num_groups=8,
        norm_eps=1e-5,
        downsample_padding=1,
        flip_sin_to_cos=True,
        freq_shift=0,
        attention_head_dim=16,
        resnet_time_scale_shift="scale_shift",
        num_class_embeds=10,
    ),
)
ADM = (
    IDDPM[0] | dict(resample="resblock", out_channels=6, attention_resolutions=(8,)),
    IDDPM[1]
    | dict(
        out_channels=6,
        down_block_types=("ResnetDownsampleBlock2D", DOWN_A),
        up_block_types=(UP_A, "ResnetUpsampleBlock2D"),
        downsample_type="resnet",
        upsample_type="resnet",
    ),
)


@pytest.fixture(params=[DDPM, IDDPM, ADM], ids=["ddpm", "iddpm", "adm"])
def pair(request):
    """(our model, our flat shapes, table, their model) of one configuration."""
    ours_kwargs, theirs_kwargs = request.param
    torch.manual_seed(0)
    theirs = diffusers.UNet2DModel(sample_size=16, in_channels=3, **theirs_kwargs).eval()
    # Norms and biases away from 1 and 0, so that a swapped pair would show.
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(0.05 * torch.randn_like(p))
    model = build_model("unet", **{"out_channels": 3, **ours_kwargs})
    x, one = jnp.zeros((1, 16, 16, 3)), jnp.zeros((1,))
    label = jnp.zeros((1,), jnp.int32) if model.num_classes else None
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x, one, label=label)["params"])
    flat = flatten_dict(shapes, sep="/")
    return model, flat, rename_table(model.channel_mult, model.blocks, flat), theirs


def state(theirs):
    return {k: v.numpy() for k, v in theirs.state_dict().items()}


def test_forward_is_equal(pair):
    model, flat, table, theirs = pair
    params = unflatten_dict(to_ours(state(theirs), flat, table, "diffusers"), sep="/")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 16, 16, 3)).astype(np.float32)
    t = np.array([0, 17, 500, 999])
    label = np.array([1, 2, 3, 9]) if model.num_classes else None
    with jax.default_matmul_precision("highest"):
        y = model.apply({"params": params}, x, jnp.asarray(t, jnp.float32), label=label)
    with torch.no_grad():
        labels = None if label is None else torch.tensor(label)
        ref = theirs(torch.tensor(x.transpose(0, 3, 1, 2)), torch.tensor(t), labels).sample
    ref = ref.numpy().transpose(0, 2, 3, 1)
    error = np.linalg.norm(y - ref) / np.linalg.norm(ref)
    assert error < 1e-5  # promised: 1e-4
    assert np.abs(y - ref).max() < 1e-4 * np.abs(ref).max()


def test_round_trip_is_exact(pair):
    _, flat, table, theirs = pair
    back = to_theirs(to_ours(state(theirs), flat, table, "diffusers"), table)
    assert back.keys() == theirs.state_dict().keys()
    for key, value in state(theirs).items():
        np.testing.assert_array_equal(back[key], value)


def test_a_missing_or_extra_tensor_is_an_error(pair):
    _, flat, table, theirs = pair
    tensors = state(theirs)
    with pytest.raises(ValueError, match="unexpected"):
        to_ours({**tensors, "extra.weight": np.zeros(1)}, flat, table, "diffusers")
    tensors.pop("conv_in.weight")
    with pytest.raises(ValueError, match=r"conv_in\.weight"):
        to_ours(tensors, flat, table, "diffusers")
