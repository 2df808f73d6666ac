"""The base of a cascade on generated scenes: 16 x 16 pixels, drawn from noise alone.

    python -m experiments.train --config=configs/cascade/shapes_16.py \\
        --workdir=runs/cascade_shapes_16
"""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from configs.common import make, no_argument

TRAIN = dict(type="shapes", split="train", size=64)
TEST = dict(type="shapes", split="test", size=64)


def data(size: int) -> dict[str, Any]:
    """The scenes of 64 pixels, made `size` by the means of squares; all stages are of one set."""
    smaller = () if size == 64 else (dict(type="center_crop_resize", size=size),)
    transforms = (*smaller, dict(type="to_float"))
    return dict(train=TRAIN, test=TEST, transforms=transforms, eval_transforms=transforms)


def unet(channels: int, mult: tuple[int, ...], attention: tuple[int, ...]) -> dict[str, Any]:
    """A U-Net for crops of any size: its levels attend by number, not by height."""
    return dict(
        type="unet",
        channels=channels,
        channel_mult=mult,
        blocks=1,
        attention_levels=attention,
        mid_attention=bool(attention),
        num_heads=4,
        norm_groups=8,
        time_embed="cos",
        init_style="adm",
        scale_shift=True,
    )


def sections(steps: int, batch: int) -> dict[str, Any]:
    """What the stages train by alike."""
    return dict(
        task=dict(
            type="diffusion",
            schedule=dict(type="cosine"),
            prediction=dict(type="v"),
            weighting=dict(type="v_mse"),
            times=dict(type="logit_normal", mean=0.0, std=1.0, antithetic=True),
        ),
        optim=dict(type="muon", lr=3e-3, decay="cosine", warmup_steps=50, clip_norm=1.0, b2=0.99),
        ema=dict(slow=dict(half_life=4_000, ramp=0.1)),
        train=dict(steps=steps, batch_size=batch, checkpoint_every=300, log_every=50),
    )


def get_config(arg: str | None = None) -> ConfigDict:
    no_argument(arg)
    return make(
        data=data(16),
        model=unet(32, (1, 2, 2), (1, 2)),
        **sections(steps=900, batch=64),
        sampling=dict(sampler="ddim", steps=25, clip=True, ema="slow"),
        evals=dict(samples=dict(type="samples", columns=10)),
    )
