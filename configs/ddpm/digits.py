"""Class-conditional DDPM of real handwritten digits, 8 x 8 pixels: the run to start with.

python -m experiments.train --config=configs/ddpm/digits.py --workdir=runs/digits
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import make, no_argument

SAMPLING = dict(sampler="ddim", steps=20, guidance=1.25, ema="slow")


def get_config(arg: str | None = None) -> ConfigDict:
    no_argument(arg)
    return make(
        data=dict(
            train=dict(type="digits", split="train"),
            test=dict(type="digits", split="test"),
        ),
        model=dict(
            type="unet",
            channels=24,
            channel_mult=(1, 2),
            blocks=1,
            attention_resolutions=(4,),
            norm_groups=8,
            time_embed="sin_endpoint",
        ),
        conditions=dict(label=dict(type="class", drop=0.1)),
        task=dict(
            type="diffusion",
            schedule=dict(type="cosine"),
            prediction=dict(type="v"),
            weighting=dict(type="v_mse"),
            times=dict(type="uniform", antithetic=True),
            levels=17,
        ),
        optim=dict(type="adam", lr=2e-3, decay="cosine", warmup_steps=100, clip_norm=1.0, b2=0.99),
        ema=dict(slow=dict(half_life=10_000, ramp=0.1)),
        train=dict(steps=640, batch_size=128, checkpoint_every=160, log_every=40),
        features=dict(config="configs/classifier/digits.py"),
        sampling=SAMPLING,
        evals=dict(
            samples=dict(type="samples", every=160),
            generation=dict(type="generation", num_samples=1000, batch_size=100),
            trajectory=dict(type="trajectory"),
        ),
        expected={
            "generation/class_accuracy": (0.97, 1.0),
            "generation/frechet_ratio": (0.0, 2.0),
        },
    )
