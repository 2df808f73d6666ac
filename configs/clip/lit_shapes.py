"""Locked-image tuning on generated scenes (Zhai et al. 2022): a text tower learns to read an image
tower that is trained already and does not change.

    python -m experiments.train --config=configs/clip/shapes.py --workdir=runs/clip_shapes
    python -m experiments.train --config=configs/clip/lit_shapes.py --workdir=runs/lit_shapes

The image tower is that of runs/clip_shapes, which must stay there; the text tower and the scale
begin from nothing. Two CPU cores; not measured yet.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.clip import shapes


def get_config(arg: str | None = None) -> ConfigDict:
    config = shapes.get_config(arg)
    with config.unlocked():
        config.init_from = dict(run="runs/clip_shapes", only=("image",))
        config.task = dict(type="clip", locked=("image",))
        config.expected = {}
    return config
