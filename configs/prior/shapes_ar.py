"""An autoregressive prior on generated scenes: from a text to the codes of a CLIP image embedding.

    python -m experiments.train --config=configs/prior/shapes_ar.py --workdir=runs/prior_shapes_ar

The same CLIP as that of configs/prior/shapes.py, trained first where it is missing. Sixteen of the
128 principal components of its embeddings hold 99.9 % of their variance.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import no_argument
from configs.prior import shapes


def get_config(arg: str | None = None) -> ConfigDict:
    """The diffusion prior's data, conditions and optimizer; another network and task."""
    no_argument(arg)
    config = shapes.get_config()
    codes = dict(type="likelihood", pred="code_likelihood", ema="slow")
    with config.unlocked():
        config.model = dict(type="prior_ar", components=16, buckets=256, dot_buckets=16, width=128,
                            depth=3, heads=4)  # fmt: skip
        config.task = dict(type="autoregressive_prior")
        config.train.steps = 1500
        config.sampling = dict(ema="slow")
        config.evals.codes = codes
        config.evals.unseen_codes = {**codes, "split": "compositions"}
    return config
