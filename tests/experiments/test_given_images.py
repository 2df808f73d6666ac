"""Images and masks from the command line, and what is wrong with them in one line."""

import numpy as np
import pytest
from PIL import Image

from diffjax.data.given_images import read_image, read_mask


def saved(path, pixels, mode=None):
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path)
    return path


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)


def test_pixels_come_back(tmp_path, pixels):
    image = read_image(saved(tmp_path / "a.png", pixels))
    assert image.dtype == np.float32
    np.testing.assert_array_equal(np.rint((image + 1) * 127.5), pixels)
    for mode in ("L", "1"):
        mask = read_mask(
            saved(tmp_path / "m.png", np.eye(8, 12, dtype=np.uint8) * 255, mode), (8, 12)
        )
        np.testing.assert_array_equal(mask[..., 0], np.eye(8, 12))


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "CMYK"])
def test_an_image_of_another_mode_is_named(tmp_path, pixels, mode):
    file = saved(tmp_path / "a.tif", pixels, mode)
    with pytest.raises(ValueError, match=f"a.tif is of mode {mode}, but must be an RGB image"):
        read_image(file)


def test_a_mask_that_does_not_fit_says_both_sizes(tmp_path, pixels):
    file = saved(tmp_path / "m.png", pixels[..., 0])
    with pytest.raises(ValueError, match="12 x 8 pixels and does not fit an image of 16 x 16"):
        read_mask(file, (16, 16))
    with pytest.raises(ValueError, match="of mode RGB"):
        read_mask(saved(tmp_path / "rgb.png", pixels), (8, 12))


def test_what_is_no_image_is_one_line(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    for file, said in (
        (tmp_path / "a.png", "cannot be read"),
        (tmp_path / "b.png", "no such file"),
    ):
        with pytest.raises(ValueError, match=said) as error:
            read_image(file)
        assert "\n" not in str(error.value)
