"""A classifier of people among emoji by one factor: `role` (the default), `gender` or `skin_tone`.

    python -m experiments.prepare_data --source=emoji
    python -m experiments.train --config=configs/classifier/emoji.py:gender \\
        --workdir=runs/classifier_emoji_gender

Only drawings that have the factor are read; `unseen` are those of combinations of gender, skin tone
and role that training never shows. The first command is needed where the font lies in no usual
place. Not measured yet.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import choose, make

FACTORS = {name: name for name in ("role", "gender", "skin_tone")}


def get_config(arg: str | None = None) -> ConfigDict:
    label = choose(arg, FACTORS, "role")
    return make(
        data=dict(
            train=dict(type="emoji", split="train", label=label),
            test=dict(type="emoji", split="test", label=label),
            others=dict(compositions=dict(type="emoji", split="compositions", label=label)),
            transforms=(
                dict(type="random_affine", degrees=5.0, scale=(0.9, 1.1), pixels=1.5, fill=255),
                dict(type="to_float"),
            ),
        ),
        model=dict(type="convnet", channels=(32, 48, 64), blocks=1, feature_dim=64, dropout=0.1),
        task=dict(type="classification", label_smoothing=0.05),
        optim=dict(
            type="adamw", lr=4e-3, decay="cosine", warmup_steps=40, weight_decay=0.02, b2=0.99
        ),
        train=dict(steps=600, batch_size=64, checkpoint_every=600, log_every=100),
        evals=dict(
            test=dict(type="classification", split="test"),
            unseen=dict(type="classification", split="compositions"),
        ),
    )
