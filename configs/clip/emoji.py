"""CLIP on emoji, from nothing, on two CPU cores.

    python -m experiments.train --config=configs/clip/emoji.py --workdir=runs/clip_emoji

One drawing stands for one concept, so what it makes of drawings that it has not seen is asked of
people alone: `unseen` are combinations of gender, skin tone and role that training never shows. The
pictures of `neighbours` are the nearest drawings. Not measured yet.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import make, no_argument

PERSON = dict(kind=0)  # index into emoji_words.KINDS
ASKED = dict(
    gender="a {answer} {role[0]}, {skin_tone[0]} skin tone",
    skin_tone="a {gender[0]} {role[0]}, {answer} skin tone",
    role="a {gender[0]} {answer}, {skin_tone[0]} skin tone",
)


def get_config(arg: str | None = None) -> ConfigDict:
    no_argument(arg)
    questions = {name: dict(factor=name, caption=text) for name, text in ASKED.items()}
    return make(
        data=dict(
            train=dict(type="emoji", split="train"),
            test=dict(type="emoji", split="test"),
            others=dict(compositions=dict(type="emoji", split="compositions")),
            # Two in three are people then: a batch holds the same role in other skins to be told.
            oversample=(dict(where=PERSON, times=3),),
            transforms=(
                dict(type="random_shift", pixels=2, fill="edge"),
                dict(type="tokenize"),
                dict(type="to_float"),
            ),
            eval_transforms=(dict(type="tokenize", pick="last"), dict(type="to_float")),
        ),
        tokenizer=dict(type="train", vocab_size=2048, context=40),
        model=dict(
            type="clip",
            embed=128,
            image=dict(type="resnet", layers=(1, 1, 1), width=24, image_size=32, heads=6),
            text=dict(width=96, depth=2, heads=3),
        ),
        task=dict(type="clip"),
        optim=dict(
            type="adamw",
            lr=4e-3,
            decay="cosine",
            warmup_steps=100,
            b2=0.98,
            eps=1e-6,
            weight_decay=0.1,
            bounds=(("logit_scale", 0.0, 4.6052),),
        ),
        train=dict(steps=2000, batch_size=128, checkpoint_every=200, log_every=50),
        evals=dict(
            unseen=dict(type="questions", split="compositions", questions=questions),
            retrieval=dict(type="retrieval", split="compositions"),
            neighbours=dict(type="neighbours", split="train", where=PERSON),
        ),
    )
