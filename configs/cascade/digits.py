"""The smallest cascade: handwritten digits by class, from 4 x 4 to 8 x 8 pixels.

    python -m experiments.train --config=configs/cascade/digits.py --workdir=runs/cascade_digits

The argument chooses the stage, `base` or `upsampler`; of the upsampler, the default, the base and
the digits' classifier, in whose features images are compared, are trained first where they are
missing. Expected: samples nearer to real digits than the same base samples enlarged bicubically.
"""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from configs.common import choose, make

BASE = dict(run="runs/cascade_digits_base", config="configs/cascade/digits.py:base", ema="slow")


def sections(size: int) -> dict[str, Any]:
    """Those that the stages have in common, the digits made `size` by the means of squares."""
    smaller = (dict(type="center_crop_resize", size=4),) if size == 4 else ()
    transforms = (*smaller, dict(type="to_float"))
    return dict(
        data=dict(
            train=dict(type="digits", split="train"),
            test=dict(type="digits", split="test"),
            transforms=transforms,
            eval_transforms=transforms,
        ),
        model=dict(
            type="unet",
            channels=16,
            channel_mult=(1, 2),
            blocks=1,
            attention_levels=(1,),
            norm_groups=8,
            time_embed="cos",
            scale_shift=True,
        ),
        task=dict(
            type="diffusion",
            schedule=dict(type="cosine"),
            prediction=dict(type="v"),
            weighting=dict(type="v_mse"),
            times=dict(type="uniform", antithetic=True),
            levels=17,
        ),
        optim=dict(type="adam", lr=3e-3, decay="cosine", warmup_steps=50, clip_norm=1.0, b2=0.99),
        ema=dict(slow=dict(half_life=5_000, ramp=0.1)),
        train=dict(steps=500, batch_size=64, checkpoint_every=250, log_every=50),
        sampling=dict(sampler="ddim", steps=20, clip=True, ema="slow"),
    )


def get_config(arg: str | None = None) -> ConfigDict:
    stage = choose(arg, {"base": "base", "upsampler": "upsampler"}, "upsampler")
    label = dict(type="class", drop=0.1)
    if stage == "base":
        return make(**sections(4), conditions=dict(label=label))
    found = sections(8)
    found["sampling"] |= dict(augmentation=0.1)
    return make(
        **found,
        base=BASE,
        conditions=dict(label=label, low=dict(type="low_resolution", noise=0.5, width=32)),
        features=dict(config="configs/classifier/digits.py"),
        evals=dict(cascade=dict(type="cascade", num_samples=1000)),
        expected={"cascade/frechet_ratio": (0.0, 1.0)},
    )
