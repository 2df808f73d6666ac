"""Generated scenes: factors to geometry, geometry to pixels. All lengths are shares of the side,
so one scene is the same picture at every resolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffjax.data.draws import Draws
from diffjax.data.factors import BACKGROUND_RGB, COLOUR_RGB
from diffjax.data.outlines import REACH, TURN, coverage

_PIXEL = 1 / 32  # The lengths below were chosen at 32 pixels.
RADII = np.array([(3.1, 3.5), (4.9, 5.4)]) * _PIXEL  # Of each of SIZES, from and to.
EDGE = 0.5 * _PIXEL  # Between an object and the edge of the image, at least.
GAP = 1.75 * _PIXEL  # Between two objects, along the axis of their relation, at least.
SLANT = 0.5  # Distance across the relation's axis over distance along it, at most.
_CHUNK = 512


@dataclass(frozen=True)
class Geometry:
    """Places of the objects of N scenes; the second's row is meaningless where there is none.

    Attributes:
      centre: `[N, 2 objects, 2] float64`, (x, y) from the upper left corner, in [0, 1].
      radius: `[N, 2] float64`.
      angle: `[N, 2] float64`, radians, clockwise.
    """

    centre: np.ndarray
    radius: np.ndarray
    angle: np.ndarray


def arrange(columns: dict[str, np.ndarray], draws: Draws) -> Geometry:
    """Places for the factors `columns` (of `factors.FIELDS`, N rows), by `draws` (N streams).

    Objects lie wholly inside. Two are GAP apart at least, and along the axis of their relation
    at least 1 / SLANT times as far as across it.
    """
    n = len(columns["num_objects"])
    two = columns["num_objects"] == 2
    spread = np.stack([draws.uniform(f"radius {j}") for j in range(2)], 1)
    low, high = np.moveaxis(RADII[columns["size"]], -1, 0)
    radius = low + (high - low) * spread
    turn = np.stack([draws.uniform(f"angle {j}", -1, 1) for j in range(2)], 1)
    angle = TURN[columns["shape"]] * turn
    reach = radius * REACH[columns["shape"]]
    reach[~two, 1] = 0
    room = 1 - 2 * EDGE - reach.sum(1)
    nearest = reach.sum(1) + GAP
    along = nearest + (room - nearest) * draws.uniform("along")
    across = np.minimum(SLANT * along, room) * draws.uniform("across", -1, 1)
    sign = np.where(columns["relation"] % 2 == 0, 1, -1)  # left of, above: the second lies beyond
    axis = np.where(columns["relation"] < 2, 0, 1)
    step = np.zeros((n, 2))  # From the first to the second.
    step[np.arange(n), axis] = np.where(two, sign * along, 0)
    step[np.arange(n), 1 - axis] = np.where(two, across, 0)
    first = np.empty((n, 2))
    for a, name in enumerate(("x", "y")):
        least = EDGE + np.maximum(reach[:, 0], reach[:, 1] - step[:, a])
        most = 1 - EDGE - np.maximum(reach[:, 0], reach[:, 1] + step[:, a])
        first[:, a] = least + (most - least) * draws.uniform(name)
    return Geometry(np.stack([first, first + step], 1), radius, angle)


def draw(columns: dict[str, np.ndarray], geometry: Geometry, side: int = 32) -> np.ndarray:
    """The pictures of factors `columns` at `geometry`, `[N, side, side, 3] uint8`, anti-aliased."""
    n = len(columns["num_objects"])
    image = np.empty((n, side, side, 3), np.uint8)
    for start in range(0, n, _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, n))
        ground = BACKGROUND_RGB[columns["background"][rows]].astype(np.float32)
        canvas = np.repeat(ground, side * side, 0).reshape(-1, side, side, 3)
        for j in range(2):
            here = columns["num_objects"][rows] > j
            r = rows[here]
            covered = coverage(
                columns["shape"][r, j],
                geometry.centre[r, j] * side,
                geometry.radius[r, j] * side,
                geometry.angle[r, j],
                side,
            )[..., None]
            paint = COLOUR_RGB[columns["colour"][r, j]].astype(np.float32)[:, None, None]
            canvas[here] += covered * (paint - canvas[here])
        image[rows] = np.rint(canvas).astype(np.uint8)
    return image
