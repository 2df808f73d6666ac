"""Random changes of equal-sized images, a whole batch at a time.

Row i of the result depends on row i and on its own draws alone. All but the flip work on uint8,
so `to_float` comes last.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np

from diffjax.data.draws import Draws
from diffjax.data.schema import FLIPPED, Columns
from diffjax.ranges import Grey, MaybePixels, NonNegative, Positive, Probability, Rising


@dataclass(frozen=True)
class RandomFlip:
    """Left to right with probability `prob`; of a codec's moments, those of the mirrored picture
    where the data hold them (`DatasetInfo.flipped`)."""

    prob: Probability = 0.5

    def __call__(self, columns: Columns, draws: Draws) -> Columns:
        image, mirrored = columns["image"], columns.get(FLIPPED)
        flip = draws.uniform("flip") < self.prob
        if isinstance(image, list):
            flipped = [x[:, ::-1] if f else x for x, f in zip(image, flip, strict=True)]
        else:
            mirrored = image[:, :, ::-1] if mirrored is None else mirrored
            flipped = np.where(flip[:, None, None, None], mirrored, image)
        return {**columns, "image": flipped}


@dataclass(frozen=True)
class RandomChannelPermutation:
    """The channels in an order that is drawn with probability `prob`, of all orders, the given one
    too: what is recognised must then be a shape, not the colour that it happens to have."""

    prob: Probability = 0.5

    def __call__(self, columns: Columns, draws: Draws) -> Columns:
        image = stacked_uint8(columns, "random_channel_permutation")
        orders = np.array(list(itertools.permutations(range(image.shape[-1]))))
        chosen = orders[draws.integers("order", 0, len(orders))]
        chosen = np.where((draws.uniform("permute") < self.prob)[:, None], chosen, orders[0])
        return {**columns, "image": np.take_along_axis(image, chosen[:, None, None, :], axis=3)}


@dataclass(frozen=True)
class RandomShift:
    """Moved by up to `pixels` either way along both axes; what comes in is `fill` (0..255), or with
    "edge" the border's own colour."""

    pixels: MaybePixels = 1
    fill: Grey | Literal["edge"] = 0

    def __call__(self, columns: Columns, draws: Draws) -> Columns:
        image = stacked_uint8(columns, "random_shift")
        b, h, w, _ = image.shape
        p = self.pixels
        kind: Any = {"mode": "edge"} if self.fill == "edge" else {"constant_values": self.fill}
        padded = np.pad(image, ((0, 0), (p, p), (p, p), (0, 0)), **kind)
        rows = draws.integers("dy", 0, 2 * p + 1)[:, None] + np.arange(h)
        cols = draws.integers("dx", 0, 2 * p + 1)[:, None] + np.arange(w)
        moved = padded[np.arange(b)[:, None, None], rows[:, :, None], cols[:, None, :]]
        return {**columns, "image": moved}


@dataclass(frozen=True)
class RandomAffine:
    """Turned, scaled and moved about the centre, bilinear, in one resampling.

    Attributes:
      degrees: angle uniform in [-degrees, degrees].
      scale: range of the magnification, uniform.
      pixels: shift uniform in [-pixels, pixels] along both axes.
      fill: what comes in from outside, 0..255.
    """

    degrees: NonNegative = 10.0
    scale: Annotated[tuple[Positive, Positive], Rising()] = (0.9, 1.1)
    pixels: NonNegative = 0.0
    fill: Grey = 0

    def __call__(self, columns: Columns, draws: Draws) -> Columns:
        image = stacked_uint8(columns, "random_affine")
        h, w = image.shape[1:3]
        angle = np.deg2rad(draws.uniform("angle", -self.degrees, self.degrees))[:, None, None]
        scale = draws.uniform("scale", *self.scale)[:, None, None]
        dy = draws.uniform("dy", -self.pixels, self.pixels)[:, None, None]
        dx = draws.uniform("dx", -self.pixels, self.pixels)[:, None, None]
        # Where each output pixel comes from: the inverse of "scale, turn, then move".
        y = np.arange(h)[None, :, None] - (h - 1) / 2 - dy
        x = np.arange(w)[None, None, :] - (w - 1) / 2 - dx
        cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
        source_y = cos * y - sin * x + (h - 1) / 2
        source_x = sin * y + cos * x + (w - 1) / 2
        return {**columns, "image": _bilinear(image, source_y, source_x, self.fill)}


def _bilinear(image: np.ndarray, y: np.ndarray, x: np.ndarray, fill: int) -> np.ndarray:
    """`image [B, H, W, C] uint8` at the points `y, x [B, H, W]` pixels, `fill` outside."""
    b, h, w, _ = image.shape
    # Points further out than one pixel see nothing but the border, which is all fill.
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=fill)
    y, x = np.clip(y + 1, 0, h + 1), np.clip(x + 1, 0, w + 1)
    top, left = np.minimum(y.astype(np.intp), h), np.minimum(x.astype(np.intp), w)
    fy, fx = (y - top).astype(np.float32)[..., None], (x - left).astype(np.float32)[..., None]
    flat = padded.reshape(b * (h + 2) * (w + 2), -1)
    at = np.arange(b)[:, None, None] * ((h + 2) * (w + 2)) + top * (w + 2) + left
    upper = flat[at] * (1 - fx) + flat[at + 1] * fx
    lower = flat[at + w + 2] * (1 - fx) + flat[at + w + 3] * fx
    return np.rint(upper * (1 - fy) + lower * fy).astype(np.uint8)


def stacked_uint8(columns: Columns, who: str) -> np.ndarray:
    """The images `[B, H, W, C] uint8`, or ValueError saying what must come before or after."""
    image = columns["image"]
    if isinstance(image, list):
        raise ValueError(f"{who}: images differ in size; resize or crop before it")
    if image.dtype != np.uint8:
        raise ValueError(f"{who}: needs uint8 images, found {image.dtype}; put to_float after it")
    return image
