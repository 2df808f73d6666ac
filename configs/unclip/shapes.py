"""unCLIP (DALL-E 2) on generated scenes, all stages from nothing, on two CPU cores.

    python -m experiments.train --config=configs/unclip/shapes.py --workdir=runs/unclip_shapes

What is missing is trained first: CLIP (configs/clip/shapes.py), the prior from a text to the CLIP
embedding of an image of it (configs/prior/shapes.py), and the autoencoder
(configs/autoencoder/shapes.py). This run is the decoder: diffusion in the latents of the
autoencoder, conditioned by the image embedding (added to time, and as four tokens of context) and
by the text, each dropped at its own rate. To draw from a text, the prior draws the embedding.

Measured: 82 % of prompts of one object drawn with the right shape and colour (77.7 to 85.0 %, three
seeds); wanted: at least 85.

The argument chooses what the decoder is conditioned by: `both`, or `embedding` alone.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs.common import choose
from configs.latent import shapes
from configs.latent.shapes import CLIP, ONE

PRIOR = dict(run="runs/prior_shapes", config="configs/prior/shapes.py", ema="slow")
IMAGE = dict(type="image_embedding", tower=CLIP, to="both", tokens=4, width=96, drop=0.1)
CONDITIONS = {
    "both": dict(clip=IMAGE, caption=dict(type="text", tower=CLIP, drop=0.5)),
    "embedding": dict(clip=IMAGE),
}


def get_config(arg: str | None = None) -> ConfigDict:
    """Text to image (configs/latent/shapes.py) but for what the network is conditioned by."""
    conditions = choose(arg, CONDITIONS, "both")
    config = shapes.get_config("unet")
    with config.unlocked():
        config.prior, config.conditions = PRIOR, conditions
        # Less than by text alone (docs/results.md).
        config.sampling.guidance = 1.25
        config.evals.changed = dict(
            type="variations", where=ONE, pred_kw=dict(steps=50), ema="slow"
        )
        config.expected = {"one/objects": (0.85, 1.0)}
    return config
