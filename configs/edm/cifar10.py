"""EDM on CIFAR-10, unconditional (Karras et al. 2022, config F): 55.7 M (VP) or 56.4 M (VE).

    python -m experiments.train --config=configs/edm/cifar10.py:vp --workdir=runs/edm_vp

Arguments: vp (DDPM++ network), ve (NCSN++). Published FID: 1.97 (VP), 1.98 (VE) at 35 evaluations.
Hardware of the paper: 8 V100 for two days, float32.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import choose, make
from configs.networks import NETWORKS

HEUN = dict(sampler="heun", steps=18, spacing="karras")


def get_config(arg: str | None = None) -> ConfigDict:
    network = choose(arg, {"vp": "edm_cifar10_vp", "ve": "edm_cifar10_ve"}, "vp")
    return make(
        data=dict(
            train=dict(type="tfds", name="cifar10", split="train"),
            test=dict(type="tfds", name="cifar10", split="test"),
            image_shape=(32, 32, 3),
            transforms=(dict(type="to_float"), dict(type="edm_augment", prob=0.12)),
        ),
        model=NETWORKS[network],
        task=dict(
            type="diffusion",
            schedule=dict(type="edm"),
            prediction=dict(type="edm", sigma_data=0.5),
            weighting=dict(type="edm", sigma_data=0.5),
            times=dict(type="log_normal", mean=-1.2, std=1.2),
        ),
        # 200 million images; the learning rate ramps up over the first ten. The authors sum errors
        # over an image, where we average, so that their epsilon of 1e-8 is smaller here.
        optim=dict(type="adam", lr=1e-3, eps=1e-8 / (32 * 32 * 3), warmup_steps=19_532),
        ema=dict(paper=dict(half_life=500_000, ramp=0.05)),
        train=dict(steps=390_625, batch_size=512, checkpoint_every=5000, log_every=125),
        sampling=dict(**HEUN, ema="paper"),
        evals=dict(samples=dict(type="samples", every=20_000)),
    )
