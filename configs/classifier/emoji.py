"""A classifier of people among emoji by gender, skin tone and role at once, a head for each.

    python -m experiments.train --config=configs/classifier/emoji.py --workdir=runs/classifier_emoji

Only drawings that have a role are read (`label="role"`); `unseen` are those of combinations of
gender, skin tone and role that training never shows. It judges what `configs/latent/emoji.py`
draws. Wanted: at least 95 % of `unseen` with all three right; not measured at this length, and 800
steps are far from it (docs/results.md).
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import make, no_argument


def get_config(arg: str | None = None) -> ConfigDict:
    no_argument(arg)
    return make(
        data=dict(
            train=dict(type="emoji", split="train", label="role"),
            test=dict(type="emoji", split="test", label="role"),
            others=dict(compositions=dict(type="emoji", split="compositions", label="role")),
            transforms=(
                dict(type="random_flip"),
                dict(type="random_affine", degrees=10.0, scale=(0.85, 1.15), pixels=2.0, fill=255),
                # Women wear violet, men green: a role must be known in clothes that it never wore.
                dict(type="random_channel_permutation", prob=0.5),
                dict(type="to_float"),
            ),
        ),
        model=dict(
            type="convnet", channels=(16, 32, 64, 128), blocks=1, feature_dim=128, dropout=0.1
        ),
        task=dict(type="factors", factors=("gender", "skin_tone", "role"), label_smoothing=0.05),
        optim=dict(
            type="adamw", lr=4e-3, decay="cosine", warmup_steps=40, weight_decay=0.05, b2=0.99
        ),
        train=dict(steps=3000, batch_size=64, checkpoint_every=500, log_every=100),
        evals=dict(
            test=dict(type="factor_accuracy", split="test"),
            unseen=dict(type="factor_accuracy", split="compositions"),
        ),
    )
