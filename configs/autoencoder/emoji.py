"""Latent diffusion's autoencoder on emoji: 32 x 32 x 3 to 8 x 8 x 8.

    python -m experiments.train --config=configs/autoencoder/emoji.py --workdir=runs/codec_emoji

That of configs/autoencoder/shapes.py with twice the channels: drawings by people have more to keep.
`unseen` are drawings of combinations of gender, skin tone and role that training never shows. Not
measured yet.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import make, no_argument


def get_config(arg: str | None = None) -> ConfigDict:
    no_argument(arg)
    quality = dict(type="reconstruction", ema="slow", num_images=1500, measures=("psnr", "ssim"))
    return make(
        data=dict(
            train=dict(type="emoji", split="train"),
            test=dict(type="emoji", split="test"),
            others=dict(compositions=dict(type="emoji", split="compositions")),
        ),
        model=dict(
            type="autoencoder",
            bottleneck="kl",
            patch=2,
            channels=32,
            channel_mult=(1, 2),
            blocks=1,
            latent_channels=8,
            norm_groups=8,
            init_style="ddpm",
        ),
        task=dict(type="autoencoder", error="l2", kl_weight=1e-3, log_variance=-5.0),
        optim=dict(type="muon", lr=4e-3, b2=0.99, decay="cosine", warmup_steps=50, clip_norm=1.0),
        ema=dict(slow=dict(half_life=2_000, ramp=0.1)),
        train=dict(steps=2400, batch_size=32, checkpoint_every=400, log_every=100),
        evals=dict(
            test=quality | dict(split="test"),
            unseen=quality | dict(split="compositions"),
        ),
    )
