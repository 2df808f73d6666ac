"""The CelebA 64-pixel model of DDIM (Song et al. 2021a): 78.7 M parameters.

    python -m experiments.prepare_data --source=folder --path=celeba64 --name=celeba64 --size=64
    python -m experiments.train --config=configs/ddim/celeba64.py --workdir=runs/ddim_celeba64

The folder `celeba64` holds the training split's aligned images, each cropped as the authors' code
does, which is not at the centre; in Pillow: `image.crop((25, 57, 153, 185)).resize((64, 64),
Image.BILINEAR)`.

Published FID with eta = 0 at 10, 20, 50, 100, 1000 steps: 17.33, 13.73, 9.17, 6.53, 3.51 (the
paper's table 1). The authors' code neither warms up nor clips x_hat; it stops by hand, so the
number of steps is ours, and it pairs each time t of a batch with T - 1 - t, where ours are strata.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import IMAGE_FLIP, make, no_argument
from configs.networks import NETWORKS

DDIM = dict(sampler="ddim", steps=50, spacing="leading", eta=0.0)
# The authors sum errors over an image, where we average: what is compared with gradients shrinks.
SUMMED = 64 * 64 * 3


def get_config(arg: str | None = None) -> ConfigDict:
    no_argument(arg)
    return make(
        data=dict(
            train=dict(type="tfds", name="celeba64", split="train"),
            image_shape=(64, 64, 3),
            transforms=IMAGE_FLIP,
            workers=8,
        ),
        model=NETWORKS["ddim_celeba64"],
        task=dict(
            type="diffusion",
            schedule=dict(type="linear"),
            prediction=dict(type="eps"),
            times=dict(type="uniform", antithetic=True),
        ),
        optim=dict(type="adam", lr=2e-4, eps=1e-8 / SUMMED, clip_norm=1.0 / SUMMED),
        # Decay 0.9999 at batch 128.
        ema=dict(paper=dict(half_life=887_180)),
        train=dict(steps=500_000, batch_size=128, checkpoint_every=10_000, log_every=100),
        sampling=dict(**DDIM, ema="paper"),
        evals=dict(
            samples=dict(type="samples", every=50_000),
            reconstruction=dict(type="reconstruction", pred_kw=DDIM, ema="paper", split="train"),
        ),
    )
