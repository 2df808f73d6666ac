"""SigLIP on pairs of images and captions: the sigmoid loss (Zhai et al. 2023, section 3.2).

    python -m experiments.train --config=configs/clip/siglip.py --workdir=runs/siglip

Data and tokenizer as in `configs/clip/openai.py`. The loss, its start (bias -10, temperature 1/10),
Adam's b2 of 0.95, its rate, decay and clipping, and the loss's way over devices, a ring that never
holds the whole matrix of logits, are the paper's; the towers are CLIP's. Arguments: vit_b_32, vit_b_16, vit_l_14. Made for a
pod: the paper's own models saw WebLI, on up to 32 TPU-v4. Not measured.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.clip.networks import CLIP_NETWORKS, get_clip
from configs.clip.openai import BATCH, PAIRS, TOKENIZER, pairs
from configs.common import choose, make

NAMES = ("vit_b_16", "vit_b_32", "vit_l_14")


def get_config(arg: str | None = None) -> ConfigDict:
    name = choose(arg, {name: name for name in NAMES}, "vit_b_16")
    return make(
        data=pairs(CLIP_NETWORKS[name]["image"]["image_size"]),
        tokenizer=TOKENIZER,
        model=get_clip(name, temperature=0.1, bias=-10.0),
        task=dict(type="clip", loss_kind="sigmoid", spread="ring"),
        optim=dict(
            type="adamw",
            lr=1e-3,
            decay="cosine",
            warmup_steps=2000,
            b2=0.95,
            # 1e-4 of the paper's code, which does not multiply it by the rate: 1e-4 / lr here.
            weight_decay=0.1,
            clip_norm=1.0,
        ),
        train=dict(
            steps=32 * PAIRS // BATCH, batch_size=BATCH, checkpoint_every=1000, log_every=50
        ),
        evals=dict(retrieval=dict(type="retrieval", split="test", every=10_000)),
    )
