"""Reads a generated scene's factors back from its pixels, by image analysis alone.

Nothing is learnt: the ground is the border's colour, objects are what differs from it, each is
compared with renders of every shape in every size, turn and sub-pixel place (a bank of templates,
one matrix product), and a scene is believed only if the renders explain the picture. So the truth
against which text-to-image models are measured is the scene drawer's own.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from diffjax.data.factors import BACKGROUND_RGB, COLOUR_RGB, RELATIONS, SHAPES, Scene, Thing
from diffjax.data.outlines import TURN, coverage
from diffjax.data.scenes import RADII

_SIDE = 32  # Larger pictures are averaged down to it.
_WINDOW = 19  # Pixels a side of a template: the largest object, and a margin.
_CHUNK = 128
_WITHIN = np.zeros((3, 3, 3), bool)
_WITHIN[1] = True  # Within an image, diagonally too; never between images.

# What follows is set between what 2,000 renders give, noisy and blurred ones too, and what blends
# of two renders and coloured handwriting give. Colours are Euclidean distances in RGB, 0..255.
_GROUND_NEAR = 30.0  # From the border's median to a background; from a border pixel to the median.
_GROUND_SHARE = 0.9  # Of the border's pixels that are ground.
_VISIBLE = 36.0  # What differs from the ground so much is seen: six times the noise allowed.
_SOLID = 0.45  # Share of the strongest difference nearby, where an object begins.
_HUE = 0.21  # From an object's colour to its name's, over the contrast with the ground, at most.
_HUE_MARGIN = 1.4  # The second nearest name is at least so many times as far.
_MISFIT = 0.12  # Share of an object's energy that its template leaves unexplained, at most.
_MARGIN = 0.008  # So much more is left unexplained by every other shape.
_GHOST = 75.0  # What no object explains, averaged over 3 x 3 pixels, at most.
_SLACK = 0.4  # Pixels, from an object's radius to those of its size.
_AXIS = 1.4  # Distance along a relation's axis over the distance across it, at least.


@dataclass(frozen=True)
class Bank:
    """Renders of single objects in a window, `T` of them.

    Attributes:
      unit: `[T, window^2] float32`, coverage over its norm.
      norm, radius: `[T]`, the norm, and the radius in pixels.
      shape: `[T]`, index into SHAPES, in ascending order.
      offset: `[T, 2]`, (x, y) of the centroid from the window's middle.
    """

    unit: np.ndarray
    norm: np.ndarray
    shape: np.ndarray
    radius: np.ndarray
    offset: np.ndarray


@functools.cache
def bank() -> Bank:
    """The templates: every 0.3 pixels of radius, about 7 degrees of turn, quarter pixel of place.

    Radii go beyond those of the scenes on both sides: an object of none of the sizes must be seen
    to be one.
    """
    low, high = RADII.min() * _SIDE - 0.6, RADII.max() * _SIDE + 0.6
    radii = np.linspace(low, high, int(np.ceil((high - low) / 0.3)) + 1)
    offsets = np.arange(-0.375, 0.5, 0.25)
    rows = []
    for shape, turn in enumerate(TURN):
        turns = np.linspace(-turn, turn, 5 if turn else 1)
        grid = np.meshgrid([shape], radii, turns, offsets, offsets, indexing="ij")
        rows.append(np.stack([g.ravel() for g in grid], 1))
    shape, radius, angle, x, y = np.concatenate(rows).T
    offset = np.stack([x, y], 1)
    drawn = coverage(shape.astype(np.int64), offset + _WINDOW / 2, radius, angle, _WINDOW)
    flat = drawn.reshape(len(shape), -1)
    norm = np.linalg.norm(flat, axis=1)
    return Bank(flat / norm[:, None], norm, shape.astype(np.int64), radius, offset)


def check_images(shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Raises ValueError unless such an array is uint8 and its sides multiples of 32."""
    side = shape[1] if len(shape) == 4 else 0
    if dtype != np.uint8 or shape[1:] != (side, side, 3) or side % _SIDE or not side:
        raise ValueError(
            "the oracle reads uint8 [N, S, S, 3] with S a multiple of "
            f"{_SIDE}, not {dtype} {list(shape)}"
        )


def read_batch(images: np.ndarray) -> list[Scene | None]:
    """The scene in each of `images [N, H, W, 3] uint8`, the left or upper thing first; None if
    unsure.

    Unsure is whatever is not plainly one or two of the scenes' objects, in the scenes' colours and
    sizes, apart from each other on one of their grounds.

    Raises:
      ValueError: pixels that are no uint8, or sides that are no multiple of 32.
    """
    images = np.asarray(images)
    check_images(images.shape, images.dtype)
    n, side = images.shape[:2]
    scenes: list[Scene | None] = []
    for start in range(0, n, _CHUNK):
        blocks = images[start : start + _CHUNK].astype(np.float32)
        scale = side // _SIDE
        blocks = blocks.reshape(-1, _SIDE, scale, _SIDE, scale, 3).mean((2, 4))
        scenes += _read(blocks)
    return scenes


def _read(images: np.ndarray) -> list[Scene | None]:
    """Scenes of `images [n, 32, 32, 3] float32`."""
    ground, sure, background = _grounds(images)
    difference = images - ground[:, None, None]
    labels, spots, owner = _spots(np.linalg.norm(difference, axis=-1))
    count = np.bincount(owner, minlength=len(images))
    sure &= (count == 1) | (count == 2)
    spots, owner = spots[sure[owner]], owner[sure[owner]]
    fits, rest = _fit(difference, labels, spots, owner)
    factors, believed = _named(fits, ground[owner])
    np.logical_and.at(sure, owner, believed)
    ghost = ndimage.uniform_filter(rest, 3, mode="constant", axes=(1, 2))
    sure &= np.linalg.norm(ghost, axis=-1).max((1, 2)) < _GHOST
    scenes: list[Scene | None] = [None] * len(images)
    for i in np.flatnonzero(sure):
        rows = np.flatnonzero(owner == i)
        things = tuple(Thing(*map(int, factors[r])) for r in rows)
        scenes[i] = _related(things, fits.centre[rows], int(background[i]))
    return scenes


def _related(things: tuple[Thing, ...], centre: np.ndarray, background: int) -> Scene | None:
    """The scene of things at `centre [1 or 2, 2]`; None if they are related in no one way."""
    if len(things) == 1:
        return Scene(things, -1, background)
    x, y = centre[1] - centre[0]
    if max(abs(x), abs(y)) < _AXIS * min(abs(x), abs(y)):
        return None
    if abs(x) > abs(y):
        name = "left of" if x > 0 else "right of"
    else:
        name = "above" if y > 0 else "below"
    return Scene(things, RELATIONS.index(name), background).canonical()


def _grounds(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(colour of the ground `[n, 3]`, whether it is plainly one `[n]`, its name `[n]`)."""
    border = np.concatenate(
        [images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]], 1
    )
    ground = np.median(border, 1)
    name, distance, _ = _nearest(ground, BACKGROUND_RGB)
    even = np.linalg.norm(border - ground[:, None], axis=-1) < _GROUND_NEAR
    return ground, (distance < _GROUND_NEAR) & (even.mean(1) >= _GROUND_SHARE), name


def _nearest(colour: np.ndarray, palette: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(index, distance, distance of the second nearest) of `colour [n, 3]` in `palette [P, 3]`."""
    distance = np.linalg.norm(colour[:, None] - palette.astype(np.float32), axis=-1)
    ordered = np.sort(distance, 1)
    return distance.argmin(1), ordered[:, 0], ordered[:, 1]


def _spots(strength: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Connected spots of `strength [n, 32, 32]`: (labels of the pixels, spots, image of each)."""
    local = ndimage.maximum_filter(strength, (1, 5, 5))
    mask = strength > np.maximum(_VISIBLE, _SOLID * local)
    labels: np.ndarray
    labels, count = ndimage.label(mask, _WITHIN)  # type: ignore[misc]
    owner = np.zeros(count + 1, np.int64)
    where = np.nonzero(labels)
    owner[labels[where]] = where[0]
    return labels, np.arange(1, count + 1), owner[1:]


@dataclass(frozen=True)
class Fits:
    """The best template of each of M spots.

    Attributes:
      template: `[M] int`, row of the bank.
      centre: `[M, 2]`, (x, y) in pixels.
      paint: `[M, 3]`, colour less the ground's.
      misfit, other: `[M]`, the share of the spot's energy that the template leaves unexplained,
        and that the best template of another shape would.
    """

    template: np.ndarray
    centre: np.ndarray
    paint: np.ndarray
    misfit: np.ndarray
    other: np.ndarray


def _fit(
    difference: np.ndarray, labels: np.ndarray, spots: np.ndarray, owner: np.ndarray
) -> tuple[Fits, np.ndarray]:
    """`spots [M]` of the images `owner [M]` against the bank, and `difference` without them."""
    half = _WINDOW // 2
    pad = ((0, 0), (half, half), (half, half))
    middle = ndimage.center_of_mass(labels > 0, labels, spots)
    middle = np.rint(np.reshape(middle, (-1, 3))[:, 1:]).astype(np.int64)
    down, across = (middle[:, a, None] + np.arange(_WINDOW) for a in range(2))
    at = owner[:, None, None], down[:, :, None], across[:, None, :]
    rest = np.pad(difference, (*pad, (0, 0)))
    near = np.pad(labels, pad)[at]
    own = near == spots[:, None, None]
    # An edge fades over two pixels; a neighbour's, where the two are close, over one.
    others = ndimage.binary_dilation((near > 0) & ~own, _WITHIN)
    here = np.logical_and(ndimage.binary_dilation(own, _WITHIN, 2), np.logical_not(others))
    patch = rest[at] * here[..., None]
    hue = (np.linalg.norm(patch, axis=-1, keepdims=True) * patch).sum((1, 2))
    hue /= np.linalg.norm(hue, axis=-1, keepdims=True) + 1e-6  # Opposite colours cancel.
    b = bank()
    match = np.einsum("mhwc,mc->mhw", patch, hue).reshape(-1, _WINDOW**2) @ b.unit.T
    best = match.argmax(1)
    by_shape = np.maximum.reduceat(match, np.searchsorted(b.shape, np.arange(len(SHAPES))), 1)
    second, first = np.sort(by_shape, 1)[:, -2:].T
    energy = (patch**2).sum((1, 2, 3))
    unit = b.unit[best].reshape(-1, _WINDOW, _WINDOW)
    amount = np.einsum("mhwc,mhw->mc", patch, unit)
    np.subtract.at(rest, at, unit[..., None] * amount[:, None, None])
    fits = Fits(
        template=best,
        centre=middle[:, ::-1] + 0.5 + b.offset[best],
        paint=amount / b.norm[best, None],
        misfit=1 - first**2 / energy,
        other=1 - second**2 / energy,
    )
    return fits, rest[:, half:-half, half:-half]


def _named(fits: Fits, ground: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(factors `[M, 3] int` as of a Thing, whether to believe them `[M]`) of `fits` on their
    `ground [M, 3]`."""
    b = bank()
    colour, distance, second = _nearest(ground + fits.paint, COLOUR_RGB)
    contrast = np.linalg.norm(COLOUR_RGB[colour] - ground, axis=-1)
    radius = b.radius[fits.template]
    # Distance to each size's range of radii, `[M, sizes]`.
    low, high = RADII.T * _SIDE
    away = np.maximum(low - radius[:, None], radius[:, None] - high)
    size = away.argmin(1)
    believed = (distance < _HUE * contrast) & (second > _HUE_MARGIN * distance)
    believed &= (fits.misfit < _MISFIT) & (fits.other > fits.misfit + _MARGIN)
    believed &= away.min(1) < _SLACK
    return np.stack([b.shape[fits.template], colour, size], 1), believed
