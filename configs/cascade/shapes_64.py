"""A cascade on generated scenes, 16 to 32 to 64 pixels (Ho et al. 2021), all stages from nothing.

    python -m experiments.train --config=configs/cascade/shapes_64.py \\
        --workdir=runs/cascade_shapes_64

What is missing is trained first: the stages before (configs/cascade/shapes_16.py, shapes_32.py),
and the classifier whose features are compared (configs/classifier/shapes64.py). Upsamplers are
trained on random crops, with noise in what they are given (conditioning augmentation), and draw
whole images. Expected: samples nearer to real scenes than the same base samples enlarged.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.cascade.shapes_16 import data, unet
from configs.cascade.shapes_32 import upsampler
from configs.common import make, no_argument

BASE = dict(run="runs/cascade_shapes_32", config="configs/cascade/shapes_32.py", ema="slow")


def get_config(arg: str | None = None) -> ConfigDict:
    no_argument(arg)
    return make(
        data=data(64),
        base=BASE,
        model=unet(16, (1, 2), ()),
        **upsampler(steps=600, batch=32, crop=32),
        features=dict(run="runs/classifier_shapes64", config="configs/classifier/shapes64.py"),
        sampling=dict(sampler="ddim", steps=10, clip=True, augmentation=0.1, ema="slow"),
        evals=dict(cascade=dict(type="cascade", num_samples=1000, batch_size=50)),
        expected={"cascade/frechet_ratio": (0.0, 1.0)},
    )
