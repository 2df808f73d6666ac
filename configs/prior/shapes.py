"""A diffusion prior on generated scenes: from a text to the CLIP embedding of an image of it.

    python -m experiments.train --config=configs/prior/shapes.py --workdir=runs/prior_shapes

CLIP (configs/clip/shapes.py) is trained first where it is missing; its text tower reads the caption
and its image tower the scene, both frozen. The scenes' embeddings are computed once.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import make, no_argument

CLIP = dict(run="runs/clip_shapes", config="configs/clip/shapes.py")


def get_config(arg: str | None = None) -> ConfigDict:
    no_argument(arg)
    return make(
        data=dict(
            train=dict(type="shapes", split="train"),
            test=dict(type="shapes", split="test"),
            others=dict(compositions=dict(type="shapes", split="compositions")),
            transforms=(dict(type="tokenize"),),
            eval_transforms=(dict(type="tokenize", pick="last"), dict(type="to_float")),
            cache_latents=True,
        ),
        embedding=CLIP,
        conditions=dict(caption=dict(type="text", tower=CLIP, to="both", drop=0.1)),
        model=dict(type="prior", width=128, depth=4, heads=4),
        task=dict(
            type="diffusion",
            schedule=dict(type="cosine"),
            prediction=dict(type="x0"),
            weighting=dict(type="snr", power=0.0),
        ),
        optim=dict(type="adamw", lr=1e-3, decay="cosine", warmup_steps=100, clip_norm=1.0, b2=0.96,
                   eps=1e-6, weight_decay=0.06),
        ema=dict(slow=dict(half_life=8_000, ramp=0.1)),
        train=dict(steps=2000, batch_size=128, checkpoint_every=500, log_every=50),
        sampling=dict(sampler="ddim", steps=20, ema="slow"),
        evals=dict(
            test=dict(type="prior", where=dict(num_objects=1)),
            unseen=dict(type="prior", where=dict(num_objects=1), split="compositions"),
        ),
    )  # fmt: skip
