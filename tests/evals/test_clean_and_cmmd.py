"""Published resizes of pictures that ring: clean-fid's clip, and CMMD's 8-bit pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from diffjax.evals import released_features
from diffjax.evals.compare import Settings, compare
from diffjax.evals.features import Extracted, to_uint8
from diffjax.evals.released_features import clip_features
from diffjax.evals.resample import Resample
from diffjax.evals.sides import FeatureSet

SIZES = [(40, 40), (64, 37), (9, 14), (23, 50)]


def ringing(height, width, channels=3):
    """Black and white fields of several sizes, a grid of their own in every channel."""
    rows, columns = np.arange(height)[:, None], np.arange(width)
    fields = [(rows // k + columns // (k + 1)) % 2 for k in (2, 3, 5)][:channels]
    return (255 * np.stack(fields, -1)).astype(np.uint8)


def unit(levels):
    return levels.astype(np.float32) / np.float32(127.5) - np.float32(1)


def clean(pixels, size):
    """clean-fid's `make_resizer("PIL", False, "bicubic", ...)`: by channel, in mode F, clipped."""
    channels = [Image.fromarray(pixels[..., c].astype(np.float32)) for c in range(pixels.shape[2])]
    resized = [x.resize((size, size), Image.Resampling.BICUBIC) for x in channels]
    return np.stack([np.asarray(x).clip(0, 255) for x in resized], -1)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("size", [31, 299])
def test_clean_is_clipped_to_the_levels_there_are(shape, size):
    """On the host and on the device; pictures that overshoot by tens of levels."""
    pixels = ringing(*shape)
    resample = Resample("clean", size)
    for found in (resample(unit(pixels)), jax.jit(resample)(jnp.asarray(unit(pixels)))):
        np.testing.assert_allclose(
            127.5 * np.asarray(found) + 127.5, clean(pixels, size), atol=2e-3
        )


def test_the_protocol_clean_gives_the_network_what_clean_fid_does(monkeypatch):
    """(u - 128) / 128 of clipped levels."""

    class Network:
        def apply(self, variables, x):
            return {"2048": x, "logits_unbiased": x, "spatial": x}

    monkeypatch.setattr(released_features, "InceptionV3", Network)
    made = released_features.inception_features({"w": np.zeros(1)}, protocol="clean")
    pixels = ringing(40, 40)
    seen = made.apply(made.weights, jnp.asarray(unit(pixels))[None])[0]
    np.testing.assert_allclose(seen[0] * 128 + 128, clean(pixels, 299), atol=5e-3)


def cmmd_picture(pixels, size):
    """`_center_crop_and_resize` of google-research/cmmd/io_util.py, and its division by 255."""
    image = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
    side = min(image.size)
    top, left = (image.height - side) // 2, (image.width - side) // 2
    image = image.crop((left, top, left + side, top + side))
    levels = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
    return np.broadcast_to(levels.reshape(size, size, -1), (size, size, 3)) / 255.0


def towers(size):
    """A CLIP whose embedding is the picture it is given, of 0 to 1."""
    encode = lambda w, x: (x.reshape(len(x), -1) + 1) / 2  # noqa: E731
    return clip_features(encode, {"w": np.zeros(1)}, size, "CLIP", batch_size=3)


@pytest.mark.parametrize("size", [16, 60])
@pytest.mark.parametrize("channels", [1, 3])
def test_clip_sees_the_pictures_of_cmmds_code(size, channels):
    """Mixed sizes, odd margins, grey; rounded to levels as Pillow does."""
    images = [ringing(h, w, channels) for h, w in [*SIZES, (size, size + 7), (size, size)]]
    noise = np.random.default_rng(0).integers(0, 256, (31, 22, channels))
    images.append(noise.astype(np.uint8))
    found = towers(size).pixels(images).features.reshape(len(images), size, size, 3)
    for got, image in zip(found, images, strict=True):
        np.testing.assert_allclose(got, cmmd_picture(image, size), atol=1e-6)


def test_samples_go_the_same_way_as_files():
    """Drawn in floating point and not square: through 8 bits, the centre, the resize."""
    drawn = np.random.default_rng(1).uniform(-1.1, 1.1, (5, 20, 33, 3)).astype(np.float32)
    extract = towers(12)
    found = extract(drawn).features.reshape(5, 12, 12, 3)
    expected = [cmmd_picture(x, 12) for x in to_uint8(drawn)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert extract.resize == "centre square, 8-bit bicubic 12" and extract.takes_grey
    with pytest.raises(ValueError, match="quantise='none': CLIP resizes images of 8 bits"):
        clip_features(lambda w, x: x, {}, 12, "CLIP", quantise="none")


def test_the_distance_is_that_of_cmmds_code():
    """`mmd` of google-research/cmmd/distance.py, on embeddings of unit length."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(30, 8)), rng.normal(size=(20, 8)) + 0.3
    a, b = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))

    def mean_kernel(p, q):
        square = np.square(p[:, None] - q[None]).sum(-1)
        return np.exp(-square / (2 * 10**2)).mean()

    expected = 1000 * (mean_kernel(a, a) + mean_kernel(b, b) - 2 * mean_kernel(a, b))
    sides = [FeatureSet("s", "s", None, rows=Extracted(z)) for z in (x, y)]
    (got,) = compare(["cmmd"], Settings(), *sides, {})
    assert got.value == pytest.approx(expected, rel=1e-9)
