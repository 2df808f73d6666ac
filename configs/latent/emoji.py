"""Emoji from a sentence, all stages from nothing, on two CPU cores.

    python -m experiments.train --config=configs/latent/emoji.py --workdir=runs/emoji
    python -m experiments.sample --run=runs/emoji \\
        --prompt="a woman firefighter, dark skin tone" --num=8

What is missing is trained first: the autoencoder (configs/autoencoder/emoji.py), CLIP
(configs/clip/emoji.py), whose text tower reads the captions, and a classifier
(configs/classifier/emoji.py), which says gender, skin tone and role of what is drawn, and by whose
features the report finds the training drawings nearest to it. `unseen` draws combinations of the
three that training never shows: of anything else one drawing stands for one concept, and a model
can but remember it. Of the drawings that training sees two in three are of people. Not measured
yet.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import make, no_argument

CLIP = dict(run="runs/clip_emoji", config="configs/clip/emoji.py")
CODEC = dict(run="runs/codec_emoji", config="configs/autoencoder/emoji.py", ema="slow")
PERSON = dict(kind=0)  # index into emoji_words.KINDS
PROMPTS = (
    "a woman firefighter, dark skin tone",
    "a man astronaut, medium skin tone",
    "a woman running facing right, light skin tone",
    "a man with red hair, light skin tone",
    "thumbs up, medium-dark skin tone",
    "grinning face",
    "penguin",
    "flag of Chile",
)


def get_config(arg: str | None = None) -> ConfigDict:
    no_argument(arg)
    return make(
        data=dict(
            train=dict(type="emoji", split="train"),
            test=dict(type="emoji", split="compositions"),
            oversample=(dict(where=PERSON, times=3),),
            transforms=(dict(type="tokenize"),),
            eval_transforms=(dict(type="tokenize", pick="last"), dict(type="to_float")),
            cache_latents=True,
        ),
        codec=CODEC,
        conditions=dict(caption=dict(type="text", tower=CLIP, drop=0.1)),
        model=dict(
            type="unet",
            channels=64,
            channel_mult=(1, 2),
            blocks=1,
            attention_levels=(1,),
            num_heads=4,
            norm_groups=8,
            time_embed="cos",
            init_style="adm",
            cross_attention=True,
            pool_tokens=True,
            scale_shift=True,
        ),
        task=dict(
            type="diffusion",
            schedule=dict(type="cosine"),
            prediction=dict(type="v"),
            weighting=dict(type="v_mse"),
            times=dict(type="logit_normal", mean=0.1, std=1.0, antithetic=True),
        ),
        optim=dict(type="muon", lr=3e-3, decay="cosine", warmup_steps=100, clip_norm=1.0, b2=0.99),
        ema=dict(slow=dict(half_life=8_000, ramp=0.1)),
        train=dict(steps=3500, batch_size=128, checkpoint_every=500, log_every=50),
        factor_classifier=dict(config="configs/classifier/emoji.py"),
        sampling=dict(sampler="heun", steps=50, churn=40.0, guidance=1.5, ema="slow"),
        evals=dict(
            samples=dict(type="samples", prompts=PROMPTS, columns=8),
            unseen=dict(type="drawn_factors", split="test"),
        ),
    )
