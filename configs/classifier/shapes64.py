"""The classifier of generated scenes at 64 pixels: features for runs that draw them at that size.

    python -m experiments.train --config=configs/classifier/shapes64.py \\
        --workdir=runs/classifier_shapes64

As `configs/classifier/shapes.py`, but by Muon, and shown nine scenes of one object in ten: of two
nothing says which is the first.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.classifier import shapes


def get_config(arg: str | None = None) -> ConfigDict:
    found = shapes.get_config(arg).to_dict()
    found["data"] |= dict(
        train=dict(type="shapes", split="train", size=64),
        test=dict(type="shapes", split="test", size=64),
        oversample=(dict(where=dict(num_objects=1), times=9),),
    )
    return ConfigDict(
        found
        | dict(
            optim=dict(type="muon", lr=3e-3, decay="cosine", warmup_steps=40, b2=0.99),
            train=dict(steps=400, batch_size=64, checkpoint_every=400, log_every=50),
        )
    )
