"""Diffusion of your own images: a folder with one folder per class, or with captions beside them.

    python -m experiments.train --config=configs/ddpm/folder.py --workdir=runs/mine \\
        --config.data.train.path=my_images

Argument: the side in pixels, 32 by default (`configs/ddpm/folder.py:64`). Made for one GPU; on two
CPU cores take few steps. Class folders make the model class-conditional.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import IMAGE_FLIP, make

SAMPLING = dict(sampler="ddim", steps=25, ema="slow")


def get_config(arg: str | None = None) -> ConfigDict:
    size = int(arg or 32)
    return make(
        data=dict(
            train=dict(type="folder", path="my_images", size=size, on_corrupt="skip"),
            image_shape=(size, size, 3),
            transforms=IMAGE_FLIP,
        ),
        model=dict(
            type="unet",
            channels=64,
            channel_mult=(1, 2, 2),
            blocks=2,
            attention_resolutions=(size // 4,),
            head_channels=32,
            dropout=0.1,
        ),
        conditions=dict(label=dict(type="class", required=False)),
        task=dict(
            type="diffusion",
            schedule=dict(type="cosine"),
            prediction=dict(type="v"),
            weighting=dict(type="min_snr", gamma=5.0),
        ),
        optim=dict(type="adamw", lr=2e-4, warmup_steps=500, clip_norm=1.0),
        ema=dict(slow=dict(half_life=100_000, ramp=0.05)),
        train=dict(steps=100_000, batch_size=64, checkpoint_every=2000, log_every=100),
        sampling=SAMPLING,
        evals=dict(samples=dict(type="samples", every=10_000)),
    )
