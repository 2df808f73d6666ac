"""The oracle: right about scenes, unsure about everything else."""

import time

import numpy as np
import pytest
from PIL import Image
from scenes import to_columns
from scipy import ndimage
from sklearn.datasets import load_digits

from diffjax.data import factors, oracle
from diffjax.data.builders import shapes
from diffjax.data.factors import BACKGROUND_RGB, COLOUR_RGB, RELATIONS, SHAPES, Scene, Thing
from diffjax.data.scenes import Geometry, draw

SEED = 2024  # Scenes that no split holds.
FEW, MANY = 300, 5000
COUNTS = [FEW, pytest.param(MANY, marks=pytest.mark.heavy)]


def fresh(n, split="train", side=32, seed=SEED):
    """(images, what is in them)."""
    columns, geometry = shapes.sample(split, np.arange(n), seed)
    scenes = [factors.scene_at(columns, i).canonical() for i in range(n)]
    return draw(columns, geometry, side), scenes


def read(image):
    """The scene in one image."""
    return oracle.read_batch(image[None])[0]


def noisy(images, sigma=6.0):
    noise = np.random.default_rng(0).normal(0, sigma, images.shape)
    return np.rint(images + noise).clip(0, 255).astype(np.uint8)


def blurred(images, sigma=0.5):
    return np.rint(ndimage.gaussian_filter(images.astype(float), (0, sigma, sigma, 0))).astype(
        np.uint8
    )


def share_right(images, scenes):
    return np.mean([a == b for a, b in zip(oracle.read_batch(images), scenes, strict=True)])


def share_unsure(images):
    return np.mean([scene is None for scene in oracle.read_batch(images)])


CHANGES = {
    "as drawn": lambda x: x,
    "noisy": noisy,
    "blurred": blurred,
    "noisy and blurred": lambda x: noisy(blurred(x)),
}


@pytest.mark.parametrize("n", COUNTS)
@pytest.mark.parametrize("split", ["train", "compositions"])
@pytest.mark.parametrize("change", CHANGES)
def test_right_about_scenes(change, split, n):
    images, scenes = fresh(n, split)
    assert share_right(CHANGES[change](images), scenes) >= 0.995


@pytest.mark.parametrize("n", COUNTS)
def test_right_about_larger_pictures(n):
    images, scenes = fresh(n, side=64)
    assert share_right(noisy(images), scenes) >= 0.995


def of_one_ground(n):
    """Two lists of n pictures each, pairwise on one ground, where a blend is hardest to tell."""
    (a, of_a), (b, of_b) = (fresh(4 * n, seed=seed) for seed in (1, 2))
    b, of_b = np.roll(b, 7, 0), of_b[-7:] + of_b[:-7]
    same = [i for i in range(4 * n) if of_a[i].background == of_b[i].background][:n]
    return a[same], b[same]


def blends(n, a, b):
    share = np.random.default_rng(3).uniform(0.3, 0.7, (n, 1, 1, 1))
    return np.rint(share * a + (1 - share) * b).astype(np.uint8)


def digits(n, coloured):
    """Handwriting, white on black over the whole picture; or in a scene's colours and sizes."""
    rng = np.random.default_rng(0)
    images = []
    for ink in load_digits().images[np.arange(n) % 1797] / 16:
        side = int(rng.integers(9, 20)) if coloured else 32
        glyph = Image.fromarray((ink * 255).astype(np.uint8))
        glyph = np.asarray(glyph.resize((side, side), Image.Resampling.BILINEAR)) / 255
        x, y = rng.integers(0, 33 - side, 2)
        ink = np.pad(glyph, ((y, 32 - side - y), (x, 32 - side - x)))[..., None]
        ground = BACKGROUND_RGB[rng.integers(3)] if coloured else np.zeros(3)
        paint = COLOUR_RGB[rng.integers(8)] if coloured else np.full(3, 255)
        images.append(np.rint(ground + ink * (paint.astype(float) - ground)).astype(np.uint8))
    return np.stack(images)


def rough(n):
    return np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3)).astype(np.uint8)


def blank(n):
    colours = np.concatenate([BACKGROUND_RGB, COLOUR_RGB, rough(n)[:, 0, 0]])[:n]
    return np.broadcast_to(colours[:, None, None], (len(colours), 32, 32, 3))


def clouds(n):
    smooth = ndimage.gaussian_filter(rough(n).astype(float) - 127.5, (0, 3, 3, 0))
    return (smooth * 12 + 127.5).clip(0, 255).astype(np.uint8)


GARBAGE = {
    "uniform noise": rough,
    "one colour": blank,
    "clouds": clouds,
    "digits": lambda n: digits(n, coloured=False),
    "digits in colour": lambda n: digits(n, coloured=True),
    "blends": lambda n: blends(n, fresh(n, seed=1)[0], np.roll(fresh(n, seed=2)[0], 7, 0)),
    "blends on one ground": lambda n: blends(n, *of_one_ground(n)),
    "drowned in noise": lambda n: noisy(fresh(n)[0], 60.0),
}


@pytest.mark.parametrize("n", COUNTS)
@pytest.mark.parametrize("kind", GARBAGE)
def test_unsure_about_what_is_no_scene(kind, n):
    assert share_unsure(GARBAGE[kind](n)) >= 0.95


def drawn(scene, centres, radii):
    """`scene` with its things at `centres` of `radii`, in pixels."""
    columns = to_columns([scene])
    at = np.zeros((1, 2, 2))
    at[0, : len(centres)] = centres
    radius = np.ones((1, 2))
    radius[0, : len(radii)] = radii
    return draw(columns, Geometry(at / 32, radius / 32, np.zeros((1, 2))))[0]


@pytest.mark.parametrize("relation", range(4))
def test_relations_are_read_from_either_side(relation):
    one, two = Thing(0, 0, 0), Thing(3, 2, 0)
    scene = Scene((one, two), relation, 0)
    there = {"left of": (10, 0), "right of": (-10, 0), "above": (0, 10), "below": (0, -10)}
    step = np.array(there[RELATIONS[relation]])
    image = drawn(scene, [16 - step / 2, 16 + step / 2], [3.3, 3.3])
    assert read(image) == scene.canonical()
    assert read(image) in (scene, scene.swapped())


def test_unsure_between_two_answers():
    circle, square = Thing(0, 0, 0), Thing(1, 2, 0)
    two = Scene((circle, square), 0, 0)
    assert read(drawn(two, [(10, 10), (22, 22)], [3.3, 3.3])) is None  # left of, or above?
    assert read(drawn(two, [(12, 16), (16, 16)], [3.3, 3.3])) is None  # one over another
    alone = Scene((circle,), -1, 0)
    assert read(drawn(alone, [(16, 16)], [3.3])) == alone
    for radius in (1.5, 4.2, 7.0):
        assert read(drawn(alone, [(16, 16)], [radius])) is None
    image = drawn(two, [(9, 9), (23, 11)], [3.3, 3.3])
    assert read(image) is not None
    third = np.where(np.arange(32)[:, None, None] < 16, image, image[::-1])  # four objects
    assert read(third) is None


def test_unsure_about_colours_between_two_names():
    orange, yellow = factors.COLOURS.index("orange"), factors.COLOURS.index("yellow")
    scene = Scene((Thing(0, orange, 1),), -1, 2)
    share = drawn(scene, [(16, 16)], [5.1])[..., :1] / COLOUR_RGB[orange][0]

    def painted(colour):
        return np.rint(share * colour).astype(np.uint8)

    one, other = COLOUR_RGB[[orange, yellow]].astype(float)
    assert read(painted(one)) == read(painted(0.8 * one + 0.2 * other)) == scene
    assert read(painted((one + other) / 2)) is None
    assert read(painted(0.6 * one)) is None  # a ghost


def test_a_picture_is_read_alone_as_in_a_batch():
    images, _ = fresh(200)
    images[::10] = rough(20)
    together = oracle.read_batch(images)
    assert [read(x) for x in images[:40]] == together[:40]
    assert oracle.read_batch(images[150:]) == together[150:]
    assert oracle.read_batch(images[:0]) == []


def test_templates_cover_every_shape():
    bank = oracle.bank()
    np.testing.assert_array_equal(np.unique(bank.shape), np.arange(len(SHAPES)))
    assert (np.diff(bank.shape) >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(bank.unit, axis=1), 1, rtol=1e-5)
    # No template is cut off by its window.
    edge = bank.unit.reshape(-1, 19, 19)
    assert not edge[:, [0, -1]].any() and not edge[:, :, [0, -1]].any()


@pytest.mark.parametrize(
    "images", [np.zeros((2, 32, 32, 3)), np.zeros((2, 48, 48, 3), np.uint8), np.zeros((2, 32, 32))]
)
def test_what_it_cannot_read_is_an_error(images):
    with pytest.raises(ValueError, match=r"reads uint8 \[N, S, S, 3\] with S a multiple of 32"):
        oracle.read_batch(images)


@pytest.mark.heavy
def test_hundreds_of_pictures_a_second():
    images, _ = fresh(2000)
    oracle.bank()
    start = time.process_time()
    oracle.read_batch(images)
    assert 2000 / (time.process_time() - start) > 500
