"""GLIDE's networks in and out: OpenAI's `base.pt`, `upsample.pt` and their inpainting kin.

Such a file is a state dict alone, of a U-Net in the layout of ADM's and of the text transformer
that was trained with it. Which of the four networks it is, the channels that it is shown say: the
noisy image's three, three of a small image, three of a known image and its mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffjax.interop.files import read_tensors, write_tensors
from diffjax.interop.openai_unet import Release, infer_section, openai_table
from diffjax.interop.parts import Part, emptied, fill, flat_params, parameter_shapes, spec
from diffjax.interop.scheduler import Sampling
from diffjax.interop.sizes import axes_of, blamed_on, count_of
from diffjax.interop.tables import Row, layer, norm
from diffjax.models.conditioning import Conditioning

COLOURS = 3
# Of the text transformer; all other tensors are the U-Net's.
_TEXT = ("transformer.", "final_ln.", "token_embedding.", "positional_embedding",
         "padding_embedding")  # fmt: skip
_BLOCK = "transformer.resblocks"


@dataclass(frozen=True)
class GlideRelease:
    """Facts of a network that its file does not hold.

    Attributes:
      unet: of its U-Net.
      text_heads: of its text transformer.
      sampling: options of `make_recipe`; by default the notebooks' own.
    """

    unet: Release
    text_heads: int = 8
    sampling: Mapping[str, Any] | None = None


# The notebooks' ways: a hundred ancestral steps under guidance, 27 of DDIM without.
BASE = GlideRelease(
    Release(64, head_channels=64, schedule={"type": "cosine"}),
    sampling={"sampler": "ddpm", "spacing": "linspace", "steps": 100, "guidance": 3.0},
)
UPSAMPLER = GlideRelease(
    Release(256, head_channels=64, schedule={"type": "linear"}),
    sampling={"sampler": "ddim", "spacing": "fast27", "steps": 27},
)
# Known regions are drawn by ancestral steps in both.
_INPAINT = {"sampler": "ddpm"}


class GlideNetworks(NamedTuple):
    """A network of GLIDE.

    Attributes:
      unet: the U-Net, which takes the text's last token as `vector` and all as `context`; its fact
        is `sample_size` in pixels.
      text: the text transformer.
      sampling: schedule, prediction and recipe.
      low_res: whether it is shown a small image.
      inpaints: whether it is shown a known image and its mask.
    """

    unet: Part
    text: Part
    sampling: Sampling
    low_res: bool
    inpaints: bool


def load_glide(file: str | Path, release: GlideRelease | None = None) -> GlideNetworks:
    """The networks of a `.pt` (read without running what is in it), or of a safetensors of its
    tensors.

    Args:
      file: the path.
      release: what the file does not say, of a network of one's own; by default the published one's
        of its kind.

    Raises:
      ValueError: one line: a file that cannot be read, another architecture, tensors too many or
        too few.
    """
    file = Path(file)
    weights = read_tensors(file)
    with blamed_on(file):
        text = {key: value for key, value in weights.items() if key.startswith(_TEXT)}
        rest = {key: value for key, value in weights.items() if key not in text}
        if not text:
            raise ValueError("no network of GLIDE: it has no text transformer of its own")
        seen = axes_of(rest, "input_blocks.0.0.weight", 4)[1]
        low_res, inpaints = _kind(seen)
        published = UPSAMPLER if low_res else BASE
        own = release or published
        unet = _unet(rest, axes_of(text, "token_embedding.weight", 2)[1], own.unet)
        steps = own.sampling or published.sampling or {}
        said = _sampling(own.unet.schedule, {**steps, **(_INPAINT if inpaints else {})})
        return GlideNetworks(unet, _text(text, own.text_heads), said, low_res, inpaints)


def save_glide(file: str | Path, unet: Part, text: Part, release: GlideRelease) -> None:
    """Writes a safetensors of the tensors that `load_glide` reads, under OpenAI's names.

    Raises:
      ValueError: networks that are no GLIDE's, or variables that are not their own.
    """
    params, words = flat_params(unet), flat_params(text)
    if "vector/kernel" not in params or text.section.get("type") != "glide_text":
        raise ValueError("no networks of GLIDE: a U-Net of a text's vector, and a `glide_text`")
    channels, width = params["conv_in/kernel"].shape[2], params["vector/kernel"].shape[0]
    shapes = _unet_shapes(unet.section, channels, width)
    tensors = emptied(params, shapes, _unet_table(unet.section, shapes, release.unet))
    shapes = _text_shapes(text.section)
    heads = text.section.get("heads", release.text_heads)
    tensors |= emptied(words, shapes, _text_table(text.section["depth"], shapes, heads))
    write_tensors(Path(file), tensors)


def _kind(channels: int) -> tuple[bool, bool]:
    """(whether a small image, whether a known one and its mask) are among the channels seen."""
    for low_res in (False, True):
        for inpaints in (False, True):
            if channels == COLOURS * (1 + low_res + inpaints) + inpaints:
                return low_res, inpaints
    raise ValueError(f"it is shown {channels} channels, none of GLIDE's 3, 6, 7 or 10")


def _sampling(schedule: Mapping[str, Any], steps: Mapping[str, Any]) -> Sampling:
    recipe = {**steps, "offset": 0, "final": "clean", "clip": True}
    if recipe.get("sampler") == "ddpm":
        recipe["variance"] = "learned"
    return Sampling(dict(schedule), {"type": "eps"}, recipe)


def _unet(weights: Mapping[str, np.ndarray], width: int, release: Release) -> Part:
    section, channels = infer_section(weights, release)
    if section["out_channels"] != 2 * COLOURS:
        raise ValueError(f"it gives {section['out_channels']} channels, not 6 with the variance")
    section |= {"vector_dim": width, "cross_attention": True, "added_kv": True}
    shapes = _unet_shapes(section, channels, width)
    facts = {"sample_size": release.size}
    return fill(section, facts, weights, shapes, _unet_table(section, shapes, release))


def _unet_shapes(section: Mapping[str, Any], channels: int, width: int) -> dict[str, Any]:
    side = 2 ** (len(section["channel_mult"]) - 1)
    cond = Conditioning(vector=spec(1, width), context=spec(1, 1, width))  # type: ignore[arg-type]
    return parameter_shapes(section, spec(1, side, side, channels), spec(1), cond)


def _unet_table(
    section: Mapping[str, Any], shapes: Mapping[str, Any], release: Release
) -> list[Row]:
    rows = openai_table(section, shapes, release)
    return [*rows, *layer("vector", "transformer_proj", "dense")]


def _text(weights: Mapping[str, np.ndarray], heads: int) -> Part:
    vocab, width = axes_of(weights, "token_embedding.weight", 2)
    if width % heads:
        raise ValueError(f"a text transformer of {width} channels has no {heads} heads")
    section: dict[str, Any] = {
        "type": "glide_text",
        "vocab": vocab,
        "width": width,
        "depth": count_of(weights, _BLOCK),
        "heads": heads,
        "mlp_ratio": axes_of(weights, f"{_BLOCK}.0.mlp.c_fc.weight", 2)[0] / width,
        "context": axes_of(weights, "positional_embedding", 2)[0],
        # The last of GPT-2's vocabulary, which no text holds: what rows are filled up with.
        "end": vocab - 1 if "padding_embedding" in weights else None,
        "final_norm": "final_ln.weight" in weights,
    }
    shapes = _text_shapes(section)
    return fill(section, {}, weights, shapes, _text_table(section["depth"], shapes, heads))


def _text_shapes(section: Mapping[str, Any]) -> dict[str, Any]:
    return parameter_shapes(section, spec(1, section["context"], dtype="int32"))


def _text_table(depth: int, shapes: Mapping[str, Any], heads: int) -> list[Row]:
    rows = [
        Row("table", ("token_embedding.weight",), "table"),
        Row("positions", ("positional_embedding",), "table"),
    ]
    if "padding" in shapes:
        rows.append(Row("padding", ("padding_embedding",), "table"))
    if "norm_out/scale" in shapes:
        rows += norm("norm_out", "final_ln")
    for i in range(depth):
        rows += _block_rows(f"block_{i}", f"{_BLOCK}.{i}", heads)
    return rows


def _block_rows(ours: str, theirs: str, heads: int) -> Iterator[Row]:
    yield from norm(f"{ours}/norm1", f"{theirs}.ln_1")
    # A head's query, key and value after another's.
    fused = f"{theirs}.attn.c_qkv"
    yield Row(f"{ours}/attention/qkv/kernel", (f"{fused}.weight",), "fused_dense", heads)
    yield Row(f"{ours}/attention/qkv/bias", (f"{fused}.bias",), "fused_vector", heads)
    yield from layer(f"{ours}/attention/proj", f"{theirs}.attn.c_proj", "dense")
    yield from norm(f"{ours}/norm2", f"{theirs}.ln_2")
    yield from layer(f"{ours}/mlp/layer1", f"{theirs}.mlp.c_fc", "dense")
    yield from layer(f"{ours}/mlp/layer2", f"{theirs}.mlp.c_proj", "dense")
