"""DDPM at 256 pixels (Ho et al. 2020): 113.7 M parameters.

    python -m experiments.train --config=configs/ddpm/lsun256.py:church --workdir=runs/ddpm_church

Arguments: bedroom, church (LSUN), celebahq. The set is read as array_record, prepared from a
folder of images by `experiments.prepare_data --source=folder --name=lsun_church --size=256`.
Published FID: bedroom 6.36 (this size), church 7.89. Hardware of the paper: TPU v3-8, 2.2 steps a
second at batch 64.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import IMAGE_FLIP, choose, make
from configs.ddpm.cifar10 import ANCESTRAL
from configs.networks import NETWORKS

SETS = {
    "bedroom": ("lsun_bedroom", 2_400_000),
    "church": ("lsun_church", 1_200_000),
    "celebahq": ("celebahq", 500_000),
}


def get_config(arg: str | None = None) -> ConfigDict:
    name, steps = choose(arg, SETS, "church")
    return make(
        data=dict(
            train=dict(type="tfds", name=name, split="train"),
            image_shape=(256, 256, 3),
            transforms=IMAGE_FLIP,
            workers=8,
        ),
        model=NETWORKS["ddpm_256"],
        task=dict(
            type="diffusion",
            schedule=dict(type="linear"),
            prediction=dict(type="eps"),
        ),
        optim=dict(type="adam", lr=2e-5, warmup_steps=5000, clip_norm=1.0),
        # Decay 0.9999 at batch 64.
        ema=dict(paper=dict(half_life=443_592)),
        train=dict(steps=steps, batch_size=64, checkpoint_every=10_000, log_every=100),
        sampling={**ANCESTRAL, "variance": "small", "ema": "paper"},
        evals=dict(samples=dict(type="samples", columns=16, every=50_000)),
    )
