"""Latents of mirrored pictures: kept beside the upright ones, one of the two drawn at a visit."""

import jax
import numpy as np
import pytest
from random_variables import random_variables
from scenes import scenes

from diffjax.assembly.data import DataConfig, trained_on
from diffjax.data.augment import RandomFlip
from diffjax.data.draws import Draws
from diffjax.data.evaluation import as_arrays
from diffjax.data.loader import Loader
from diffjax.data.schema import FLIPPED
from diffjax.data.transforms import make_transforms
from diffjax.denoisers.spaces import LatentSpace
from diffjax.models import build_model
from diffjax.pretrained.codec import Codec
from diffjax.pretrained.latent_cache import cached_latents

TO_FLOAT = make_transforms([{"type": "to_float"}])
FLIP = make_transforms([{"type": "random_flip"}])
NETWORK = build_model(
    "autoencoder", channels=4, channel_mult=(1, 2), blocks=1, latent_channels=2, norm_groups=2
)
MOMENTS = jax.jit(LatentSpace(NETWORK, (32, 32, 3)).moments)
ROWS = 12


@pytest.fixture(scope="module")
def codec():
    return Codec(NETWORK, random_variables(NETWORK.init, np.zeros((1, 32, 32, 3), "f4")), "tiny")


@pytest.fixture(scope="module")
def pictures():
    return scenes("train", ROWS)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def flipped(pictures, codec, root):
    data = DataConfig(
        train={"data_dir": str(root)}, cache_latents=True, transforms=({"type": "random_flip"},)
    )
    return trained_on(data, pictures, codec, TO_FLOAT)


def on_the_fly(pictures, codec, mirrored: bool) -> np.ndarray:
    image = pictures.columns["image"].astype(np.float32) / np.float32(127.5) - 1
    image = image[:, :, ::-1] if mirrored else image
    return np.asarray(MOMENTS({"codec": codec.variables}, image))


def test_both_orientations_are_kept(flipped, pictures, codec):
    assert flipped.info.flipped and flipped.info.image_shape == (16, 16, 4)
    for field, mirrored in (("image", False), (FLIPPED, True)):
        got = np.stack([flipped[i][field] for i in range(ROWS)])
        np.testing.assert_allclose(got, on_the_fly(pictures, codec, mirrored), atol=1e-4)


def test_a_mirrored_latent_is_not_that_of_the_mirrored_picture(flipped):
    upright, mirrored = (np.stack([flipped[i][f] for i in range(ROWS)]) for f in ("image", FLIPPED))
    assert np.abs(upright[:, :, ::-1] - mirrored).max() > 0.05 * upright.std()


@pytest.mark.parametrize("cache", [False, True])
def test_one_of_the_two_is_drawn_by_the_flips_own_stream(flipped, pictures, codec, cache):
    both = [on_the_fly(pictures, codec, mirrored) for mirrored in (False, True)]
    loader = Loader(flipped, FLIP, ROWS, seed=3, cache=cache)
    chosen = []
    for step in range(6):
        batch = loader.batch(step)
        assert set(batch) == {"image", "label"} and batch["image"].shape == (ROWS, 16, 16, 4)
        draws = Draws.at(3, np.arange(step * ROWS, (step + 1) * ROWS)).stream("transform 0")
        flip = draws.uniform("flip") < 0.5
        for row, mirrored in zip(batch["image"], flip, strict=True):
            near = np.abs(both[int(mirrored)] - row).max((1, 2, 3))
            assert near.min() < 1e-4
        chosen.append(flip)
    # Six visits of each picture: both of its latents are seen.
    assert 0.3 < np.mean(chosen) < 0.7


def test_evaluation_and_devices_see_the_upright_alone(flipped, pictures, codec):
    arrays = as_arrays(flipped, ())
    assert set(arrays) == {"image", "label"}
    np.testing.assert_allclose(arrays["image"], on_the_fly(pictures, codec, False), atol=1e-4)
    assert set(Loader(flipped, (), 4, 0).batch_spec()) == {"image", "label"}


def test_a_flip_without_them_is_refused(pictures, codec, root):
    upright = cached_latents(pictures, TO_FLOAT, codec, root)
    assert not upright.info.flipped and upright.info.name != "" and FLIPPED not in upright[0]
    flips = DataConfig(train={}, transforms=({"type": "random_flip"},))
    with pytest.raises(ValueError, match=r"prepare the set again with --flips"):
        trained_on(flips, upright, codec, TO_FLOAT)
    assert trained_on(DataConfig(train={}, transforms=()), upright, codec, ()) is upright
    assert trained_on(flips, pictures, None, TO_FLOAT) is pictures  # pixels are mirrored


@pytest.mark.parametrize("name", ["random_crop", "edm_augment", "to_float", "random_shift"])
def test_moments_are_not_changed_as_pictures_are(name, pictures, codec, root, flipped):
    kept = DataConfig(train={}, transforms=({"type": "tokenize"}, {"type": name}))
    config = DataConfig(train={}, transforms=({"type": name},), cache_latents=True)
    for data, source in ((kept, flipped), (config, pictures)):
        with pytest.raises(ValueError, match=rf"{name}.*random_flip, tokenize"):
            trained_on(data, source, codec, TO_FLOAT)


def test_sets_with_and_without_are_two(pictures, codec, root, flipped):
    upright = cached_latents(pictures, TO_FLOAT, codec, root)
    assert flipped.info.name != upright.info.name
    assert flipped.info.fingerprint != upright.info.fingerprint
    # As much again on disk: 4 h w C bytes of a record.
    kept = [sum(x.nbytes for x in s[0].values() if isinstance(x, np.ndarray) and x.ndim == 3)
            for s in (flipped, upright)]  # fmt: skip
    assert kept == [2 * 4 * 16 * 16 * 4, 4 * 16 * 16 * 4]


def test_pixels_are_mirrored_as_before():
    image = np.arange(2 * 3 * 4 * 1, dtype=np.uint8).reshape(2, 3, 4, 1)
    out = RandomFlip(prob=1.0)({"image": image}, Draws.at(0, np.arange(2)))
    np.testing.assert_array_equal(out["image"], image[:, :, ::-1])
