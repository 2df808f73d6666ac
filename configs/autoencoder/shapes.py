"""Latent diffusion's autoencoder on generated scenes: 32 x 32 x 3 to 8 x 8 x 4.

    python -m experiments.train --config=configs/autoencoder/shapes.py --workdir=runs/codec_shapes

The argument chooses the bottleneck, `kl` or `vq`; `kl_adversarial` and `vq_adversarial` compare
images in the layers of the classifier of configs/classifier/shapes.py too, which is trained first
and gives them an rFID, and train against a patch discriminator from half way on.

Two CPU cores: four minutes. Expected of `kl` on held-out scenes: 37.1 dB, and the oracle reads all
factors off 98 % of the reconstructions (95 % of scenes whose pair of shape and colour training
never showed). The other arguments have not been measured.

The KL weighs four thousand times what it does in the paper, and four channels hold what sixteen do:
diffusion then has less to learn that is not the scene (docs/results.md).
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import choose, make

STEPS = 1600
CLASSIFIER = dict(config="configs/classifier/shapes.py")
VQ = dict(bottleneck="vq", codes=512, code_norm=True, code_decay=0.99)
EXPECTED = {"test/factors_kept": (0.97, 1.0), "test/psnr": (37.0, 41.0)}
# Argument -> bottleneck, and whether there is an adversary.
VARIANTS = {
    "kl": (dict(bottleneck="kl"), False),
    "vq": (VQ, False),
    "kl_adversarial": (dict(bottleneck="kl"), True),
    "vq_adversarial": (VQ, True),
}


def get_config(arg: str | None = None) -> ConfigDict:
    bottleneck, adversarial = choose(arg, VARIANTS, "kl")
    task, parts = dict(error="l2", kl_weight=4e-3, log_variance=-5.0), {}
    measures = ("psnr", "ssim", "factors")
    if adversarial:
        discriminator = dict(type="patch", channels=16, layers=2, norm="group")
        task |= dict(
            perceptual_weight=0.02,
            discriminator=discriminator,
            disc_start=STEPS // 2,
            disc_weight=0.1,
        )
        parts = dict(discriminator=dict(type="adam", lr=1e-3, b1=0.5))
        measures = (*measures, "perceptual", "rfid")
    if bottleneck["bottleneck"] == "vq":
        measures = (*measures, "codes")
    quality = dict(type="reconstruction", ema="slow", num_images=1500, measures=measures)
    return make(
        data=dict(
            train=dict(type="shapes", split="train"),
            test=dict(type="shapes", split="test"),
            others=dict(compositions=dict(type="shapes", split="compositions")),
        ),
        model=dict(
            type="autoencoder",
            patch=2,
            channels=32,
            channel_mult=(1, 2),
            blocks=1,
            latent_channels=4,
            norm_groups=8,
            init_style="ddpm",
            **bottleneck,
        ),
        perceptual=CLASSIFIER if adversarial else {},
        task=dict(type="autoencoder", **task),
        optim=dict(
            type="muon",
            lr=4e-3,
            b2=0.99,
            decay="cosine",
            warmup_steps=50,
            clip_norm=1.0,
            parts=parts,
        ),
        ema=dict(slow=dict(half_life=2_000, ramp=0.1)),
        train=dict(steps=STEPS, batch_size=32, checkpoint_every=400, log_every=100),
        features=CLASSIFIER if adversarial else {},
        evals=dict(
            test=quality | dict(split="test"),
            unseen=quality | dict(split="compositions"),
        ),
        expected=EXPECTED if bottleneck["bottleneck"] == "kl" and not adversarial else {},
    )
