"""ADM on ImageNet (Dhariwal & Nichol 2021): 296 M parameters at 64 pixels, 554 M at 256.

    python -m experiments.train --config=configs/adm/imagenet.py:64 --workdir=runs/adm_64

Arguments: 64, 256. Published FID by 250 steps: 2.07 (64 pixels, unguided), 10.94 (256, unguided),
4.59 (256) with classifier guidance (the paper's table 5; the first and the last also in the
README of guided-diffusion). A pod: set `--config.mesh.fsdp` and `--config.model.dtype=bfloat16`.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import IMAGE_FLIP, choose, make
from configs.networks import NETWORKS

SIZES = {
    "64": dict(size=64, schedule="cosine", lr=3e-4, batch=2048, steps=540_000),
    "256": dict(size=256, schedule="linear", lr=1e-4, batch=256, steps=1_980_000),
}
# On a table linspace is the authors' `space_timesteps`.
ANCESTRAL = dict(sampler="ddpm", steps=250, variance="learned", spacing="linspace", clip=True)


def get_config(arg: str | None = None) -> ConfigDict:
    chosen = choose(arg, SIZES, "64")
    size, batch = chosen["size"], chosen["batch"]
    return make(
        data=dict(
            train=dict(type="tfds", name="imagenet2012", split="train"),
            image_shape=(size, size, 3),
            transforms=(dict(type="center_crop_resize", size=size), *IMAGE_FLIP),
            eval_transforms=(dict(type="center_crop_resize", size=size), dict(type="to_float")),
            cache=False,
            workers=8,
        ),
        model=NETWORKS[f"adm_{size}"],
        conditions=dict(label=dict(type="class", classes=1000)),
        task=dict(
            type="diffusion",
            schedule=dict(type=chosen["schedule"]),
            prediction=dict(type="eps"),
            learned_variance=True,
        ),
        optim=dict(type="adamw", lr=chosen["lr"], weight_decay=0.0),
        # Decay 0.9999.
        ema=dict(paper=dict(half_life=batch * 6931.1)),
        train=dict(steps=chosen["steps"], batch_size=batch, checkpoint_every=5000, log_every=100),
        sampling=dict(**ANCESTRAL, ema="paper"),
        evals=dict(samples=dict(type="samples", every=20_000, columns=4)),
    )
