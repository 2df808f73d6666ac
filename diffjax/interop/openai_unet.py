"""OpenAI's U-Nets in: `.pt` files of improved-diffusion (iDDPM) and guided-diffusion (ADM).

Such a file is a state dict alone. Sizes are read off its shapes; what these cannot say are the
options of its release, which `PUBLISHED` holds by name, as the two repositories' READMEs give them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.choices import pick
from diffjax.interop.block_tables import OPENAI_UNET
from diffjax.interop.files import read_tensors
from diffjax.interop.parts import Part, fill, multiples
from diffjax.interop.scheduler import Sampling
from diffjax.interop.sizes import blamed_on
from diffjax.interop.tables import Row
from diffjax.interop.unet_2d import unet_2d_shapes
from diffjax.interop.unet_tables import original_levels, original_table


@dataclass(frozen=True)
class Release:
    """Facts of a release that its file does not hold.

    Attributes:
      size: side of the images.
      num_heads, head_channels: heads by number, or by width where that is given.
      new_order: the fused projection's rows are all queries, then keys, then values
        ("use_new_attention_order"); otherwise a head's three after another.
      schedule: section of the noise schedule.
      steps: of the paper's sampling.
    """

    size: int
    num_heads: int = 4
    head_channels: int | None = None
    new_order: bool = False
    schedule: Mapping[str, Any] = field(default_factory=lambda: {"type": "linear"})
    steps: int = 250


_COSINE = {"type": "cosine"}
_IDDPM = {"type": "cosine", "steps": 4000}
_LSUN = Release(256, num_heads=1, steps=1000)
PUBLISHED: dict[str, Release] = {
    "iddpm_cifar10": Release(32, schedule=_IDDPM, steps=4000),
    "iddpm_imagenet64": Release(64, schedule=_IDDPM, steps=4000),
    "iddpm_imagenet64_cond": Release(64, schedule={**_IDDPM, "rescaled": False}),
    "iddpm_lsun_bedroom": _LSUN,
    "adm_64": Release(64, head_channels=64, new_order=True, schedule=_COSINE),
    "adm_128": Release(128, num_heads=4),
    "adm_256": Release(256, head_channels=64),
    "adm_512": Release(512, head_channels=64),
    "adm_lsun": Release(256, head_channels=64, steps=1000),
}


def load_openai_unet(file: str | Path, release: str | Release) -> Part:
    """The U-Net of a `.pt` (read without running what is in it) or of a safetensors of its tensors.

    Its fact: `sample_size` in pixels.

    Args:
      file: the path.
      release: a name in PUBLISHED, or its like for a network of one's own.

    Raises:
      ValueError: one line: an unknown name, a file that cannot be read, another architecture (a
        classifier, say), heads that do not divide a layer's channels, tensors too many or too few.
    """
    file = Path(file)
    if isinstance(release, str):
        release = PUBLISHED[pick("released U-Net", release, PUBLISHED)]
    weights = read_tensors(file)
    with blamed_on(file):
        section, channels = infer_section(weights, release)
        shapes = unet_2d_shapes(section, channels)
        table = openai_table(section, shapes, release)
        return fill(section, {"sample_size": release.size}, weights, shapes, table)


def openai_table(
    section: Mapping[str, Any], shapes: Mapping[str, Any], release: Release
) -> list[Row]:
    """The table of a section's parameters, of `shapes`."""
    names = dataclasses.replace(OPENAI_UNET, groups=lambda c: _groups(c, release))
    return original_table(section["channel_mult"], section["blocks"], shapes, names=names)


def openai_sampling(release: str | Release, learned: bool) -> tuple[Sampling, int]:
    """The paper's sampling, and its steps: ancestral, over the times that iDDPM's code spaces out,
    the variance learned or (Ho et al. 2020) the larger fixed one, x_hat clipped."""
    if isinstance(release, str):
        release = PUBLISHED[pick("released U-Net", release, PUBLISHED)]
    recipe = {
        "sampler": "ddpm",
        "variance": "learned" if learned else "large",
        "spacing": "linspace",
        "offset": 0,
        "final": "clean",
        "clip": True,
    }
    return Sampling(dict(release.schedule), {"type": "eps"}, recipe), release.steps


def _groups(channels: int, release: Release) -> int:
    """Groups of (query, key, value) that a fused projection's rows stand in."""
    wide = release.head_channels
    heads = release.num_heads if wide is None else channels // wide
    if not heads or channels % heads or (wide is not None and heads * wide != channels):
        said = f"num_heads={release.num_heads}" if wide is None else f"head_channels={wide}"
        raise ValueError(f"attention over {channels} channels does not divide by {said}")
    return 1 if release.new_order else heads


def infer_section(
    weights: Mapping[str, np.ndarray], release: Release
) -> tuple[dict[str, Any], int]:
    """The `model` section of a state dict, and the channels of what the network is shown.

    Raises:
      ValueError: no such network.
    """
    levels = original_levels(weights)
    try:
        width, channels = weights["input_blocks.0.0.weight"].shape[:2]
        embed, noise = weights["time_embed.0.weight"].shape
        out = len(weights["out.2.bias"])
        embed_out = len(weights["input_blocks.1.0.emb_layers.1.bias"])
    except (KeyError, ValueError) as error:
        raise ValueError(f"no U-Net of iDDPM or ADM: {error} is not there") from error
    if any(".transformer_blocks." in key for key in weights):
        raise ValueError("its blocks attend to tokens: a U-Net of latent diffusion, not an ADM")
    if out not in (3, 6):
        raise ValueError(f"it gives {out} channels, not 3, or 6 with the variance")
    section: dict[str, Any] = {
        "type": "unet",
        "channels": width,
        "out_channels": out,
        "channel_mult": multiples([width, *levels.widths], Path("U-Net"))[1:],
        "blocks": levels.blocks,
        "attention_levels": levels.attention_levels,
        "resample": "resblock" if levels.resblock else "conv",
        "scale_shift": embed_out == 2 * levels.widths[0],
        "norm_eps": 1e-5,
        "time_embed": "cos",
        "init_style": "adm",
        "down_padding": "both",
    }
    if release.head_channels is None:
        section["num_heads"] = release.num_heads
    else:
        section["head_channels"] = release.head_channels
    # Where the first level is narrower than what the widths are multiples of (ADM at 512 pixels).
    if (noise, embed) != (width, 4 * width):
        section |= {"noise_channels": noise, "embed_channels": embed}
    if "label_emb.weight" in weights:
        section |= {"num_classes": len(weights["label_emb.weight"]), "null_class": False}
    return section, channels
