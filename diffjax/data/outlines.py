"""The outlines of the generated scenes' shapes, and how much of each pixel they cover.

Every shape is a set of points (x, y) around its centroid, y downward, of about the area of the
unit circle, so that "small" and "large" mean the same of each.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from diffjax.data.factors import SHAPES

SUPERSAMPLE = 4  # Points a side of a pixel at which coverage is counted.
_CHUNK = 256  # Objects drawn at once.

_SQUARE, _TRIANGLE, _BAR, _ARM, _HOLE, _RING = 0.9, 1.3, 0.38, 1.12, 0.52, 1.1
_TIP, _NOTCH = 1.35, 0.64  # Radii of the star.
_HEART, _HEART_CENTROID = 0.95, 0.293  # Scale of the curve; y of the centroid on it.


def _circle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return x * x + y * y <= 1


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(x), np.abs(y)) <= _SQUARE


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Equilateral, one corner up."""
    return (y <= _TRIANGLE / 2) & (np.sqrt(3) * np.abs(x) - y <= _TRIANGLE)


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Five points, one up: mirrored five times onto half of one."""
    cos, sin = np.cos(np.pi / 5), np.sin(np.pi / 5)
    across, along = np.abs(x), -y
    for mirror in (cos, -cos):
        beyond = 2 * np.maximum(mirror * across - sin * along, 0)
        across, along = across - mirror * beyond, along + sin * beyond
    return (_TIP - along) * (_NOTCH * sin) >= (_TIP - _NOTCH * cos) * np.abs(across)


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = np.abs(x), np.abs(y)
    return (np.minimum(x, y) <= _BAR) & (np.maximum(x, y) <= _ARM)


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    r2 = x * x + y * y
    return (r2 >= _HOLE**2) & (r2 <= _RING**2)


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The sextic (x^2 + y^2 - 1)^3 <= x^2 y^3, y upward."""
    x, y = x / _HEART, _HEART_CENTROID - y / _HEART
    x2, y2 = x * x, y * y
    past = x2 + y2 - 1
    return past * past * past <= x2 * y2 * y


_INSIDE: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "heart": _heart,
}
INSIDE = tuple(_INSIDE[name] for name in SHAPES)

# Radius of the circle around each centroid that holds the shape, `[shapes]`.
REACH = np.array(
    [1, _SQUARE * np.sqrt(2), _TRIANGLE, _TIP, np.hypot(_ARM, _BAR), _RING, 1.25], np.float64
)
# Largest turn either way in radians, `[shapes]`: far from where a square is a diamond.
TURN = np.deg2rad([0, 12, 12, 15, 12, 0, 10])


def coverage(
    shape: np.ndarray, centre: np.ndarray, radius: np.ndarray, angle: np.ndarray, side: int
) -> np.ndarray:
    """Share of each pixel that each object covers, `[M, side, side] float32` in [0, 1].

    Args:
      shape: `[M] int`, indices into SHAPES.
      centre: `[M, 2]`, (x, y) in pixels from the upper left corner of the image.
      radius: `[M]` in pixels, of the circle that "circle" would be.
      angle: `[M]` in radians, clockwise.
    """
    parts = [np.zeros((0, side, side), np.float32)]
    for start in range(0, len(shape), _CHUNK):
        rows = slice(start, start + _CHUNK)
        parts.append(_coverage(shape[rows], centre[rows], radius[rows], angle[rows], side))
    return np.concatenate(parts)


def _coverage(
    shape: np.ndarray, centre: np.ndarray, radius: np.ndarray, angle: np.ndarray, side: int
) -> np.ndarray:
    """`coverage` of few objects: only a window around each is looked at."""
    window = int(2 * np.ceil((radius * REACH[shape]).max() + 1))
    corner = np.floor(centre - window / 2).astype(np.int64)
    fine = (np.arange(window * SUPERSAMPLE) + 0.5) / SUPERSAMPLE
    fine = (corner[:, :, None] + fine - centre[:, :, None]) / radius[:, None, None]
    x, y = fine.astype(np.float32)[:, 0, None, :], fine.astype(np.float32)[:, 1, :, None]
    cos, sin = (f(angle).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
    patch = np.zeros((len(shape), window, window), np.float32)
    for s in np.unique(shape):
        m = shape == s
        turned = cos[m] * x[m] + sin[m] * y[m], cos[m] * y[m] - sin[m] * x[m]
        blocks = INSIDE[s](*turned).reshape(-1, window, SUPERSAMPLE, window, SUPERSAMPLE)
        patch[m] = blocks.mean((2, 4), dtype=np.float32)
    padded = np.zeros((len(shape), side + 2 * window, side + 2 * window), np.float32)
    # A window wholly outside would be an object that nobody sees: it lands in the padding.
    across, down = (np.clip(corner, -window, side) + window).T[..., None] + np.arange(window)
    padded[np.arange(len(shape))[:, None, None], down[:, :, None], across[:, None, :]] = patch
    return padded[:, window:-window, window:-window]
