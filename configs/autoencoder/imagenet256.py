"""Latent diffusion's autoencoders at 256 pixels (Rombach et al. 2022, Table 8 and appendix G).

    python -m experiments.train --config=configs/autoencoder/imagenet256.py:kl_f8 \\
        --workdir=runs/kl_f8 --config.perceptual.vgg=vgg16.pth --config.perceptual.heads=vgg.pth

The paper trains on OpenImages and measures on ImageNet's 50,000 validation images, here the first
5,000; `openimages256` and `imagenet256` are array_records of images at 256 pixels, prepared by
`experiments.prepare_data`. Published rFID and PSNR: kl_f4 0.27 and 27.53, kl_f8 0.90 and 24.19,
kl_f16 0.87 and 24.08, vq_f4 0.58 and 27.43, vq_f8 1.14 and 23.07. One accelerator of 80 GB; batch
12 is the original kl_f8's (others have their own, 14 for vq_f16), and the learning rate the
original code's 4.5e-6 for each image of a batch. The original crops its training images at random,
256 pixels of a shorter side of 384; those here are prepared whole, and flipped.

The tower is that of LPIPS: torchvision's `vgg16` and the heads of Zhang et al. 2018
(`lpips/weights/v0.1/vgg.pth`), torch or safetensors files that you have.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import IMAGE_FLIP, choose, make
from configs.networks import NETWORKS

BATCH = 12
# Weights and starts of the adversary are those of the original code's configuration files.
KL = dict(kl_weight=1e-6, disc_start=50_001, disc_weight=0.5)
VQ = dict(commitment_weight=0.25, disc_weight=0.75)
# Argument -> network, its changes, options of the task, layers of the discriminator.
VARIANTS = {
    "kl_f4": ("autoencoder_f4", {}, KL, 3),
    "kl_f8": ("autoencoder_f8", {}, KL, 3),
    "kl_f16": ("autoencoder_f16", {}, KL, 3),
    "vq_f4": ("autoencoder_f4", dict(codes=8192), VQ, 3),
    "vq_f8": (
        "autoencoder_f8",
        dict(codes=16_384, channel_mult=(1, 2, 2, 4), attention_levels=(3,)),
        VQ | dict(disc_weight=0.6, disc_start=1),
        2,
    ),
    "vq_f16": (
        "autoencoder_f16",
        dict(codes=16_384, latent_channels=8),
        VQ | dict(disc_start=250_001),
        2,
    ),
}


def get_config(arg: str | None = None) -> ConfigDict:
    network, changes, task, layers = choose(arg, VARIANTS, "kl_f8")
    measures = ("psnr", "ssim", "perceptual")
    if changes:
        changes, measures = {"bottleneck": "vq", **changes}, (*measures, "codes")
    return make(
        data=dict(
            train=dict(type="tfds", name="openimages256", split="train"),
            test=dict(type="tfds", name="imagenet256", split="validation[:5000]"),
            image_shape=(256, 256, 3),
            transforms=IMAGE_FLIP,
            cache=False,
            workers=8,
        ),
        model={**NETWORKS[network], **changes, "dtype": "bfloat16", "remat": True},
        perceptual=dict(vgg="vgg16.pth", heads="vgg.pth", dtype="bfloat16"),
        task=dict(
            type="autoencoder",
            perceptual_weight=1.0,
            discriminator=dict(type="patch", channels=64, layers=layers, norm="batch"),
            **task,
        ),
        optim=dict(type="adam", lr=4.5e-6 * BATCH, b1=0.5, b2=0.9),
        train=dict(steps=500_000, batch_size=BATCH, checkpoint_every=5000, log_every=100),
        evals=dict(
            test=dict(
                type="reconstruction",
                num_images=5000,
                batch_size=16,
                measures=measures,
                every=50_000,
            )
        ),
    )
