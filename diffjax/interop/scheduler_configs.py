"""Keys of diffusers' scheduler_config.json: who reads which, and what may stand there.

A class reads the keys that its constructor has and takes missing ones for its own defaults; what
another class wrote it leaves alone. Classes and defaults are those of diffusers 0.42.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# Far beyond any table that was trained on (4,000).
_LONGEST = 100_000
_COMMON: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "steps_offset": 0,
}
_THRESHOLD = {"thresholding": False, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0}
_BOUNDED = {"clip_sample": True, "clip_sample_range": 1.0, **_THRESHOLD}
_ZERO_SNR = {"rescale_betas_zero_snr": False}
_SIGMAS = {
    "timestep_spacing": "linspace",
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
}
# Class -> the keys that it reads, and what it takes each for where it is missing.
CLASSES: dict[str, dict[str, Any]] = {
    "PNDMScheduler": {**_COMMON, "skip_prk_steps": False, "set_alpha_to_one": False},
    "DDIMScheduler": {**_COMMON, **_BOUNDED, **_ZERO_SNR, "set_alpha_to_one": True},
    "DDPMScheduler": {**_COMMON, **_BOUNDED, **_ZERO_SNR, "variance_type": "fixed_small"},
    "EulerDiscreteScheduler": {
        **_COMMON, **_SIGMAS, **_ZERO_SNR, "interpolation_type": "linear", "sigma_min": None,
        "sigma_max": None, "timestep_type": "discrete", "final_sigmas_type": "zero",
    },
    "HeunDiscreteScheduler": {
        **_COMMON, **_SIGMAS, "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False,
        "clip_sample_range": 1.0,
    },
    "DPMSolverMultistepScheduler": {
        **_COMMON, **_SIGMAS, **_ZERO_SNR, **_THRESHOLD, "solver_order": 2,
        "algorithm_type": "dpmsolver++", "solver_type": "midpoint", "lower_order_final": True,
        "euler_at_final": False, "use_lu_lambdas": False, "use_flow_sigmas": False,
        "flow_shift": 1.0, "final_sigmas_type": "zero", "lambda_min_clipped": -math.inf,
        "variance_type": None, "use_dynamic_shifting": False, "time_shift_type": "exponential",
    },
}  # fmt: skip
# Keys of classes that we do not have, kept in files that were theirs once, and of old versions.
_STRAY = ("predict_x0", "solver_p", "shift_terminal", "disable_corrector", "sigma_schedule", "rho",
          "sigma_data", "tensor_format")  # fmt: skip
# Keys that change what is drawn and are read here; others must be what the class takes them for,
# but for those that are read only along with one that we do not have.
_READ = frozenset(_COMMON) - {"trained_betas"} | {
    "skip_prk_steps", "set_alpha_to_one", "clip_sample", "rescale_betas_zero_snr", "variance_type",
    "use_karras_sigmas", "use_exponential_sigmas", "algorithm_type", "final_sigmas_type",
}  # fmt: skip
_IDLE = {"dynamic_thresholding_ratio", "sample_max_value", "flow_shift", "time_shift_type"}
# Names of other classes' solvers that DPM-Solver reads as its own.
_SOLVERS = {"logrho": "midpoint", "bh1": "midpoint", "bh2": "midpoint", "deis": "dpmsolver++"}
# Key -> the spacing that it asks for.
SPACED = {"use_karras_sigmas": "karras", "use_exponential_sigmas": "log_snr"}
# Key -> the least and the greatest number that it may be.
_RANGES = {
    "num_train_timesteps": (1, _LONGEST),
    "steps_offset": (0, _LONGEST),
    "beta_start": (1e-12, 1 - 1e-12),
    "beta_end": (1e-12, 1 - 1e-12),
}


def check_known(said: Mapping[str, Any], where: str) -> None:
    """Refuses keys that no class has: they may change what is drawn."""
    known = {*_STRAY, *(key for keys in CLASSES.values() for key in keys)}
    for key, value in said.items():
        if not (key.startswith("_") or key in known or value is None or value is False):
            raise ValueError(f"{where}: {key}={value!r} is not supported")


def settings(
    name: str, said: Mapping[str, Any], forced: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """The class's keys, each of its own kind, and no option that we do not have."""
    own = CLASSES[name]
    c = {**own, **{k: v for k, v in {**said, **forced}.items() if k in own}}
    for key, value in c.items():
        _check_kind(key, value, own[key], where)
    c |= {k: _SOLVERS.get(c[k], c[k]) for k in ("solver_type", "algorithm_type") if k in c}
    idle = _IDLE | (set() if c.get("clip_sample") else {"clip_sample_range"})
    spaced = any(c.get(key) for key in SPACED)
    if c["prediction_type"] != "v_prediction":
        idle |= {"timestep_type"}
    for key, value in c.items():
        if key not in _READ | idle | {"sigma_min", "sigma_max"} and (value or None) != (
            own[key] or None
        ):
            raise ValueError(f"{where}: {key}={value!r} is not supported")
    # Classes that do not have these keys read them all the same.
    for key in ("sigma_min", "sigma_max"):
        if spaced and said.get(key) is not None:
            raise ValueError(f"{where}: {key}={said[key]!r} is not supported")
    return c


def _check_kind(key: str, value: Any, default: Any, where: str) -> None:
    """Refuses a value of another kind than the key's, or out of its range."""
    if value is None or default is None:
        fits = default is None or isinstance(default, bool)
    elif isinstance(default, bool | str):
        fits = isinstance(value, type(default))
    else:
        kinds = int if isinstance(default, int) else int | float
        fits = isinstance(value, kinds) and not isinstance(value, bool) and value == value
    least, most = _RANGES.get(key, (-math.inf, math.inf))
    if not fits or (key in _RANGES and not least <= value <= most):
        between = f" from {least} to {most}" if key in _RANGES else ""
        raise ValueError(
            f"{where}: {key}={value!r} must be of kind {type(default).__name__}{between}"
        )
