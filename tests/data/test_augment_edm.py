"""EDM's augmentation: labels that say what was done, and pixels to which that was done."""

import numpy as np
import pytest

from diffjax.data.augment_edm import (
    EDMAugment,
    Parameters,
    describe_to_network,
    forward_matrices,
    transform,
)
from diffjax.data.draws import Draws
from diffjax.data.transforms import apply, describe, make_transforms
from diffjax.data.warp import CENTRE, SYM6, warp

SIZE = 33
IDENTITY = np.eye(3)[:2]


def noise(n, h=16, w=16, c=3):
    return np.random.default_rng(0).uniform(-1, 1, (n, h, w, c)).astype(np.float32)


def known(**values):
    """Parameters of one image, nothing but `values`."""
    flips = {"x_flip": False, "y_flip": False}
    zeros = dict.fromkeys(Parameters._fields, 0.0)
    return Parameters(**{k: np.array([v]) for k, v in (zeros | flips | values).items()})


def blob(y, x, std=1.2, h=SIZE, w=SIZE):
    """`[1, h, w, 1]`, a Gaussian at (x right, y down) pixels from the centre."""
    rows = np.arange(h)[:, None] - (h - 1) / 2 - y
    cols = np.arange(w)[None, :] - (w - 1) / 2 - x
    return np.exp(-(rows**2 + cols**2) / (2 * std**2))[None, :, :, None].astype(np.float32)


def moments(image):
    """Centre (x, y) and covariance of the mass of `image [H, W, 1]`, pixels from the centre."""
    h, w = image.shape[:2]
    grid = np.stack(np.meshgrid(np.arange(w) - (w - 1) / 2, np.arange(h) - (h - 1) / 2), -1)
    mass = image / image.sum()
    centre = (grid * mass).sum((0, 1))
    gap = grid - centre
    return centre, np.einsum("hw,hwi,hwj->ij", mass[..., 0], gap, gap)


def test_the_filter_is_orthonormal():
    """Even shifts are orthonormal and odd wave numbers cancel, so the way there and back is exact;
    its delay of long waves is the centre."""
    shifts = [SYM6[2 * n :] @ SYM6[: len(SYM6) - 2 * n] for n in range(6)]
    np.testing.assert_allclose(shifts, [1, 0, 0, 0, 0, 0], atol=1e-11)
    signs = (-1.0) ** np.arange(12)
    moments = [np.sum(signs * SYM6 * (np.arange(12) / 11) ** k) for k in range(6)]
    np.testing.assert_allclose(moments, 0, atol=1e-9)
    assert abs(SYM6 @ np.arange(12) / SYM6.sum() - CENTRE) < 0.1


def test_warp_by_nothing_or_by_whole_pixels_is_exact():
    image = noise(1, 12, 9)[0]
    np.testing.assert_allclose(warp(image, IDENTITY), image, atol=1e-6)
    moved = warp(image, np.array([[1, 0, 3.0], [0, 1, -2.0]]))
    reflected = np.pad(image, ((2, 0), (0, 3), (0, 0)), mode="reflect")[:12, 3:]
    np.testing.assert_allclose(moved, reflected, atol=1e-6)


def test_warp_reflects_without_end():
    """Two periods of the reflected image away, it looks the same; far out there is no grey."""
    image = noise(1, 10, 14)[0]
    far = np.array([[1, 0, 4.0 * 13], [0, 1, -6.0 * 9]])
    np.testing.assert_allclose(warp(image, far), image, atol=1e-5)
    grey = np.full((8, 8, 1), 0.7, np.float32)
    shrunk = warp(grey, np.array([[9.0, 2, 1], [-2, 9, 0.5]]))
    np.testing.assert_allclose(shrunk, 0.7, atol=1e-5)


def test_warp_keeps_fine_detail():
    """A wave of 3 pixels, moved by half a pixel, keeps its height within a tenth.

    Bilinear sampling of the image itself would halve it: cos(pi / 3) = 0.5."""
    wave = np.cos(2 * np.pi / 3 * np.arange(60))
    image = np.broadcast_to(wave[None, :, None], (8, 60, 1)).astype(np.float32)
    out = warp(image, np.array([[1, 0, 0.5], [0, 1, 0.0]]))[4, 12:48, 0]
    wanted = np.cos(2 * np.pi / 3 * (np.arange(12, 48) + 0.5))
    assert 0.9 < (out @ wanted) / (wanted @ wanted) < 1.02


CASES = {
    "x flip": known(x_flip=True),
    "y flip": known(y_flip=True),
    "magnified": known(scale=1.5),
    "turned": known(angle=0.6),
    "half turn": known(angle=np.pi),
    "stretched along x": known(stretch=1.5),
    "stretched askew": known(stretch=-1.2, direction=0.8),
    "moved": known(dx=0.8, dy=-0.5),
    "moved down alone": known(dy=1.0),
    "all": known(x_flip=True, scale=1.2, angle=-2.0, stretch=0.9, direction=2.5, dx=-0.6, dy=0.4),
}


@pytest.mark.parametrize("name", CASES)
def test_a_mark_moves_where_the_matrix_says(name):
    p = CASES[name]
    x, y = 5.0, -3.0
    got, _ = moments(transform(blob(y, x), p)[0])
    x, y = (-x if p.x_flip[0] else x), (-y if p.y_flip[0] else y)
    wanted = forward_matrices(p, SIZE, SIZE)[0] @ (x, y, 1)
    np.testing.assert_allclose(got, wanted[:2], atol=0.25)


def test_the_changes_are_made_in_the_papers_order():
    """Magnified to (6, 2), turned to (2, -6), stretched to (4, -3), moved by (2, -4)."""
    p = known(scale=5.0, angle=np.pi / 2, stretch=5.0, dx=1.0, dy=-1.0)
    got = forward_matrices(p, 32, 16)[0] @ (3, 1, 1)
    np.testing.assert_allclose(got, (6, -7, 1), atol=1e-12)


def test_directions_as_seen_on_a_screen():
    """Counterclockwise, right and down are what they say (rows run downwards)."""
    right = blob(0, 8)
    turned, _ = moments(transform(right, known(angle=np.pi / 2))[0])
    np.testing.assert_allclose(turned, [0, -8], atol=0.15)
    moved, _ = moments(transform(blob(0, 0), known(dx=1.0, dy=0.5))[0])
    np.testing.assert_allclose(moved, [SIZE / 8, SIZE / 16], atol=0.15)
    wide = blob(0, 0, h=17, w=41)
    moved, _ = moments(transform(wide, known(dx=1.0, dy=0.5))[0])
    np.testing.assert_allclose(moved, [41 / 8, 17 / 16], atol=0.15)


def test_sizes_as_the_label_says():
    """Magnified by 2^(0.2 w); stretched by as much along, shrunk across, the direction."""
    image = blob(0, 0, std=3.0)
    _, before = moments(image[0])
    _, grown = moments(transform(image, known(scale=1.5))[0])
    np.testing.assert_allclose(np.diag(grown / before), 2 ** (0.4 * 1.5), rtol=0.03)
    _, pulled = moments(transform(image, known(stretch=1.5, direction=np.pi / 4))[0])
    values, vectors = np.linalg.eigh(pulled / before[0, 0])
    np.testing.assert_allclose(values, 2 ** (0.4 * np.array([-1.5, 1.5])), rtol=0.04)
    # Counterclockwise on a screen: up to the right, where y falls as x grows.
    assert vectors[0, 1] * vectors[1, 1] < -0.45


def test_labels_are_in_the_papers_order():
    p = known(x_flip=True, scale=0.3, angle=2.0, stretch=-0.4, direction=1.0, dx=0.25, dy=-0.5)
    wanted = [1, 0, 0.3, np.cos(2) - 1, np.sin(2), -0.4 * np.cos(1), -0.4 * np.sin(1), 0.25, -0.5]
    label = describe_to_network(p)
    assert label.dtype == np.float32
    np.testing.assert_allclose(label[0], wanted, rtol=1e-6)


def run(images, seed=0, at=0, **options):
    draws = Draws.at(seed, np.arange(at, at + len(images)))
    made = apply(make_transforms([dict(type="edm_augment", **options)]), {"image": images}, draws)
    return made["image"], made["augment"]


def test_nothing_but_the_mirror_at_prob_zero():
    images = noise(200)
    out, label = run(images, prob=0)
    mirrored = label[:, 0] == 1
    assert 0.4 < mirrored.mean() < 0.6 and not label[:, 1:].any()
    np.testing.assert_array_equal(out[mirrored], images[mirrored, :, ::-1])
    np.testing.assert_array_equal(out[~mirrored], images[~mirrored])
    still, nothing = run(images, prob=0, x_flip=False)
    np.testing.assert_array_equal(still, images)
    assert not nothing.any()


def test_images_change_exactly_where_the_label_says_so():
    images = noise(60)
    given = images.copy()
    out, label = run(images, prob=0.3)
    changed = (out != images).any((1, 2, 3))
    np.testing.assert_array_equal(changed, label.any(1))
    np.testing.assert_array_equal(images, given)
    assert 0 < changed.sum() < 60


def test_label_statistics_are_those_of_the_table():
    n, prob = 40_000, 0.12
    p = EDMAugment(prob).parameters(Draws.at(0, np.arange(n)))
    label = describe_to_network(p)
    share = (label != 0).mean(0)
    wanted = [0.5, prob / 2, prob, prob, prob, prob, prob / 2, prob, prob]
    np.testing.assert_allclose(share, wanted, atol=4 * np.sqrt(0.25 / n))
    for value in (p.scale, p.stretch, p.dx, p.dy):
        drawn = value[value != 0]
        np.testing.assert_allclose([drawn.mean(), drawn.std()], [0, 1], atol=0.06)
    turned = np.abs(p.angle[p.angle != 0])
    np.testing.assert_allclose(
        np.histogram(turned, 4, (0, np.pi))[0] / len(turned), 0.25, atol=0.03
    )
    # The changes are chosen apart from one another, but both translations together.
    chosen = np.stack([p.y_flip, p.scale, p.angle, p.stretch, p.dx]) != 0
    apart = np.corrcoef(chosen) - np.eye(5)
    assert np.abs(apart).max() < 0.03
    np.testing.assert_array_equal(p.dx != 0, p.dy != 0)
    assert abs(np.corrcoef(p.dx[p.dx != 0], p.dy[p.dx != 0])[0, 1]) < 0.06


def test_normal_draws_are_normal():
    drawn = Draws.at(0, np.arange(100_000)).normal("x")
    powers = [np.mean(drawn**k) for k in (1, 2, 3, 4)]
    np.testing.assert_allclose(powers, [0, 1, 0, 3], atol=0.08)


def test_every_row_is_augmented_by_itself():
    images = noise(24)
    together, labels = run(images, prob=0.5)
    alone = [run(images[i : i + 1], at=i, prob=0.5) for i in range(24)]
    np.testing.assert_array_equal(together, np.concatenate([image for image, _ in alone]))
    np.testing.assert_array_equal(labels, np.concatenate([label for _, label in alone]))
    halves = [run(images[i : i + 12], at=i, prob=0.5)[0] for i in (0, 12)]
    np.testing.assert_array_equal(together, np.concatenate(halves))
    assert not np.array_equal(labels, run(images, seed=1, prob=0.5)[1])


@pytest.mark.parametrize("shape", [(32, 32, 3), (2, 2, 1), (3, 17, 4)])
def test_finite_and_near_the_range(shape):
    """Overshoot beyond [-1, 1] stays small even for noise, the worst of images."""
    out, label = run(noise(64, *shape), prob=1.0)
    assert out.shape == (64, *shape) and out.dtype == np.float32 and label.shape == (64, 9)
    assert np.isfinite(out).all() and np.isfinite(label).all()
    assert np.abs(out).max() < 2 and np.mean(np.abs(out) > 1) < 0.05


def test_values_are_not_quantised():
    images = noise(40)
    out, label = run(np.rint(images * 127).astype(np.float32) / 127, prob=1.0)
    on_grid = np.abs(out * 127 - np.rint(out * 127)) < 1e-3
    assert label.any(1).all() and on_grid.mean() < 0.05


def test_mistakes_are_named():
    floats = np.zeros((2, 8, 8, 1), np.float32)
    with pytest.raises(ValueError, match="needs float32 images, found uint8; put to_float before"):
        run(floats.astype(np.uint8))
    with pytest.raises(ValueError, match="edm_augment: images differ in size"):
        run([floats[0], floats[0, :4]])
    with pytest.raises(ValueError, match=r"prob=0.5 times scale=3 is no probability"):
        make_transforms([dict(type="edm_augment", prob=0.5, scale=3)])
    with pytest.raises(ValueError, match=r"images of \(1, 8\) pixels; it needs 2 x 2"):
        run(floats[:, :1])


def test_description_builds_the_same_transform():
    transforms = make_transforms([dict(type="edm_augment", prob=0.15, y_flip=0.0)])
    assert make_transforms(describe(transforms)) == transforms
