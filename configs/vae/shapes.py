"""A convolutional variational autoencoder of generated scenes, 32 x 32 pixels of 8 bits.

python -m experiments.train --config=configs/vae/shapes.py --workdir=runs/vae_shapes
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import make, no_argument

PART = dict(type="conv", channels=(16, 32, 64, 128), hidden=256)


def get_config(arg: str | None = None) -> ConfigDict:
    no_argument(arg)
    return make(
        data=dict(
            train=dict(type="shapes", split="train"),
            test=dict(type="shapes", split="test"),
            others=dict(compositions=dict(type="shapes", split="compositions")),
        ),
        model=dict(
            type="vae", latent=32, encoder=PART, decoder=PART, scale="pixel", log_scale=-2.0
        ),
        task=dict(type="vae", likelihood=dict(type="logistic", levels=256)),
        optim=dict(type="adam", lr=2e-3, decay="cosine", warmup_steps=100, clip_norm=1000.0),
        ema=dict(slow=dict(half_life=10_000, ramp=0.1)),
        train=dict(steps=2000, batch_size=64, checkpoint_every=500, log_every=50),
        evals=dict(
            test=dict(type="likelihood", pred="elbo", ema="slow", every=500),
            unseen=dict(type="likelihood", pred="elbo", split="compositions", ema="slow"),
            tight=dict(
                type="likelihood", pred="iwae", pred_kw=dict(samples=64), num_images=256, ema="slow"
            ),
            reconstruction=dict(type="reconstruction", ema="slow", every=500),
            samples=dict(type="samples", ema="slow"),
            latents=dict(type="latents", ema="slow"),
        ),
    )
