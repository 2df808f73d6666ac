"""Transforms by name: maps of a batch's columns, each row by its own draws.

make_transforms([dict(type="random_flip"), dict(type="to_float")])
make_transforms([dict(type="tokenize", drop=0.1), dict(type="to_float")], tokenizer=tokenizer)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np

from diffjax.choices import build
from diffjax.data import augment, resize
from diffjax.data.augment_edm import EDMAugment
from diffjax.data.captions import Tokenize, tokenize
from diffjax.data.draws import Draws
from diffjax.data.schema import Columns
from diffjax.data.tokenizer_joint import AnyTokenizer
from diffjax.ranges import Factor, Probability, Times

# Row i of the result depends on row i of the columns and of the draws alone.
Transform = Callable[[Columns, Draws], Columns]


@dataclass(frozen=True)
class ToFloat:
    """uint8 in [0, 255] to float32 in [-1, 1]: x / 127.5 - 1."""

    def __call__(self, columns: Columns, draws: Draws) -> Columns:
        image = augment.stacked_uint8(columns, "to_float")
        return {**columns, "image": image.astype(np.float32) / np.float32(127.5) - np.float32(1)}


@dataclass(frozen=True)
class LowResolution:
    """Adds `cond_image [B, H / factor, W / factor, C] float32` in [-1, 1], the means of the image's
    squares, for models that see a small image; after what changes it, before `to_float`.

    Attributes:
      field: its name; `low_resolution` for upsamplers that are evaluated without their base.
    """

    factor: Factor
    field: str = "cond_image"

    def __call__(self, columns: Columns, draws: Draws) -> Columns:
        image = augment.stacked_uint8(columns, "low_resolution")
        b, h, w, c = image.shape
        f = self.factor
        if f < 1 or h % f or w % f:
            raise ValueError(f"low_resolution: factor={f} does not divide images of {h} x {w}")
        small = image.reshape(b, h // f, f, w // f, f, c).mean((2, 4), dtype=np.float32)
        return {**columns, self.field: small / np.float32(127.5) - np.float32(1)}


@dataclass(frozen=True)
class RandomMask:
    """Adds `masked_image [B, H, W, C + 1] float32`: the image in [-1, 1] with zeros where it is
    erased, and the mask, 1 there; after what changes the image, before `to_float`.

    Attributes:
      regions: rectangles that are erased, of sides that are uniform between an eighth and all of
        the image's.
      whole: share of the images that are erased altogether, so that the network still draws.
    """

    regions: Times = 2
    whole: Probability = 0.1

    def __call__(self, columns: Columns, draws: Draws) -> Columns:
        image = augment.stacked_uint8(columns, "random_mask")
        b, h, w, _ = image.shape
        erased = draws.uniform("whole") < self.whole
        mask = np.broadcast_to(erased[:, None, None], (b, h, w)).copy()
        for k in range(self.regions):
            inside = [_interval(draws, f"{axis} {k}", size) for axis, size in (("y", h), ("x", w))]
            mask |= inside[0][:, :, None] & inside[1][:, None, :]
        hidden = mask[..., None].astype(np.float32)
        known = (image / np.float32(127.5) - np.float32(1)) * (1 - hidden)
        return {**columns, "masked_image": np.concatenate([known, hidden], axis=-1)}


def _interval(draws: Draws, name: str, size: int) -> np.ndarray:
    """`[B, size] bool`, True in one interval of each row."""
    length = draws.integers(f"{name} length", max(size // 8, 1), size + 1)
    start = draws.integers(f"{name} start", 0, size + 1 - length)[:, None]
    place = np.arange(size)
    return (place >= start) & (place < start + length[:, None])


TRANSFORMS: dict[str, Callable[..., Transform]] = {
    "center_crop": resize.CenterCrop,
    "center_crop_resize": resize.CenterCropResize,
    "edm_augment": EDMAugment,
    "low_resolution": LowResolution,
    "random_affine": augment.RandomAffine,
    "random_channel_permutation": augment.RandomChannelPermutation,
    "random_crop": resize.RandomCrop,
    "random_flip": augment.RandomFlip,
    "random_mask": RandomMask,
    "random_resized_crop": resize.RandomResizedCrop,
    "random_shift": augment.RandomShift,
    "resize_short": resize.ResizeShort,
    "to_float": ToFloat,
    "tokenize": Tokenize,
}


def make_transforms(
    sections: Sequence[Mapping[str, Any]], tokenizer: AnyTokenizer | None = None
) -> tuple[Transform, ...]:
    """One transform per section `dict(type=name, **options)`, to be applied in their order.

    Args:
      tokenizer: of the run, for sections of the type "tokenize".

    Raises:
      ValueError: an unknown type or option, naming the nearest; captions without a tokenizer.
    """
    table = {**TRANSFORMS, "tokenize": partial(tokenize, tokenizer)}
    return tuple(build(table, "transform", dict(section)) for section in sections)


def apply(transforms: Sequence[Transform], columns: Columns, draws: Draws) -> Columns:
    """`columns` through `transforms` in order, each with streams of its own."""
    for i, transform in enumerate(transforms):
        columns = transform(columns, draws.stream(f"transform {i}"))
    return columns


def describe(transforms: Sequence[Transform]) -> list[dict[str, Any]]:
    """The sections the transforms were made from, every option spelled out, as plain JSON.

    A tokenizer is named by its fingerprint.
    """
    names: dict[Any, str] = {cls: name for name, cls in TRANSFORMS.items()}
    sections = []
    for t in transforms:
        options = {f.name: getattr(t, f.name) for f in fields(t)}  # type: ignore[arg-type]
        plain = {k: _plain(v) for k, v in options.items()}
        sections.append({"type": names.get(type(t), type(t).__name__), **plain})
    return sections


def _plain(option: Any) -> Any:
    if isinstance(option, AnyTokenizer):
        return option.fingerprint
    return list(option) if isinstance(option, tuple) else option
