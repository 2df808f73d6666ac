"""The second stage of a cascade on generated scenes: from 16 x 16 to 32 x 32 pixels.

    python -m experiments.train --config=configs/cascade/shapes_32.py \\
        --workdir=runs/cascade_shapes_32

The base (`configs/cascade/shapes_16.py`) is trained first where it is missing.
"""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from configs.cascade.shapes_16 import data, sections, unet
from configs.common import make, no_argument

BASE = dict(run="runs/cascade_shapes_16", config="configs/cascade/shapes_16.py", ema="slow")


def upsampler(steps: int, batch: int, crop: int) -> dict[str, Any]:
    """Sections of a stage that doubles the sides; it is trained on squares of `crop` pixels."""
    found = sections(steps, batch)
    found["task"] |= dict(crop=crop)
    # What is given is clean enough that half of the levels of noise are never needed.
    low = dict(type="low_resolution", factor=2, noise=0.5, width=32)
    return found | dict(conditions=dict(low=low))


def get_config(arg: str | None = None) -> ConfigDict:
    no_argument(arg)
    return make(
        data=data(32),
        base=BASE,
        model=unet(32, (1, 2), ()),
        **upsampler(steps=700, batch=32, crop=24),
        sampling=dict(sampler="ddim", steps=20, clip=True, augmentation=0.1, ema="slow"),
        evals=dict(samples=dict(type="samples", columns=10)),
    )
