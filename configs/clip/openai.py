"""CLIP on pairs of images and captions, the paper's recipe (Radford et al. 2021, tables 18 to 20).

    python -m experiments.prepare_data --source=folder --path=PAIRS --name=pairs --splits=train,test
    python -m experiments.train --config=configs/clip/openai.py:vit_b_32 --workdir=runs/vit_b_32

`PAIRS` is a folder with `train` and `test`, each of images and their captions (a text beside each
image, or a metadata.jsonl). The tokenizer is the paper's list of merges, from its repository.

Arguments, with the zero-shot accuracy on ImageNet that open_clip measures of OpenAI's weights (its
docs/openclip_results.csv), trained on 400 M pairs:
rn50 59.8 %, rn101 62.3 %, rn50x4 66.3 %, rn50x16 70.7 %, rn50x64 73.9 %, vit_b_32 63.3 %,
vit_b_16 68.3 %, vit_l_14 75.5 %, vit_l_14_336 76.6 % (one more epoch of the vit_l_14 that lies in
runs/vit_l_14), for which the paper itself says 76.2 %. They took 592 V100 for 18 days (rn50x64) and
256 V100 for 12 days (vit_l_14). On a pod: `--config.model.dtype=bfloat16
--config.model.remat=True`, and `--config.mesh.fsdp` for the large ones. Another number of pairs: 32
epochs are `train.steps` = 32 N / 32,768.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.clip.networks import CLIP_NETWORKS, get_clip
from configs.common import choose, make

LEARNING_RATES = {
    "rn50": 5e-4,
    "rn101": 5e-4,
    "rn50x4": 5e-4,
    "rn50x16": 4e-4,
    "rn50x64": 3.6e-4,
    "vit_b_32": 5e-4,
    "vit_b_16": 5e-4,
    "vit_l_14": 4e-4,
    "vit_l_14_336": 2e-5,
}
PAIRS, BATCH = 400_000_000, 32_768


def pairs(size: int) -> dict:
    """The `data` section: squares of `size` pixels of whatever images, random ones in training."""
    whole, end = dict(type="resize_short", size=size), dict(type="to_float")
    return dict(
        train=dict(type="tfds", name="pairs", split="train"),
        test=dict(type="tfds", name="pairs", split="test"),
        image_shape=(size, size, 3),
        transforms=(whole, dict(type="random_crop", size=size), dict(type="tokenize"), end),
        eval_transforms=(
            whole,
            dict(type="center_crop", size=size),
            dict(type="tokenize", pick="first"),
            end,
        ),
        cache=False,
        workers=8,
    )


TOKENIZER = dict(
    type="load", path="bpe_simple_vocab_16e6.txt.gz", overlong="truncate", empty="allow"
)


def get_config(arg: str | None = None) -> ConfigDict:
    name = arg or "vit_b_32"
    lr = choose(name, LEARNING_RATES, name)
    residual, longer = name.startswith("rn"), name == "vit_l_14_336"
    config = make(
        data=pairs(CLIP_NETWORKS[name]["image"]["image_size"]),
        tokenizer=TOKENIZER,
        model=get_clip(name),
        task=dict(type="clip"),
        optim=dict(
            type="adamw",
            lr=lr,
            decay="cosine",
            warmup_steps=2000,
            b1=0.9,
            b2=0.999 if residual else 0.98,
            eps=1e-8 if residual else 1e-6,
            weight_decay=0.2,
            decay_tables=True,
            # ln 100: the logits are scaled by 100 at most.
            bounds=(("logit_scale", 0.0, 4.6052),),
        ),
        train=dict(
            steps=PAIRS * (1 if longer else 32) // BATCH,
            batch_size=BATCH,
            checkpoint_every=1000,
            log_every=50,
        ),
        evals=dict(retrieval=dict(type="retrieval", split="test", every=10_000)),
    )
    if longer:
        config.init_from = dict(run="runs/vit_l_14", resize=True)
    return config
