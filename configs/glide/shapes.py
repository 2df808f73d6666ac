"""GLIDE on generated scenes: a text encoder that is trained with the U-Net, and its two fine-tunes.

    python -m experiments.train --config=configs/glide/shapes.py --workdir=runs/glide_shapes
    python -m experiments.train --config=configs/glide/shapes.py:unconditional \
        --workdir=runs/glide_shapes_unconditional
    python -m experiments.train --config=configs/glide/shapes.py:inpaint \
        --workdir=runs/glide_shapes_inpaint

Nichol et al. 2021, section 2.3 and 3: first every scene has its caption; then, from that run, one
in five has the empty one, which classifier-free guidance needs; then, from that, regions are erased
and the known image and its mask are further channels, which begin without effect. Not measured yet.
"""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from configs.common import choose, make

RUNS = {
    "text": dict(),
    "unconditional": dict(run="runs/glide_shapes", config="configs/glide/shapes.py"),
    "inpaint": dict(
        run="runs/glide_shapes_unconditional",
        config="configs/glide/shapes.py:unconditional",
        widen=True,
    ),
}
KNOWN = dict(masked_image=dict(type="masked_image", layout="glide"))
SAMPLING = dict(sampler="ddpm", steps=50, spacing="linspace", variance="learned", clip=True)


def get_config(arg: str | None = None) -> ConfigDict:
    begin = choose(arg, RUNS, "text")
    name, inpaints = arg or "text", arg == "inpaint"
    erased: tuple[Any, ...] = (dict(type="random_mask"),) if inpaints else ()
    drop = 0.0 if name == "text" else 0.2
    caption = dict(
        type="learned_text", encoder=dict(type="glide_text", width=96, depth=4, heads=4), drop=drop
    )
    return make(
        data=dict(
            train=dict(type="shapes", split="train"),
            test=dict(type="shapes", split="test"),
            others=dict(compositions=dict(type="shapes", split="compositions")),
            transforms=(dict(type="tokenize"), *erased, dict(type="to_float")),
            eval_transforms=(dict(type="tokenize", pick="last"), *erased, dict(type="to_float")),
        ),
        tokenizer=dict(type="train", vocab_size=640, context=20),
        conditions=dict(caption=caption, **(KNOWN if inpaints else {})),
        model=dict(
            type="unet",
            channels=32,
            channel_mult=(1, 2, 3),
            blocks=1,
            attention_levels=(1, 2),
            head_channels=32,
            norm_groups=8,
            resample="resblock",
            scale_shift=True,
            time_embed="cos",
            init_style="adm",
            cross_attention=True,
            added_kv=True,
        ),
        task=dict(
            type="diffusion",
            schedule=dict(type="cosine"),
            prediction=dict(type="eps"),
            learned_variance=True,
        ),
        init_from=dict(begin),
        optim=dict(type="adamw", lr=5e-4 if name == "text" else 1e-4, weight_decay=0.0),
        ema=dict(slow=dict(half_life=8_000, ramp=0.1)),
        train=dict(
            steps=4000 if name == "text" else 800,
            batch_size=128,
            checkpoint_every=200,
            log_every=50,
        ),
        sampling=dict(SAMPLING, ema="slow", **({} if name == "text" else dict(guidance=3.0))),
        evals={}
        if inpaints
        else dict(
            one=dict(type="prompts", where=dict(num_objects=1)),
            unseen=dict(type="prompts", split="compositions", where=dict(num_objects=1)),
        ),
    )
