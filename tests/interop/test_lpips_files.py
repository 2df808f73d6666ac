"""LPIPS's two files: every tensor finds its place, and none is left over."""

import numpy as np
import pytest

from diffjax.interop.files import write_tensors
from diffjax.interop.perceptual import load_lpips

# Of torchvision's vgg16: index of each convolution among its layers, and its channels.
CONVS = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256),
         14: (256, 256), 17: (256, 512), 19: (512, 512), 21: (512, 512), 24: (512, 512),
         26: (512, 512), 28: (512, 512)}  # fmt: skip
OURS = ["0_0", "0_1", "1_0", "1_1", "2_0", "2_1", "2_2", "3_0", "3_1", "3_2", "4_0", "4_1", "4_2"]
WIDTHS = (64, 128, 256, 512, 512)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The layers filled with their number, one output channel marked."""
    folder = tmp_path_factory.mktemp("lpips")
    vgg = {"classifier.0.weight": np.zeros((2, 2)), "classifier.6.bias": np.zeros(3)}
    for index, (inputs, outputs) in CONVS.items():
        kernel = np.full((outputs, inputs, 3, 3), index, np.float32)
        kernel[1, 2, 0, 2] = -1.0
        vgg |= {f"features.{index}.weight": kernel}
        vgg |= {f"features.{index}.bias": np.arange(outputs, dtype=np.float32)}
    heads = {
        f"lin{i}.model.1.weight": np.arange(c, dtype=np.float32)[None, :, None, None]
        for i, c in enumerate(WIDTHS)
    }
    write_tensors(folder / "vgg.safetensors", vgg)
    write_tensors(folder / "heads.safetensors", heads)
    return folder, heads


def test_every_tensor_finds_its_place(files):
    folder, _ = files
    got = load_lpips(folder / "vgg.safetensors", folder / "heads.safetensors")
    assert set(got["backbone"]) == {f"conv_{name}" for name in OURS}
    for name, (index, (_, outputs)) in zip(OURS, CONVS.items(), strict=True):
        layer = got["backbone"][f"conv_{name}"]
        assert layer["kernel"][0, 2, 2, 1] == -1.0 and layer["kernel"][1, 1, 0, 0] == index
        np.testing.assert_array_equal(layer["bias"], np.arange(outputs))
    for i, width in enumerate(WIDTHS):
        np.testing.assert_array_equal(got[f"head_{i}"], np.arange(width))


def test_another_file_is_refused_in_one_line(files, tmp_path):
    folder, heads = files
    vgg = folder / "vgg.safetensors"
    short = {k: v for k, v in heads.items() if not k.startswith("lin3")}
    wrong = {**heads, "lin0.model.1.weight": np.zeros((1, 65, 1, 1), np.float32)}
    for given, said in ((short, "missing.*lin3"), (wrong, "lin0.*head_0")):
        write_tensors(tmp_path / "heads.safetensors", given)
        with pytest.raises(ValueError, match=said) as error:
            load_lpips(vgg, tmp_path / "heads.safetensors")
        assert "\n" not in str(error.value) and "heads.safetensors" in str(error.value)
    with pytest.raises(ValueError, match="unexpected"):
        load_lpips(folder / "heads.safetensors", vgg)
    with pytest.raises(ValueError, match="cannot be read"):
        load_lpips(tmp_path / "nothing.pth", vgg)
