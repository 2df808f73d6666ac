"""DiT on ImageNet at 256 pixels in the latents of a f8 autoencoder (Peebles & Xie 2023).

    python -m experiments.train --config=configs/dit/imagenet256.py:XL/2 --workdir=runs/dit_xl_2

Arguments: S, B, L or XL, with patch /2, /4 or /8. The set `imagenet256_latents` holds the moments,
32 x 32 x 8, that the authors' codec, Stable Diffusion's with a decoder tuned further, gives of the
prepared set `imagenet256` and of its mirrored pictures, 84 GB; which of the two, and the sample of
the posterior, is drawn anew at every visit:

    python -m experiments.prepare_data --source=latents --of=imagenet256 --size=256 \\
        --splits=train --flips --codec=stabilityai/sd-vae-ft-ema

Published FID by 250 steps, after 400,000 of training, without guidance, decoded by sd-vae-ft-mse:
S/2 68.4, B/2 43.5, L/2 23.3, XL/2 19.5 (the paper's table 4; the authors' PyTorch gives XL/2 18.1).
XL/2 after 7 M steps, decoded by sd-vae-ft-ema: 9.62, and with guidance 1.5 on the first three
channels, as below, 2.27; scale 1.375 on all four gives 2.20. Hardware of the paper: a TPU
v3-256, 5.7 steps a second.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import choose, make
from configs.networks import NETWORKS

SIZES = {f"{s}/{p}": f"dit_{s.lower()}_{p}" for s in ("S", "B", "L", "XL") for p in (2, 4, 8)}
# On a table linspace is the authors' `space_timesteps`.
ANCESTRAL = dict(sampler="ddpm", steps=250, variance="learned", spacing="linspace")
GUIDED = {**ANCESTRAL, "guidance": 1.5, "guidance_channels": 3}


def get_config(arg: str | None = None) -> ConfigDict:
    network = choose(arg, SIZES, "XL/2")
    return make(
        data=dict(
            train=dict(type="tfds", name="imagenet256_latents", split="train"),
            image_shape=(32, 32, 8),
            transforms=(dict(type="random_flip"),),
            eval_transforms=(),
            cache=False,
            workers=8,
        ),
        codec=dict(model="stabilityai/sd-vae-ft-ema"),
        model={**NETWORKS[network], "scan_layers": True, "remat": True},
        conditions=dict(label=dict(type="class", classes=1000, drop=0.1)),
        task=dict(
            type="diffusion",
            schedule=dict(type="linear"),
            prediction=dict(type="eps"),
            learned_variance=True,
        ),
        optim=dict(type="adamw", lr=1e-4, weight_decay=0.0),
        # Decay 0.9999 at batch 256.
        ema=dict(paper=dict(half_life=1_774_361)),
        train=dict(steps=400_000, batch_size=256, checkpoint_every=5000, log_every=100),
        sampling=dict(**GUIDED, ema="paper"),
        evals=dict(samples=dict(type="samples", every=50_000, columns=4)),
    )
