"""Stable Diffusion 1 and 2 in and out, as one file in CompVis's and Stability's layout.

`model.diffusion_model.` is the U-Net, `first_stage_model.` the autoencoder, and `cond_stage_model.`
the text tower: transformers' in version 1, OpenCLIP's in version 2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from diffjax.interop.autoencoder import (
    autoencoder_params,
    autoencoder_shapes,
    infer_autoencoder,
)
from diffjax.interop.autoencoder_tables import original_table as autoencoder_table
from diffjax.interop.clip_shapes import huggingface_text as huggingface_sizes
from diffjax.interop.clip_shapes import openai_text as openai_sizes
from diffjax.interop.clip_tables import IGNORED, huggingface_text, openai_text
from diffjax.interop.files import read_tensors, write_tensors
from diffjax.interop.parts import Part, emptied, fill, flat_params, multiples
from diffjax.interop.scheduler import PREDICTIONS, Sampling, sampling_of
from diffjax.interop.sizes import blamed_on
from diffjax.interop.stable_diffusion import StableDiffusion
from diffjax.interop.text_tower import text_shapes, text_table
from diffjax.interop.unet import projection, unet_shapes
from diffjax.interop.unet_tables import original_levels
from diffjax.interop.unet_tables import original_table as unet_table

Weights = Mapping[str, np.ndarray]
# The scheduler_config.json of version 1.5's released folder.
_SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "trained_betas": None,
    "skip_prk_steps": True,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "clip_sample": False,
}
UNET, VAE, EMA = "model.diffusion_model.", "first_stage_model.", "model_ema."
TEXT_1, TEXT_2 = "cond_stage_model.transformer.", "cond_stage_model.model."
# Tables that follow from the schedule, and counters of training.
_BUFFERS = re.compile(
    r"^(betas|alphas_cumprod(_prev)?|(sqrt|log)_(recip(m1)?_|one_minus_)?alphas_cumprod"
    r"|posterior_\w+|logvar|lvlb_weights|model_ema\.(decay|num_updates))$"
)


def load_original(
    file: str | Path, prediction: Literal["eps", "v"] | None = None, ema: bool = False
) -> StableDiffusion:
    """A `.safetensors` or `.ckpt`; the second is a pickle, read without running what is in it.

    Sizes are read off the shapes. What these cannot say is the published models': eight heads and
    QuickGELU in version 1; 64 channels per head, GELU and the last block skipped in version 2;
    PNDM's recipe on 1,000 levels.

    Args:
      file: the path.
      prediction: what the U-Net says. By default eps in version 1; of version 2 there are both
        ("v" at 768 pixels, "eps" in the base models at 512), so it must be given.
      ema: read the averaged weights of the U-Net, where the file has them.

    Raises:
      ValueError: one line: the file cannot be read, is of another architecture, or holds tensors
        too many or too few.
    """
    file = Path(file)
    weights = read_tensors(file)
    with blamed_on(file):
        parts = _split(weights, ema)
        second = bool(parts[TEXT_2])
        if second and prediction is None:
            raise ValueError(
                "a Stable Diffusion 2 does not say what it predicts: give prediction='v' (768 "
                "pixels) or 'eps' (base, 512 pixels)"
            )
        # The shortest decimal that is the same in float32, as folders have it.
        scale = float(str(np.float32(weights.get("scale_factor", 0.18215))))
        if not math.isfinite(scale) or not scale:
            raise ValueError(f"scale_factor={scale} is no scale of latents")
        return StableDiffusion(
            unet=_unet(parts[UNET]),
            vae=_autoencoder(parts[VAE], scale),
            text=_text_2(parts[TEXT_2]) if second else _text_1(parts[TEXT_1]),
            sampling=_sampling(prediction or "eps"),
            # A tower without its projection was cut for a folder, its last block with it.
            skip=int(second and "text_projection" in parts[TEXT_2]),
        )


def save_original(file: str | Path, model: StableDiffusion) -> None:
    """Writes a `.safetensors` in the original layout.

    A text tower with GELU is written as version 2's, one with QuickGELU as version 1's.

    Raises:
      ValueError: a part that the layout has no place for.
    """
    file = Path(file)
    if file.suffix != ".safetensors":
        raise ValueError(f"{file}: only safetensors are written, so name it *.safetensors")
    params, section = flat_params(model.unet), model.unet.section
    shapes = unet_shapes(section, params, "conv_in/kernel", "cross/key/kernel")
    proj = projection(model.unet.facts)
    table = unet_table(tuple(section["channel_mult"]), section["blocks"], shapes, proj)
    state = _under(UNET, emptied(params, shapes, table))

    section = model.vae.section
    shapes = autoencoder_shapes(section)
    table = autoencoder_table(len(section["channel_mult"]), section["blocks"], shapes)
    state |= _under(VAE, emptied(autoencoder_params(model.vae), shapes, table))
    state["scale_factor"] = np.asarray(section.get("scale", 0.18215), np.float32)

    section, params = model.text.section, flat_params(model.text)
    shapes = text_shapes(section, "project/kernel" in params)
    if section["activation"] == "gelu":
        rows = text_table(openai_text, shapes, "")
        state |= _under(TEXT_2, emptied(params, shapes, rows))
        if "logit_scale" in model.text.facts:
            state[f"{TEXT_2}logit_scale"] = np.asarray(model.text.facts["logit_scale"], np.float32)
    else:
        params = {k: v for k, v in params.items() if not k.startswith("project/")}
        shapes = text_shapes(section, False)
        rows = text_table(huggingface_text, shapes)
        state |= _under(TEXT_1, emptied(params, shapes, rows))
    write_tensors(file, state)


def _under(prefix: str, state: Weights) -> dict[str, np.ndarray]:
    return {f"{prefix}{key}": value for key, value in state.items()}


def _split(weights: Weights, ema: bool) -> dict[str, dict[str, np.ndarray]]:
    """The tensors by prefix, without it; every one is accounted for."""
    parts: dict[str, dict[str, np.ndarray]] = {p: {} for p in (UNET, VAE, TEXT_1, TEXT_2, EMA)}
    other = []
    for key, value in weights.items():
        prefix = next((p for p in parts if key.startswith(p)), None)
        if prefix and not _BUFFERS.match(key) and not IGNORED.search(key):
            parts[prefix][key.removeprefix(prefix)] = value
        elif not (prefix or _BUFFERS.match(key) or key == "scale_factor"):
            other.append(key)
    if not parts[UNET] or not parts[VAE] or bool(parts[TEXT_1]) == bool(parts[TEXT_2]):
        raise ValueError(
            "no Stable Diffusion 1 or 2: it must hold model.diffusion_model., first_stage_model. "
            f"and one cond_stage_model., but holds {', '.join(sorted(weights)[:3])}, ..."
        )
    if other:
        raise ValueError(f"unexpected tensors {sorted(other)[:3]} ({len(other)} in all)")
    if ema:
        # Their names have lost their dots.
        names = {key: f"diffusion_model.{key}".replace(".", "") for key in parts[UNET]}
        lacking = [key for key, name in names.items() if name not in parts[EMA]]
        if lacking:
            raise ValueError(f"it has no averaged weights of {lacking[:3]}: give ema=False")
        parts[UNET] = {key: parts[EMA][name] for key, name in names.items()}
    return parts


def _unet(weights: Weights) -> Part:
    section, linear = infer_unet(weights)
    facts = {"use_linear_projection": linear}
    shapes = unet_shapes(section, weights, "input_blocks.0.0.weight", "attn2.to_k.weight")
    table = unet_table(section["channel_mult"], section["blocks"], shapes, projection(facts))
    return fill(section, facts, weights, shapes, table)


def infer_unet(weights: Weights) -> tuple[dict[str, Any], bool]:
    """The section of a U-Net in the original layout, and whether its projections are dense.

    Raises:
      ValueError: tensors that say a size are missing.
    """
    levels = original_levels(weights)
    try:
        channels = weights["input_blocks.0.0.weight"].shape[0]
        proj = weights["middle_block.1.proj_in.weight"]
        section: dict[str, Any] = {
            "type": "unet",
            "channels": channels,
            "out_channels": weights["out.2.weight"].shape[0],
            "channel_mult": multiples([channels, *levels.widths], Path("U-Net"))[1:],
            "blocks": levels.blocks,
            "attention_levels": levels.attention_levels,
            "transformer_depth": sum(
                f"middle_block.1.transformer_blocks.{k}.norm1.weight" in weights for k in range(99)
            ),
        }
    except (KeyError, IndexError) as error:
        raise ValueError(f"no U-Net of Stable Diffusion: {error} is not there") from error
    linear = proj.ndim == 2
    return {
        **section,
        **({"head_channels": 64} if linear else {"num_heads": 8}),
        "norm_eps": 1e-5,
        "time_embed": "cos",
        "down_padding": "both",
        "cross_attention": True,
        "init_style": "adm",
    }, linear


def _autoencoder(weights: Weights, scale: float) -> Part:
    section = {**infer_autoencoder(weights), "scale": scale}
    shapes = autoencoder_shapes(section)
    table = autoencoder_table(len(section["channel_mult"]), section["blocks"], shapes)
    return fill(section, {}, weights, shapes, table)


def _text_1(weights: Weights) -> Part:
    sizes = huggingface_sizes(weights)
    section = {"type": "text", "embed": sizes["width"], **sizes, "activation": "quick_gelu"}
    shapes = text_shapes(section, whole=False)
    return fill(section, {}, weights, shapes, text_table(huggingface_text, shapes))


def _text_2(weights: Weights) -> Part:
    weights = dict(weights)
    scale = weights.pop("logit_scale", None)
    facts = {} if scale is None else {"logit_scale": float(scale)}
    sizes, whole = openai_sizes(weights, ""), "text_projection" in weights
    embed = weights["text_projection"].shape[-1] if whole else sizes["width"]
    section = {"type": "text", "embed": embed, **sizes, "activation": "gelu"}
    shapes = text_shapes(section, whole)
    return fill(section, facts, weights, shapes, text_table(openai_text, shapes, ""))


def _sampling(prediction: str) -> Sampling:
    """As the released folders have it."""
    theirs = {ours: name for name, ours in PREDICTIONS.items()}
    return sampling_of({**_SCHEDULER, "prediction_type": theirs[prediction]})
