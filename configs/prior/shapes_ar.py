"""An autoregressive prior on generated scenes: from a text to the codes of a CLIP image embedding.

    python -m experiments.train --config=configs/prior/shapes_ar.py --workdir=runs/prior_shapes_ar

The same CLIP as that of configs/prior/shapes.py, trained first where it is missing. Sixteen of the
128 principal components of its embeddings hold 99.9 % of their variance.
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
        model=dict(type="prior_ar", components=16, buckets=256, dot_buckets=16, width=128, depth=3,
                   heads=4),
        task=dict(type="autoregressive_prior"),
        optim=dict(type="adamw", lr=1e-3, decay="cosine", warmup_steps=100, clip_norm=1.0, b2=0.96,
                   eps=1e-6, weight_decay=0.06),
        ema=dict(slow=dict(half_life=8_000, ramp=0.1)),
        train=dict(steps=1500, batch_size=128, checkpoint_every=500, log_every=50),
        sampling=dict(ema="slow"),
        evals=dict(
            test=dict(type="prior", where=dict(num_objects=1)),
            unseen=dict(type="prior", where=dict(num_objects=1), split="compositions"),
            codes=dict(type="likelihood", pred="code_likelihood", ema="slow"),
            unseen_codes=dict(type="likelihood", pred="code_likelihood", ema="slow",
                              split="compositions"),
        ),
    )  # fmt: skip
