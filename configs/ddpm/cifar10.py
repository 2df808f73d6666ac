"""DDPM on CIFAR-10 (Ho et al. 2020): 35.7 M parameters, T = 1000, linear, fixed-large variance.

    python -m experiments.prepare_data --source=cifar10 --path=cifar-10-binary.tar.gz
    python -m experiments.train --config=configs/ddpm/cifar10.py --workdir=runs/ddpm_cifar10

Published: FID 3.17 over 50,000 samples against the training set (5.24 against the test set),
IS 9.46, at most 3.75 bits per dimension. Hardware of the paper: a TPU v3-8 for 10.6 hours.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import IMAGE_FLIP, make, no_argument
from configs.networks import NETWORKS

ANCESTRAL = dict(sampler="ddpm", steps=1000, variance="large", spacing="leading", clip=True)


def get_config(arg: str | None = None) -> ConfigDict:
    no_argument(arg)
    return make(
        data=dict(
            train=dict(type="tfds", name="cifar10", split="train"),
            test=dict(type="tfds", name="cifar10", split="test"),
            image_shape=(32, 32, 3),
            transforms=IMAGE_FLIP,
        ),
        model=NETWORKS["ddpm_cifar10"],
        task=dict(
            type="diffusion",
            schedule=dict(type="linear"),
            prediction=dict(type="eps"),
        ),
        optim=dict(type="adam", lr=2e-4, warmup_steps=5000, clip_norm=1.0),
        # Decay 0.9999 at batch 128.
        ema=dict(paper=dict(half_life=887_180)),
        train=dict(steps=800_000, batch_size=128, checkpoint_every=10_000, log_every=100),
        sampling=dict(**ANCESTRAL, ema="paper"),
        evals=dict(
            samples=dict(type="samples", every=50_000),
            likelihood=dict(
                type="likelihood", ema="paper", pred_kw=dict(variance="large"), num_images=1000
            ),
        ),
    )
