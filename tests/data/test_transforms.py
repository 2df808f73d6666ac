"""What the transforms do to pixels, and that they do it row by row."""

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from diffjax.data.arrays import stack
from diffjax.data.draws import Draws
from diffjax.data.resize import center_crop, center_crop_resize, resize_short
from diffjax.data.transforms import apply, describe, make_transforms
from tests.data.pictures import pixels


def run(images, *sections, seed=0, at=0):
    draws = Draws.at(seed, np.arange(at, at + len(images)))
    return apply(make_transforms(sections), {"image": images}, draws)["image"]


def test_to_float_spans_minus_one_to_one():
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    out = run(image, dict(type="to_float"))
    assert out.dtype == np.float32 and out.min() == -1 and out.max() == 1
    np.testing.assert_array_equal(np.rint((out + 1) * 127.5), image)
    np.testing.assert_allclose(np.diff(out.ravel()), 2 / 255, rtol=1e-5)


def test_flip_mirrors_half_of_the_images():
    image = np.stack([pixels(i, 4, 4) for i in range(2000)])
    out = run(image, dict(type="random_flip"))
    flipped = (out == image[:, :, ::-1]).all((1, 2, 3))
    kept = (out == image).all((1, 2, 3))
    assert (flipped ^ kept).all() and abs(flipped.mean() - 0.5) < 0.05
    np.testing.assert_array_equal(run(image, dict(type="random_flip", prob=1)), image[:, :, ::-1])
    ragged = run([pixels(0, 4, 6), pixels(1, 5, 3)], dict(type="random_flip", prob=1))
    np.testing.assert_array_equal(ragged[1], pixels(1, 5, 3)[:, ::-1])


def test_every_order_of_the_channels_is_drawn_equally_often():
    image = np.broadcast_to(np.array([10, 20, 30], np.uint8), (6000, 2, 2, 3))
    for prob, given in ((1.0, 1 / 6), (0.3, 0.7 + 0.3 / 6), (0.0, 1.0)):
        out = run(image, dict(type="random_channel_permutation", prob=prob))
        assert (out == out[:, :1, :1]).all()  # one order for all pixels of an image
        orders, counts = np.unique(out[:, 0, 0], axis=0, return_counts=True)
        assert (np.sort(orders) == [10, 20, 30]).all() and len(orders) == (6 if prob else 1)
        shares = {tuple(o): c / 6000 for o, c in zip(orders.tolist(), counts, strict=True)}
        assert abs(shares.pop((10, 20, 30)) - given) < 0.03
        assert all(abs(share - prob / 6) < 0.02 for share in shares.values())
    grey = np.full((4, 2, 2, 1), 7, np.uint8)
    np.testing.assert_array_equal(run(grey, dict(type="random_channel_permutation")), grey)


def test_shift_moves_by_whole_pixels_in_every_direction():
    dot = np.zeros((400, 7, 7, 1), np.uint8)
    dot[:, 3, 3] = 200
    out = run(dot, dict(type="random_shift", pixels=2))
    assert (out.sum((1, 2, 3)) == 200).all()
    places = {tuple(np.argwhere(x[..., 0])[0] - 3) for x in out}
    assert places == {(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)}
    assert (run(dot, dict(type="random_shift", pixels=2, fill=9))[:, 0] >= 9).any()
    flat = np.full_like(dot, 77)
    np.testing.assert_array_equal(run(flat, dict(type="random_shift", fill="edge")), flat)


def test_affine_of_nothing_is_the_identity():
    image = np.stack([pixels(i, 9, 8) for i in range(5)])
    still = dict(type="random_affine", degrees=0.0, scale=(1.0, 1.0), pixels=0.0)
    np.testing.assert_array_equal(run(image, still), image)


def test_affine_agrees_with_pillow():
    """Turned by the drawn angle, as PIL turns it (bilinear, about the centre)."""
    image = np.stack([pixels(i, 15, 15, 1) for i in range(4)])
    out = run(image, dict(type="random_affine", degrees=30.0, scale=(1.0, 1.0)))
    draws = Draws.at(0, np.arange(4)).stream("transform 0")
    angles = draws.uniform("angle", -30.0, 30.0)
    for x, y, angle in zip(image, out, angles, strict=True):
        turned = Image.fromarray(x[..., 0]).rotate(-angle, Image.Resampling.BILINEAR)
        inner = np.s_[4:11, 4:11]
        difference = np.asarray(turned, int)[inner] - y[..., 0].astype(int)[inner]
        assert np.abs(difference).max() <= 2


def test_affine_scale_and_shift_move_the_mass_as_said():
    disc = np.hypot(*(np.indices((33, 33)) - 16.0)) < 6
    image = np.repeat((disc * 255).astype(np.uint8)[None, ..., None], 64, axis=0)
    grown = run(image, dict(type="random_affine", degrees=0.0, scale=(1.5, 1.5)))
    ratio = grown.sum((1, 2, 3)) / image.sum((1, 2, 3))
    np.testing.assert_allclose(ratio, 1.5**2, rtol=0.03)
    moved = run(image, dict(type="random_affine", degrees=0.0, scale=(1.0, 1.0), pixels=4.0))
    mass = moved[..., 0] / moved.sum((1, 2, 3))[:, None, None]
    centre = (mass * np.arange(33)[:, None]).sum((1, 2)) - 16
    wanted = Draws.at(0, np.arange(64)).stream("transform 0").uniform("dy", -4.0, 4.0)
    np.testing.assert_allclose(centre, wanted, atol=0.02)


@pytest.mark.parametrize("height, width", [(64, 64), (70, 130), (300, 65), (20, 33), (16, 16)])
def test_center_crop_resize_keeps_the_middle(height, width):
    """A ramp stays a ramp about the image's centre, sampled every min(height, width) / 16."""
    x = np.arange(width)[None, :] - (width - 1) / 2
    ramp = np.broadcast_to(128 + x * 0.8, (height, width))
    image = np.repeat(ramp.astype(np.uint8)[..., None], 3, axis=2)
    out = center_crop_resize(image, 16).astype(float)
    assert out.shape == (16, 16, 3)
    step = min(height, width) / 16
    wanted = 128 + (np.arange(16) - 7.5) * step * 0.8
    np.testing.assert_allclose(out[:, 2:-2].mean((0, 2)), wanted[2:-2], atol=1.5 + 0.8 * step)


def test_center_crop_resize_leaves_the_right_size_alone():
    image = pixels(0, 16, 16)
    np.testing.assert_array_equal(center_crop_resize(image, 16), image)


def test_random_crop_reaches_every_window_and_no_other():
    image = np.arange(36, dtype=np.uint8).reshape(1, 6, 6, 1).repeat(300, axis=0)
    out = run(image, dict(type="random_crop", size=4))
    assert out.shape == (300, 4, 4, 1)
    corners = {divmod(int(x[0, 0, 0]), 6) for x in out}
    assert corners == {(r, c) for r in range(3) for c in range(3)}
    with pytest.raises(ValueError, match="an image of 6 x 6 pixels is smaller than size=7"):
        run(image, dict(type="random_crop", size=7))
    assert run(image, dict(type="random_crop", size=7, pad=1)).shape == (300, 7, 7, 1)


def test_random_resized_crop_covers_the_area_it_should():
    """On a ramp along x, the window's width is the spread of the values in it."""
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (200, 200, 3))
    images = [np.ascontiguousarray(ramp)] * 200
    section = dict(type="random_resized_crop", size=32, scale=(0.25, 0.25), ratio=(1.0, 1.0))
    out = run(images, section).astype(float)
    width = (out[:, :, -4, 0] - out[:, :, 3, 0]).mean(1) / 25 * 32
    np.testing.assert_allclose(width, 100, rtol=0.05)
    left = out[:, :, 0, 0].mean(1)
    assert left.min() < 10 and left.max() > 90
    wide = run([pixels(0, 10, 300)] * 3, dict(type="random_resized_crop", size=8))
    assert wide.shape == (3, 8, 8, 3)


EVERY = [
    dict(type="random_resized_crop", size=12),
    dict(type="random_crop", size=10),
    dict(type="center_crop_resize", size=8),
    dict(type="random_affine", degrees=15.0, scale=[0.8, 1.2], pixels=1.0),
    dict(type="random_shift", pixels=2),
    dict(type="random_channel_permutation"),
    dict(type="random_flip"),
    dict(type="to_float"),
]


def test_every_row_is_transformed_by_itself():
    images = [pixels(i, 20 + i, 30 - i) for i in range(6)]
    together = run(stack(images), *EVERY)
    alone = np.concatenate([run([x], *EVERY, at=i) for i, x in enumerate(images)])
    np.testing.assert_array_equal(together, alone)
    assert not np.array_equal(together, run(images, *EVERY, seed=1))


def test_sections_may_come_from_a_config():
    config = ConfigDict({"transforms": ({"type": "random_crop", "size": 4}, {"type": "to_float"})})
    assert make_transforms(config.transforms) == make_transforms(list(config.transforms))
    assert describe(make_transforms(config.transforms))[0]["size"] == 4


def test_description_builds_the_same_transforms():
    transforms = make_transforms(EVERY)
    assert make_transforms(describe(transforms)) == transforms


def test_two_transforms_of_one_kind_draw_apart():
    dots = np.zeros((500, 9, 9, 1), np.uint8)
    dots[:, 4, 4] = 1
    out = run(dots, dict(type="random_shift", pixels=1), dict(type="random_shift", pixels=1))
    # Sharing draws, the dot would only ever land an even number of pixels away.
    assert any((np.argwhere(x[..., 0])[0] % 2 == 1).any() for x in out)


@pytest.mark.parametrize(
    "section, message",
    [
        (dict(type="to_flaot"), "unknown transform 'to_flaot'; did you mean 'to_float'?"),
        (
            dict(type="random_shift", pixel=1),
            "unknown key of transform 'random_shift': 'pixel'; did you mean 'pixels'?",
        ),
        (dict(type="random_crop"), "transform 'random_crop' needs 'size'"),
        (dict(prob=0.5), "has no 'type'"),
    ],
)
def test_typos_are_named(section, message):
    with pytest.raises(ValueError) as error:
        make_transforms([section])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_order_mistakes_are_named():
    image = np.zeros((2, 4, 4, 1), np.uint8)
    with pytest.raises(ValueError, match="random_shift: needs uint8 images, found float32"):
        run(image, dict(type="to_float"), dict(type="random_shift"))
    with pytest.raises(ValueError, match="random_affine: images differ in size"):
        run([pixels(0, 4, 4), pixels(0, 5, 5)], dict(type="random_affine"))


@pytest.mark.parametrize(("shape", "expected"), [((40, 60), (20, 30)), ((61, 40), (30, 20))])
def test_the_short_side_is_resized_and_the_centre_kept(shape, expected):
    image = np.zeros((*shape, 3), np.uint8)
    image[shape[0] // 2 - 4 : shape[0] // 2 + 4, shape[1] // 2 - 4 : shape[1] // 2 + 4] = 255
    small = resize_short(image, 20)
    assert small.shape == (*expected, 3)
    square = center_crop(small, 20)
    assert square.shape == (20, 20, 3)
    assert square[10, 10].min() > 200 and square[:, 0].max() == 0
    np.testing.assert_array_equal(resize_short(square, 20), square)
    with pytest.raises(ValueError, match="smaller than size=21"):
        center_crop(square, 21)


def test_a_low_resolution_hint_is_the_mean_of_squares():
    """And twice as many halvings are one of the square."""
    image = np.random.default_rng(0).integers(0, 256, (3, 8, 12, 3), np.uint8)
    hint = lambda factor: low_resolution(factor, image)  # noqa: E731
    np.testing.assert_allclose(hint(1), image / 127.5 - 1, atol=1e-6)
    assert hint(4).shape == (3, 2, 3, 3) and hint(4).dtype == np.float32
    np.testing.assert_allclose(hint(2).reshape(3, 2, 2, 3, 2, 3).mean((2, 4)), hint(4), atol=1e-5)
    np.testing.assert_array_equal(low_resolution(2, image, field="low_resolution"), hint(2))
    with pytest.raises(ValueError, match="factor=5 does not divide images of 8 x 12"):
        hint(5)


def low_resolution(factor, image, **field):
    (transform,) = make_transforms([dict(type="low_resolution", factor=factor, **field)])
    columns = transform({"image": image}, Draws.at(0, np.arange(len(image))))
    return columns[field.get("field", "cond_image")]


def test_a_random_mask_erases_regions_and_sometimes_all():
    image = np.stack([pixels(i, 16, 16) for i in range(400)])
    draws = Draws.at(0, np.arange(len(image)))

    def masked(**options):
        section = dict(type="random_mask", **options)
        return apply(make_transforms([section]), {"image": image}, draws)["masked_image"]

    out = masked(regions=1, whole=0.25)
    mask = out[..., -1:]
    assert out.shape == (400, 16, 16, 4) and out.dtype == np.float32
    assert set(np.unique(mask)) == {0.0, 1.0}
    np.testing.assert_allclose(out[..., :-1], (image / 127.5 - 1) * (1 - mask), atol=1e-6)
    assert abs(mask.all((1, 2, 3)).mean() - 0.25) < 0.08
    # Of one region the mask is a product of two intervals.
    rows, columns = mask.max(2, keepdims=True), mask.max(1, keepdims=True)
    np.testing.assert_array_equal(mask, rows * columns)
    sides = mask.any(2).sum(1)
    assert sides.min() == 2 and sides.max() == 16
    assert masked(regions=4, whole=0.0)[..., -1].mean() > masked(whole=0.0)[..., -1].mean()
    np.testing.assert_array_equal(masked(regions=0, whole=0.0)[..., -1], 0)
    with pytest.raises(ValueError, match="random_mask: needs uint8"):
        run(image.astype(np.float32), dict(type="random_mask"))
