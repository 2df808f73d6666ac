"""Latent diffusion's autoencoder on generated scenes: 32 x 32 x 3 to 8 x 8 x 4.

    python -m experiments.train --config=configs/autoencoder/shapes.py --workdir=runs/codec_shapes

The argument chooses the bottleneck, `kl` or `vq`. Images are compared in the layers of the
classifier of configs/classifier/shapes.py, which is trained first.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import choose, make

CLASSIFIER = dict(config="configs/classifier/shapes.py")
BOTTLENECKS = {
    "kl": dict(bottleneck="kl"),
    "vq": dict(bottleneck="vq", codes=512, code_decay=0.99),
}
MEASURES = ("psnr", "ssim", "rfid", "perceptual", "factors")


def get_config(arg: str | None = None) -> ConfigDict:
    bottleneck = choose(arg, BOTTLENECKS, "kl")
    measures = (*MEASURES, "codes") if bottleneck["bottleneck"] == "vq" else MEASURES
    quality = dict(type="reconstruction", ema="slow", num_images=1500, measures=measures)
    return make(
        data=dict(
            train=dict(type="shapes", split="train"),
            test=dict(type="shapes", split="test"),
            others=dict(compositions=dict(type="shapes", split="compositions")),
        ),
        model=dict(
            type="autoencoder",
            channels=16,
            channel_mult=(1, 2, 2),
            blocks=1,
            latent_channels=4,
            norm_groups=8,
            **bottleneck,
        ),
        perceptual=CLASSIFIER,
        task=dict(
            type="autoencoder",
            perceptual_weight=0.1,
        ),
        optim=dict(
            type="adam",
            lr=2e-3,
            b2=0.99,
            decay="cosine",
            warmup_steps=50,
            clip_norm=1.0,
        ),
        ema=dict(slow=dict(half_life=5_000, ramp=0.1)),
        train=dict(steps=1000, batch_size=32, checkpoint_every=200, log_every=50),
        features=CLASSIFIER,
        evals=dict(
            test=quality | dict(split="test"),
            unseen=quality | dict(split="compositions"),
        ),
    )
