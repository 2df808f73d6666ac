"""The non-leaking augmentation of Karras et al. 2022 (EDM), appendix F.2, table 6.

The network is told what was done to each image, so that samples, for which it is told "nothing",
look like the images and not like the augmented ones.

Against the authors' code: reflection at the borders has no end (theirs stops, at an extent that
depends on the batch, and is grey beyond), and rows of which nothing but a flip was drawn skip the
filters, whose way there and back is exact. Else the pixels are the same for the same parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from diffjax.data.draws import Draws
from diffjax.data.schema import Columns
from diffjax.data.warp import warp
from diffjax.ranges import NonNegative, Probability

SCALE_STD = 0.2  # of log2 of the magnification
ANISOTROPY_STD = 0.2  # of log2 of the stretch
ROTATED_FRAME = 0.5  # share of stretches along any direction, the rest along x
TRANSLATE_STD = 0.125  # of the width or height


class Parameters(NamedTuple):
    """Operations on each image, in this order; every field `[B]`, zero (False) for nothing.

    Attributes:
      x_flip, y_flip: bool, mirrored left to right, upside down.
      scale: magnified by 2^(0.2 scale).
      angle: turned counterclockwise, radians.
      stretch, direction: stretched by 2^(0.2 stretch) along the axis at `direction` (radians
        counterclockwise from x), shrunk by as much across it.
      dx, dy: moved right and down, in units of an eighth of the width and height.
    """

    x_flip: np.ndarray
    y_flip: np.ndarray
    scale: np.ndarray
    angle: np.ndarray
    stretch: np.ndarray
    direction: np.ndarray
    dx: np.ndarray
    dy: np.ndarray


@dataclass(frozen=True)
class EDMAugment:
    """Flips, scaling, rotation, anisotropic scaling and translation of float images; adds the
    column `augment [B, 9] float32` (see `describe_to_network`) that the network is told.

    Images are float32, in and out, after `to_float`; as in the authors' code they are not clipped,
    and may overshoot [-1, 1] at edges. Leave `random_flip` out: a mirror image must be told.

    Attributes:
      prob: of each change, independently: 0.12 for CIFAR-10, 0.15 for 64-pixel faces.
      x_flip: whether half of all images are mirrored, whatever `prob`.
      y_flip, scale, rotate, anisotropy, translate: factors of `prob`; 0 leaves a change out. Half
        of the images chosen for `y_flip` are flipped.
    """

    prob: Probability = 0.12
    x_flip: bool = True
    y_flip: NonNegative = 1.0
    scale: NonNegative = 1.0
    rotate: NonNegative = 1.0
    anisotropy: NonNegative = 1.0
    translate: NonNegative = 1.0

    def __post_init__(self) -> None:
        for name in ("y_flip", "scale", "rotate", "anisotropy", "translate"):
            p = self.prob * getattr(self, name)
            if not 0 <= p <= 1:
                raise ValueError(
                    f"edm_augment: prob={self.prob} times {name}={getattr(self, name)} is no "
                    "probability; keep their product in [0, 1]"
                )

    def __call__(self, columns: Columns, draws: Draws) -> Columns:
        image = _stacked_float(columns)
        parameters = self.parameters(draws)
        moved = transform(image, parameters)
        return {**columns, "image": moved, "augment": describe_to_network(parameters)}

    def parameters(self, draws: Draws) -> Parameters:
        """One draw of what to do to each image."""

        def chosen(name: str, value: np.ndarray) -> np.ndarray:
            chance = self.prob * getattr(self, name)
            return np.where(draws.uniform(f"{name} chosen") < chance, value, 0)

        turned = draws.uniform("frame turned") < ROTATED_FRAME
        return Parameters(
            x_flip=(draws.uniform("x_flip") < 0.5) & self.x_flip,
            y_flip=chosen("y_flip", draws.uniform("y_flip") < 0.5).astype(bool),
            scale=chosen("scale", draws.normal("scale")),
            angle=chosen("rotate", draws.uniform("rotate", -np.pi, np.pi)),
            stretch=chosen("anisotropy", draws.normal("anisotropy")),
            direction=np.where(turned, draws.uniform("direction", -np.pi, np.pi), 0),
            dx=chosen("translate", draws.normal("dx")),
            dy=chosen("translate", draws.normal("dy")),
        )


def describe_to_network(p: Parameters) -> np.ndarray:
    """`[B, 9] float32` in the authors' order, zero exactly where nothing was done: the flips, log2
    of the magnification, cos - 1 and sin of the angle, the stretch times cos and sin of its
    direction, the translations; all but the angle's in standard deviations."""
    return np.stack(
        [
            p.x_flip,
            p.y_flip,
            p.scale,
            np.cos(p.angle) - 1,
            np.sin(p.angle),
            p.stretch * np.cos(p.direction),
            p.stretch * np.sin(p.direction),
            p.dx,
            p.dy,
        ],
        axis=1,
    ).astype(np.float32)


def forward_matrices(p: Parameters, height: int, width: int) -> np.ndarray:
    """`[B, 3, 3] float64`: where a point (x right, y down, 1), in pixels from the centre of the
    flipped image, is moved to by the rest of the parameters."""
    translate = np.zeros((len(p.dx), 3, 3)) + np.eye(3)
    translate[:, 0, 2] = p.dx * (TRANSLATE_STD * width)
    translate[:, 1, 2] = p.dy * (TRANSLATE_STD * height)
    stretch = 2 ** (ANISOTROPY_STD * p.stretch)
    stretched = _turn(p.direction) @ _diagonal(stretch, 1 / stretch) @ _turn(-p.direction)
    scale = 2 ** (SCALE_STD * p.scale)
    return translate @ stretched @ _turn(p.angle) @ _diagonal(scale, scale)


def transform(image: np.ndarray, p: Parameters) -> np.ndarray:
    """`image [B, H, W, C] float32` with `p` done to it; row i depends on row i alone."""
    image = np.where(p.x_flip[:, None, None, None], image[:, :, ::-1], image)
    image = np.where(p.y_flip[:, None, None, None], image[:, ::-1], image)
    sources = np.linalg.inv(forward_matrices(p, *image.shape[1:3]))[:, :2]
    still = (p.scale == 0) & (p.angle == 0) & (p.stretch == 0) & (p.dx == 0) & (p.dy == 0)
    for i in np.flatnonzero(~still):
        image[i] = warp(image[i], sources[i])
    return image


def _turn(angle: np.ndarray) -> np.ndarray:
    """`[B, 3, 3]` turning counterclockwise by `angle [B]` as seen on a screen, where y is down."""
    return _matrix([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _diagonal(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """`[B, 3, 3]` scaling by `x [B]` and `y [B]`."""
    return _matrix([[x, np.zeros_like(x)], [np.zeros_like(x), y]])


def _matrix(linear: list[list[np.ndarray]]) -> np.ndarray:
    """`[B, 3, 3]` of a 2 x 2 nest of `[B]`."""
    full = np.zeros((len(linear[0][0]), 3, 3)) + np.eye(3)
    full[:, :2, :2] = np.moveaxis(np.array(linear), -1, 0)
    return full


def _stacked_float(columns: Columns) -> np.ndarray:
    """The images `[B, H, W, C] float32`, or ValueError saying what must come before."""
    image = columns["image"]
    if isinstance(image, list):
        raise ValueError("edm_augment: images differ in size; resize or crop before it")
    if image.dtype != np.float32:
        raise ValueError(
            f"edm_augment: needs float32 images, found {image.dtype}; put to_float before it"
        )
    if min(image.shape[1:3]) < 2:
        raise ValueError(f"edm_augment: images of {image.shape[1:3]} pixels; it needs 2 x 2")
    return image
