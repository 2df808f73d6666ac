"""A released model of a few thousand parameters."""

import numpy as np
from flax.traverse_util import unflatten_dict

from diffjax.interop.parts import Part
from diffjax.interop.pipelines import Pipeline
from diffjax.interop.scheduler import Sampling
from diffjax.interop.unet_2d import unet_2d_shapes


def pipeline(size: int = 8, channels: int = 1, **changes) -> Pipeline:
    """A U-Net with random weights, of digits' size, drawn from by DDIM."""
    section = {"type": "unet", "channels": 8, "out_channels": channels, "channel_mult": (1, 2),
               "blocks": 1, "attention_levels": (1,), "norm_groups": 4, **changes}  # fmt: skip
    draw = np.random.default_rng(0).standard_normal
    shapes = unet_2d_shapes(section, channels)
    flat = {path: 0.1 * draw(s.shape, np.float32) for path, s in shapes.items()}
    params = unflatten_dict(flat, sep="/")
    recipe = {"sampler": "ddim", "spacing": "leading", "offset": 0, "final": "clean", "clip": True}
    schedule = {"type": "linear", "steps": 1000, "beta_start": 1e-4, "beta_end": 0.02}
    sampling = Sampling(schedule, {"type": "eps"}, recipe)
    return Pipeline(Part(section, {"params": params}, {"sample_size": size}), sampling, 50)
