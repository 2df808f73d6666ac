"""Improved DDPM on CIFAR-10 (Nichol & Dhariwal 2021): learned variance, hybrid loss, T = 4000.

    python -m experiments.train --config=configs/iddpm/cifar10.py --workdir=runs/iddpm_cifar10

Published at 500,000 steps: 3.17 bits per dimension, FID 3.19 (the paper's table 2). The authors'
code flips no images.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import make, no_argument
from configs.networks import NETWORKS

# On a table linspace is the authors' `space_timesteps`.
ANCESTRAL = dict(sampler="ddpm", steps=250, variance="learned", spacing="linspace", clip=True)


def get_config(arg: str | None = None) -> ConfigDict:
    no_argument(arg)
    return make(
        data=dict(
            train=dict(type="tfds", name="cifar10", split="train"),
            test=dict(type="tfds", name="cifar10", split="test"),
            image_shape=(32, 32, 3),
        ),
        model=NETWORKS["iddpm_cifar10"],
        task=dict(
            type="diffusion",
            schedule=dict(type="cosine", steps=4000),
            prediction=dict(type="eps"),
            learned_variance=True,
            vlb_weight=0.001,
        ),
        optim=dict(type="adam", lr=1e-4),
        # Decay 0.9999 at batch 128.
        ema=dict(paper=dict(half_life=887_180)),
        train=dict(steps=500_000, batch_size=128, checkpoint_every=10_000, log_every=100),
        sampling=dict(**ANCESTRAL, ema="paper"),
        evals=dict(
            samples=dict(type="samples", every=50_000),
            likelihood=dict(
                type="likelihood", ema="paper", pred_kw=dict(variance="learned"), num_images=1000
            ),
        ),
    )
