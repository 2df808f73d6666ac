"""diffusers' scheduler_config.json as our schedule, prediction and sampling recipe, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from diffjax.choices import pick
from diffjax.interop.files import write_json
from diffjax.interop.parts import check_plain, read_config

BETAS = {
    "linear": "linear",
    "scaled_linear": "scaled_linear",
    "squaredcos_cap_v2": "cosine",
    "sigmoid": "sigmoid_beta",
}
PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
VARIANCES = {"fixed_small": "small", "fixed_large": "large", "learned_range": "learned"}
# Which keys every class reads here, and the values of others that change nothing.
_COMMON = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type",
           "timestep_spacing", "steps_offset", "rescale_betas_zero_snr")  # fmt: skip
_SIGMAS = ("use_karras_sigmas", "use_exponential_sigmas")
PLAIN: dict[str, tuple[Any, ...]] = {
    "trained_betas": (None,),
    "clip_sample_range": (1.0,),
    # Of thresholding, which is refused.
    "dynamic_thresholding_ratio": (0.995,),
    "sample_max_value": (1.0,),
    "tensor_format": ("pt", "np"),
    "interpolation_type": ("linear",),
    "timestep_type": ("discrete",),
    "final_sigmas_type": ("zero",),
    "solver_order": (2,),
    "solver_type": ("midpoint",),
    "lower_order_final": (True,),
    "lambda_min_clipped": (-float("inf"),),
    "flow_shift": (1.0,),
    "time_shift_type": ("exponential",),
}
_PNDM = ("skip_prk_steps", "set_alpha_to_one")
_DDIM = ("clip_sample", "set_alpha_to_one")
_DDPM = ("clip_sample", "variance_type")
# Class -> its own keys. Classes of one shape differ in their defaults: see `_defaults`.
CLASSES = {
    "PNDMScheduler": _PNDM,
    "DDIMScheduler": _DDIM,
    "DDPMScheduler": _DDPM,
    "EulerDiscreteScheduler": _SIGMAS,
    "HeunDiscreteScheduler": _SIGMAS,
    "DPMSolverMultistepScheduler": (*_SIGMAS, "algorithm_type"),
}
# Keys that Stable Diffusion's files hold whichever the class, because they are kept when it is
# changed; a class that does not know them does not read them.
_STRAY = frozenset(key for own in CLASSES.values() for key in own)
_SAMPLERS = {
    "EulerDiscreteScheduler": "euler",
    "HeunDiscreteScheduler": "heun",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
    "DDIMScheduler": "ddim",
    "DDPMScheduler": "ddpm",
}


class Sampling(NamedTuple):
    """How a released model is drawn from, as config sections.

    Attributes:
      schedule, prediction: `type` and its options, of `SCHEDULES` and `PREDICTIONS`.
      recipe: options of `make_recipe`, but for those that a user gives (steps, guidance).
    """

    schedule: dict[str, Any]
    prediction: dict[str, Any]
    recipe: dict[str, Any]


def read_scheduler(folder: str | Path) -> Sampling:
    """What scheduler_config.json in `folder` says.

    Raises:
      ValueError: no such file, or a scheduler or an option that we do not have.
    """
    file = Path(folder) / "scheduler_config.json"
    config = read_config(file, CLASSES)
    name = config["_class_name"]
    check_plain(config, file, {*_COMMON, *_STRAY}, PLAIN)
    c = {**_defaults(name), **config}
    kind = BETAS[pick(f"beta_schedule of {file}:", c["beta_schedule"], BETAS)]
    schedule: dict[str, Any] = {"type": kind, "steps": c["num_train_timesteps"]}
    if kind != "cosine":
        schedule |= {"beta_start": c["beta_start"], "beta_end": c["beta_end"]}
    if c["rescale_betas_zero_snr"]:
        schedule["zero_terminal_snr"] = True
    if c["num_train_timesteps"] != 1000:
        schedule["rescaled"] = False  # diffusers' networks are told t itself
    said = pick(f"prediction_type of {file}:", c["prediction_type"], PREDICTIONS)
    recipe = _recipe(name, c, file)
    return Sampling(schedule, {"type": PREDICTIONS[said]}, recipe)


def _defaults(name: str) -> dict[str, Any]:
    """What a class takes a missing key for."""
    heun = name == "HeunDiscreteScheduler"
    early = name in ("PNDMScheduler", "DDIMScheduler", "DDPMScheduler")
    return {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085 if heun else 0.0001,
        "beta_end": 0.012 if heun else 0.02,
        "beta_schedule": "linear",
        "prediction_type": "epsilon",
        "timestep_spacing": "leading" if early else "linspace",
        "steps_offset": 0,
        "rescale_betas_zero_snr": False,
        "skip_prk_steps": False,
        "set_alpha_to_one": name == "DDIMScheduler",
        "clip_sample": True,
        "variance_type": "fixed_small",
        "use_karras_sigmas": False,
        "use_exponential_sigmas": False,
        "algorithm_type": "dpmsolver++",
    }


def _recipe(name: str, c: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The sampler, its grid and its own options."""
    spacing = pick(
        f"timestep_spacing of {file}:", c["timestep_spacing"], ("leading", "trailing", "linspace")
    )
    recipe: dict[str, Any] = {"spacing": spacing, "offset": 0, "final": "clean"}
    if spacing == "leading":
        recipe["offset"] = c["steps_offset"]
    if name in ("PNDMScheduler", "DDIMScheduler") and not c["set_alpha_to_one"]:
        recipe["final"] = "first"
    if name == "PNDMScheduler":
        recipe["sampler"] = "plms" if c["skip_prk_steps"] else "pndm"
        recipe["extrapolate"] = "v" if c["prediction_type"] == "v_prediction" else "eps"
        return recipe
    recipe["sampler"] = _SAMPLERS[name]
    if name in ("DDIMScheduler", "DDPMScheduler"):
        # DDIM's noise is then that of the clipped image (theirs: use_clipped_model_output=True).
        recipe["clip"] = bool(c["clip_sample"])
    if name == "DDPMScheduler":
        said = pick(f"variance_type of {file}:", c["variance_type"], VARIANCES)
        recipe["variance"] = VARIANCES[said]
    if name == "DPMSolverMultistepScheduler":
        kinds = ("dpmsolver++", "sde-dpmsolver++")
        said = pick(f"algorithm_type of {file}:", c["algorithm_type"], kinds)
        recipe["stochastic"] = said == kinds[1]
        if spacing != "trailing":
            recipe["spacing"] = f"{spacing}_open"
    if name in _SAMPLERS and "use_karras_sigmas" in CLASSES[name]:
        for key, ours in (("use_karras_sigmas", "karras"), ("use_exponential_sigmas", "log_snr")):
            if c[key]:
                recipe |= {"spacing": ours, "offset": 0}
    return recipe


def write_scheduler(folder: str | Path, sampling: Sampling) -> None:
    """Writes scheduler_config.json for the scheduler's `from_pretrained`.

    Raises:
      ValueError: diffusers has no such schedule, prediction or recipe.
    """
    folder = Path(folder)
    schedule, recipe = sampling.schedule, sampling.recipe
    betas, predictions = ({b: a for a, b in d.items()} for d in (BETAS, PREDICTIONS))
    sampler, spacing = recipe["sampler"], recipe["spacing"]
    classes = {ours: name for name, ours in _SAMPLERS.items()}
    classes |= {"plms": "PNDMScheduler", "pndm": "PNDMScheduler"}
    name = classes[pick("sampler for diffusers:", sampler, classes)]
    ratios = spacing in ("karras", "log_snr")
    config: dict[str, Any] = {
        "_class_name": name,
        "num_train_timesteps": schedule.get("steps", 1000),
        "beta_schedule": betas[pick("schedule for diffusers:", schedule["type"], betas)],
        "prediction_type": predictions[
            pick("prediction for diffusers:", sampling.prediction["type"], predictions)
        ],
        "timestep_spacing": "linspace" if ratios else spacing.removesuffix("_open"),
        "steps_offset": recipe["offset"],
    }
    config |= {key: schedule[key] for key in ("beta_start", "beta_end") if key in schedule}
    if name not in ("PNDMScheduler", "HeunDiscreteScheduler"):
        config["rescale_betas_zero_snr"] = schedule.get("zero_terminal_snr", False)
    variances = {ours: theirs for theirs, ours in VARIANCES.items()}
    own = {
        "skip_prk_steps": sampler == "plms",
        "set_alpha_to_one": recipe["final"] == "clean",
        "clip_sample": recipe.get("clip", False),
        "variance_type": variances[recipe.get("variance", "small")],
        "use_karras_sigmas": spacing == "karras",
        "use_exponential_sigmas": spacing == "log_snr",
        "algorithm_type": f"{'sde-' if recipe.get('stochastic') else ''}dpmsolver++",
    }
    config |= {key: own[key] for key in CLASSES[name]}
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "scheduler_config.json"
    write_json(file, config)
    lost = {k: v for k, v in recipe.items() if read_scheduler(folder).recipe.get(k) != v}
    if schedule.get("steps", 1000) != 1000 and schedule.get("rescaled", True):
        lost["rescaled"] = True
    if lost:
        file.unlink()
        raise ValueError(f"diffusers' {name} has no place for {lost}")
