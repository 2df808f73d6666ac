"""Transforms that change the size of images: Pillow, one image at a time, any sizes in.

All are resampled by Pillow, whose filters widen when shrinking (antialiasing), as the papers' own
data pipelines do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from PIL import Image

from diffjax.data.arrays import stack
from diffjax.data.draws import Draws
from diffjax.data.images import as_array, as_image
from diffjax.data.schema import Columns
from diffjax.ranges import Grey, MaybePixels, Pixels, Positive, Rising, Share

BICUBIC = Image.Resampling.BICUBIC
BOX = Image.Resampling.BOX


def center_crop_resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """`[H, W, C] uint8` -> `[size, size, C]`, ADM's way (Dhariwal and Nichol 2021, code).

    Halved by box filtering while the short side is at least twice `size`, then bicubic to make the
    short side `size`, then the central square.
    """
    if pixels.shape[:2] == (size, size):
        return pixels
    image = as_image(pixels)
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return as_array(image.crop((left, top, left + size, top + size)))


def resize_short(pixels: np.ndarray, size: int) -> np.ndarray:
    """`[H, W, C] uint8` with its short side brought to `size` by one bicubic resampling.

    The long side is rounded down, as in the preprocessing of CLIP's code (Radford et al. 2021).
    """
    h, w = pixels.shape[:2]
    if min(h, w) == size:
        return pixels
    to = (size, size * h // w) if w <= h else (size * w // h, size)
    return as_array(as_image(pixels).resize(to, BICUBIC))


def center_crop(pixels: np.ndarray, size: int) -> np.ndarray:
    """The central `[size, size, C]` of `[H, W, C]` pixels, each side at least `size`."""
    if min(pixels.shape[:2]) < size:
        raise ValueError(
            f"center_crop: an image of {pixels.shape[0]} x {pixels.shape[1]} pixels is smaller "
            f"than size={size}; resize first"
        )
    # Half to even, where the margins differ: so does the preprocessing of CLIP's code.
    top, left = (round((side - size) / 2) for side in pixels.shape[:2])
    return pixels[top : top + size, left : left + size]


def _each(columns: Columns, change: Callable[[int, np.ndarray], np.ndarray]) -> Columns:
    """`columns` with image i replaced by `change(i, image)`, stacked where sizes agree."""
    images = columns["image"]
    return {**columns, "image": stack([change(i, image) for i, image in enumerate(images)])}


@dataclass(frozen=True)
class CenterCropResize:
    """The central square, resized to `size` pixels (see `center_crop_resize`)."""

    size: Pixels

    def __call__(self, columns: Columns, draws: Draws) -> Columns:
        return _each(columns, lambda _, image: center_crop_resize(image, self.size))


@dataclass(frozen=True)
class ResizeShort:
    """The whole image, its short side `size` pixels (see `resize_short`)."""

    size: Pixels

    def __call__(self, columns: Columns, draws: Draws) -> Columns:
        return _each(columns, lambda _, image: resize_short(image, self.size))


@dataclass(frozen=True)
class CenterCrop:
    """The central square of `size` pixels, as they are."""

    size: Pixels

    def __call__(self, columns: Columns, draws: Draws) -> Columns:
        return _each(columns, lambda _, image: center_crop(image, self.size))


@dataclass(frozen=True)
class RandomCrop:
    """A window of `size` pixels, uniform over the image after `pad` pixels of `fill` a side."""

    size: Pixels
    pad: MaybePixels = 0
    fill: Grey = 0

    def __call__(self, columns: Columns, draws: Draws) -> Columns:
        u, v = draws.uniform("top"), draws.uniform("left")
        pad = ((self.pad, self.pad), (self.pad, self.pad), (0, 0))

        def crop(i: int, image: np.ndarray) -> np.ndarray:
            image = np.pad(image, pad, constant_values=self.fill) if self.pad else image
            room = np.array(image.shape[:2]) - self.size
            if room.min() < 0:
                raise ValueError(
                    f"random_crop: an image of {image.shape[0]} x {image.shape[1]} pixels is "
                    f"smaller than size={self.size}; resize first, or pad"
                )
            top, left = int(u[i] * (room[0] + 1)), int(v[i] * (room[1] + 1))
            return image[top : top + self.size, left : left + self.size]

        return _each(columns, crop)


@dataclass(frozen=True)
class RandomResizedCrop:
    """A window of random area and aspect, resized to `size` (Szegedy et al. 2015, section 6).

    Attributes:
      size: pixels.
      scale: range of the window's share of the image's area, uniform.
      ratio: range of width over height, uniform in its logarithm.
    """

    size: Pixels
    scale: Annotated[tuple[Share, Share], Rising()] = (0.08, 1.0)
    ratio: Annotated[tuple[Positive, Positive], Rising()] = (3 / 4, 4 / 3)

    def __call__(self, columns: Columns, draws: Draws) -> Columns:
        tries = [draws.stream(f"try {k}") for k in range(10)]
        area = np.stack([d.uniform("area", *self.scale) for d in tries], axis=1)
        aspect = np.exp(np.stack([d.uniform("ratio", *np.log(self.ratio)) for d in tries], axis=1))
        u, v = draws.uniform("top"), draws.uniform("left")

        def crop(i: int, image: np.ndarray) -> np.ndarray:
            h, w = image.shape[:2]
            height, width = _window(h, w, area[i], aspect[i], self.ratio)
            top, left = int(u[i] * (h - height + 1)), int(v[i] * (w - width + 1))
            box = (left, top, left + width, top + height)
            return as_array(as_image(image).resize((self.size, self.size), BICUBIC, box=box))

        return _each(columns, crop)


def _window(
    h: int, w: int, area: np.ndarray, aspect: np.ndarray, ratio: tuple[float, float]
) -> tuple[int, int]:
    """(height, width) of the first of the tries `[K]` inside h x w, or the largest that is."""
    widths = np.rint(np.sqrt(area * h * w * aspect)).astype(int)
    heights = np.rint(np.sqrt(area * h * w / aspect)).astype(int)
    fits = np.flatnonzero((widths > 0) & (widths <= w) & (heights > 0) & (heights <= h))
    if fits.size:
        return int(heights[fits[0]]), int(widths[fits[0]])
    nearest = min(max(w / h, ratio[0]), ratio[1])
    return min(h, max(1, round(w / nearest))), min(w, max(1, round(h * nearest)))
