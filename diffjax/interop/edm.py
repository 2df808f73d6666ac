"""EDM's networks in: a safetensors of the state dict of an `EDMPrecond` (Karras et al. 2022).

NVIDIA's own files are pickles that hold source code and run it when they are loaded: they are
refused, with the line that turns one into safetensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.interop.edm_tables import edm_table
from diffjax.interop.fields import SIDE
from diffjax.interop.files import read_tensors
from diffjax.interop.parts import Part, fill, multiples, parameter_shapes, spec
from diffjax.interop.scheduler import Sampling
from diffjax.interop.sizes import axes_of, blamed_on
from diffjax.interop.tables import check_finite
from diffjax.models.conditioning import Conditioning

CONVERT = (
    'in a checkout of EDM run: python -c "import pickle, safetensors.torch as s; '
    "n = pickle.load(open('{0}', 'rb'))['ema']; "
    "s.save_file({{k: v.contiguous() for k, v in n.state_dict().items()}}, '{0}.safetensors')\""
)
_FILTER = re.compile(r"\.resample_filter$")
_TAPS = ((1, 1), (1, 3, 3, 1))
_FIRST = re.compile(r"enc\.(\d+)x\d+_conv\.weight$")


def load_edm(file: str | Path) -> Part:
    """The network of an `EDMPrecond`: a SongUNet (DDPM++, NCSN++) or a DhariwalUNet (ADM).

    All sizes are read off the keys and shapes, heads are the code's: one in the first, 64 channels
    each in the second. Its fact: `sample_size` in pixels.

    Raises:
      ValueError: one line: a pickle, a file that cannot be read, another architecture or
        preconditioning, tensors too many or too few.
    """
    file = Path(file)
    _refuse_pickle(file)
    weights = read_tensors(file)
    with blamed_on(file):
        if "u" in weights:
            raise ValueError("it holds iDDPM's preconditioning, not EDM's; only EDM's is known")
        if not all(key.startswith("model.") for key in weights):
            raise ValueError(
                "no EDMPrecond, whose keys begin with model.; it holds "
                f"{', '.join(sorted(weights)[:3])}"
            )
        weights = {key.removeprefix("model."): value for key, value in weights.items()}
        section, size, channels = _infer(weights)
        frequencies = weights.pop("map_noise.freqs", None)
        if frequencies is not None:
            check_finite("map_noise.freqs", np.asarray(frequencies, np.float64), "the file's")
            section["frequencies"] = tuple(np.asarray(frequencies, np.float64).tolist())
        weights = {k: v for k, v in weights.items() if not _FILTER.search(k)}
        shapes = _shapes(section, size, channels)
        return fill(
            section, {"sample_size": size}, weights, shapes, edm_table(section, size, shapes)
        )


def edm_sampling(part: Part) -> tuple[Sampling, int]:
    """The paper's sampling, and its steps (Table 1 and appendix E): 18 deterministic steps at 32
    pixels, 40 at 64, and 256 stochastic ones of its ADM on ImageNet at 64."""
    recipe: dict[str, Any] = {"sampler": "heun", "spacing": "karras"}
    steps = 18 if part.facts["sample_size"] <= 32 else 40
    if part.section["label_to"] == "embedding":
        recipe |= {"churn": 40.0, "churn_min": 0.05, "churn_max": 50.0, "churn_noise": 1.003}
        steps = 256
    return Sampling({"type": "edm"}, {"type": "edm", "sigma_data": 0.5}, recipe), steps


def _refuse_pickle(file: Path) -> None:
    try:
        with open(file, "rb") as opened:
            head = opened.read(2)
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error
    if head[:1] == b"\x80" or file.suffix == ".pkl":
        raise ValueError(
            f"{file} is a pickle, which would run code when it is loaded, so it is refused; to "
            f"convert one that you trust, {CONVERT.format(file.name)}"
        )


def _shapes(section: Mapping[str, Any], size: int, channels: int) -> dict[str, Any]:
    label = spec(1, dtype="int32") if section["num_classes"] else None
    return parameter_shapes(section, spec(1, size, size, channels), spec(1), Conditioning(label))  # type: ignore[arg-type]


def _infer(weights: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], int, int]:
    """The `model` section without its frequencies, the size and the channels of the images."""
    sizes = [int(m[1]) for m in map(_FIRST.match, weights) if m]
    if len(sizes) != 1 or "map_layer0.weight" not in weights:
        raise ValueError(f"no network of EDM; it holds {', '.join(sorted(weights)[:3])}")
    size = sizes[0]
    if not SIDE.fits(size):
        raise ValueError(f"the side of its images must be {SIDE.said}")
    width, channels = axes_of(weights, f"enc.{size}x{size}_conv.weight", 4)[:2]
    embed, noise = axes_of(weights, "map_layer0.weight", 2)
    widths, attends, blocks = [], [], 0
    while True:
        side = size >> len(widths)
        place = f"enc.{side}x{side}_block"
        if not side or f"{place}0.conv1.weight" not in weights:
            break
        widths.append(axes_of(weights, f"{place}0.conv1.weight", 4)[0])
        attends.append(f"{place}0.qkv.weight" in weights)
        blocks = sum(f"{place}{i}.conv1.weight" in weights for i in range(99))
    section: dict[str, Any] = {
        "type": "unet",
        "channels": width,
        "out_channels": channels,
        "channel_mult": multiples([width, *widths], Path("U-Net"))[1:],
        "blocks": blocks,
        "attention_levels": tuple(i for i, one in enumerate(attends) if one),
        "resample": "resblock",
        "noise_channels": noise,
        "embed_channels": embed,
        "norm_min_channels": 4,
        "null_class": False,
        "num_classes": 0,
        "augment_dim": 0,
    }
    if "map_label.weight" in weights:
        section["num_classes"] = weights["map_label.weight"].shape[1]
    if "map_augment.weight" in weights:
        section["augment_dim"] = weights["map_augment.weight"].shape[1]
    song = f"dec.{size}x{size}_aux_conv.weight" in weights
    return section | (_song(weights) if song else _DHARIWAL), size, channels


_DHARIWAL = {
    "head_channels": 64,
    "scale_shift": True,
    "norm_eps": 1e-5,
    "time_embed": "cos",
    "label_to": "embedding",
    "init_style": "adm",
}


def _song(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Settings of a SongUNet alone."""
    return {
        "num_heads": 1,
        "decoder_attention": "last",
        "resample_taps": _taps(weights),
        "residual_input": any("_aux_residual." in key for key in weights),
        "project_resampled": True,
        "skip_scale": 0.5**0.5,
        "norm_eps": 1e-6,
        "time_embed": "fourier" if "map_noise.freqs" in weights else "sin_endpoint",
        "label_to": "noise",
        "init_style": "song",
    }


def _taps(weights: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    """The filter that all its resampling uses."""
    held = [np.asarray(v, np.float64) for k, v in weights.items() if _FILTER.search(k)]
    for taps in _TAPS:
        f = np.outer(taps, taps) / sum(taps) ** 2
        if all(one.shape[-2:] == f.shape and np.abs(one - f).max() < 1e-6 for one in held):
            return taps
    raise ValueError(f"its resampling filter is none of {', '.join(map(str, _TAPS))}")
