"""A CLIP of noised scenes, which guides diffusion by its gradient (Nichol et al. 2021, sec. 2.3).

    python -m experiments.train --config=configs/clip/shapes_noised.py \
        --workdir=runs/clip_shapes_noised

The vision transformer of `configs/clip/shapes.py`, shown every scene at a level of the cosine
schedule and told which. Its evaluations are of clean scenes. Two CPU cores; not measured yet.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.clip import shapes
from configs.common import no_argument


def get_config(arg: str | None = None) -> ConfigDict:
    no_argument(arg)
    config = shapes.get_config("vit")
    with config.unlocked():
        config.task = dict(type="clip", noise=dict(type="cosine"))
        config.optim.lr = 1e-3
        config.expected = {}
    return config
