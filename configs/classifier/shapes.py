"""A classifier of generated scenes by the shape and colour of their first object: the feature
extractor, and the perceptual tower, of runs on `shapes`.

    python -m experiments.train --config=configs/classifier/shapes.py \\
        --workdir=runs/classifier_shapes

Two CPU cores: under two minutes. Of a scene of two objects nothing says which is the first, so a
perfect classifier is right in three of four held-out scenes. Wanted: 68 %; measured: 14.5 %
(chance: 2 %), so what rests on its features says little yet.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import make, no_argument


def get_config(arg: str | None = None) -> ConfigDict:
    no_argument(arg)
    return make(
        data=dict(
            train=dict(type="shapes", split="train"),
            test=dict(type="shapes", split="test"),
            transforms=(
                dict(type="random_shift", pixels=2, fill="edge"),
                dict(type="to_float"),
            ),
        ),
        model=dict(type="convnet", channels=(16, 32, 48), blocks=1, feature_dim=64),
        task=dict(type="classification"),
        optim=dict(
            type="adamw", lr=4e-3, decay="cosine", warmup_steps=40, weight_decay=0.02, b2=0.99
        ),
        train=dict(steps=600, batch_size=64, checkpoint_every=600, log_every=100),
        evals=dict(test=dict(type="classification", split="test")),
        expected={"test/accuracy": (0.68, 0.8)},
    )
