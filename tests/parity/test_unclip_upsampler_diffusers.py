"""Karlo's upsamplers: U-Nets that are shown an image beside the noise, and how it is enlarged."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")
diffusers = pytest.importorskip("diffusers", reason="parity needs diffusers: '.[parity]'")

from diffjax.interop.unet_2d import load_unet_2d, save_unet_2d  # noqa: E402
from tests.parity.networks import agree, draw, first, ours, same_part  # noqa: E402
from tests.parity.unclip import SIZE, upsampler  # noqa: E402

pytestmark = pytest.mark.parity

TIMES = np.array([0.0, 250.0, 999.0])


def test_forward_is_equal_and_a_folder_goes_both_ways(tmp_path):
    """Karlo's own blocks change resolution, and nothing attends."""
    model = upsampler()
    model.save_pretrained(tmp_path / "theirs")
    part = load_unet_2d(tmp_path / "theirs")
    assert part.section["resample"] == "resblock" and part.section["attention_levels"] == ()
    x = draw(2 * SIZE, 6)
    with torch.inference_mode():
        theirs = model(first(x), torch.tensor(TIMES)).sample
    agree(ours(part, x[..., :3], TIMES, concat=x[..., 3:]), theirs)
    save_unet_2d(tmp_path / "ours", part)
    again, report = diffusers.UNet2DModel.from_pretrained(
        tmp_path / "ours", output_loading_info=True, low_cpu_mem_usage=False
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    with torch.inference_mode():
        assert torch.equal(again.eval()(first(x), torch.tensor(TIMES)).sample, theirs)
    same_part(load_unet_2d(tmp_path / "ours"), part)
