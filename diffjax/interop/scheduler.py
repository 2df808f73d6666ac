"""diffusers' scheduler_config.json as our schedule, prediction and sampling recipe, and back.

A file says how each of our samplers draws, whichever class it is of: as the class of diffusers'
that the sampler is would, made by its `from_config`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from diffjax.choices import pick
from diffjax.interop.files import write_json
from diffjax.interop.parts import read_config
from diffjax.interop.scheduler_configs import CLASSES, SPACED, check_known, settings

FILE = "scheduler_config.json"
BETAS = {
    "linear": "linear",
    "scaled_linear": "scaled_linear",
    "squaredcos_cap_v2": "cosine",
    "sigmoid": "sigmoid_beta",
}
PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
VARIANCES = {
    "fixed_small": "small",
    "fixed_small_log": "small",  # the same numbers by way of their logarithms
    "fixed_large": "large",
    "learned_range": "learned",
}
# Sampler -> its class.
SAMPLERS = {
    "euler": "EulerDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "ode": "HeunDiscreteScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "plms": "PNDMScheduler",
    "pndm": "PNDMScheduler",
}
# What of a model's recipe its scheduler does not say.
_BESIDE = ("steps", "guidance")


class Sampling(NamedTuple):
    """Schedule and sampler of a released model, as config sections; equal where these are.

    Attributes:
      schedule, prediction: `type` and its options, of `SCHEDULES` and `PREDICTIONS`.
      recipe: options of `make_recipe`, but for those that a user gives (steps, guidance).
      said: the scheduler_config.json that they are of; empty where there was none.
      forced: keys that the pipeline sets, whatever the file says.
    """

    schedule: dict[str, Any]
    prediction: dict[str, Any]
    recipe: dict[str, Any]
    said: Mapping[str, Any] = {}
    forced: Mapping[str, Any] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sampling) and tuple(self[:3]) == tuple(other[:3])

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]  (it holds dicts)


def read_scheduler(folder: str | Path, forced: Mapping[str, Any] | None = None) -> Sampling:
    """The schedule and sampler of scheduler_config.json in `folder`.

    Args:
      folder: of the scheduler.
      forced: keys that the model's pipeline sets, whatever the file says.

    Raises:
      ValueError: no such file, or a scheduler or an option that we do not have.
    """
    file = Path(folder) / FILE
    return sampling_of(read_config(file, CLASSES), forced or {}, str(file))


def sampling_of(
    said: Mapping[str, Any], forced: Mapping[str, Any] | None = None, where: str = FILE
) -> Sampling:
    """The schedule and sampler of a scheduler's config; arguments and errors as `read_scheduler`,
    the file's name being `where`."""
    forced = forced or {}
    name = said["_class_name"]
    check_known(said, where)
    c = settings(name, said, forced, where)
    kind = BETAS[pick(f"beta_schedule of {where}:", c["beta_schedule"], BETAS)]
    schedule: dict[str, Any] = {"type": kind, "steps": c["num_train_timesteps"]}
    if kind != "cosine":
        schedule |= {"beta_start": c["beta_start"], "beta_end": c["beta_end"]}
    if c.get("rescale_betas_zero_snr"):
        schedule["zero_terminal_snr"] = True
    if c["num_train_timesteps"] != 1000:
        schedule["rescaled"] = False  # diffusers' networks are told t itself
    prediction = pick(f"prediction_type of {where}:", c["prediction_type"], PREDICTIONS)
    recipe = _recipe(name, c, "zero_terminal_snr" in schedule, where)
    return Sampling(schedule, {"type": PREDICTIONS[prediction]}, recipe, said, forced)


def recipe_of(sampling: Sampling, sampler: str) -> dict[str, Any]:
    """The recipe of any of our samplers on a model that came with a scheduler: what the sampler's
    class of diffusers' makes of the file, by `from_config`.

    The noise schedule stays the network's: classes that do not know rescale_betas_zero_snr, or
    that take missing betas for others, would leave the table that it was trained on.

    Raises:
      ValueError: an option of the file that the class reads and we do not have.
    """
    name = SAMPLERS[pick("sampler", sampler, SAMPLERS)]
    said, forced = {**sampling.said, "_class_name": name}, dict(sampling.forced)
    if name == "PNDMScheduler":
        forced["skip_prk_steps"] = sampler == "plms"
    where = f"{FILE}, read for sampler={sampler!r}"
    c = settings(name, said, forced, where)
    zero = "zero_terminal_snr" in sampling.schedule
    return {**_recipe(name, c, zero, where), "sampler": sampler}


def own_recipe(
    sampling: Sampling, own: Mapping[str, Any], sampler: str | None
) -> Mapping[str, Any]:
    """The recipe of a released model for the sampler that a user chose: the model's `own`, or what
    another sampler reads from the model's file, if it came with one, and what goes beside that.

    Raises:
      ValueError: see `recipe_of`.
    """
    if not sampling.said or sampler in (None, own["sampler"]) or sampler not in SAMPLERS:
        return own
    return {**recipe_of(sampling, str(sampler)), **{k: own[k] for k in _BESIDE if k in own}}


def _recipe(name: str, c: Mapping[str, Any], zero: bool, where: str) -> dict[str, Any]:
    """The sampler, its grid and its own options, of a class's settings; `zero`: the last level of
    the network's table holds no signal."""
    spacing = pick(
        f"timestep_spacing of {where}:", c["timestep_spacing"], ("leading", "trailing", "linspace")
    )
    first = name in ("DDIMScheduler", "DDPMScheduler", "PNDMScheduler") and spacing != "leading"
    if zero and first and c["prediction_type"] == "epsilon":
        raise ValueError(
            f"{where}: rescale_betas_zero_snr with timestep_spacing={spacing!r} begins where "
            "nothing of the image is left, and prediction_type='epsilon' says no image there"
        )
    ends = pick(
        f"final_sigmas_type of {where}:", c.get("final_sigmas_type", "zero"), ("zero", "sigma_min")
    )
    clean = c.get("set_alpha_to_one", ends == "zero")
    recipe: dict[str, Any] = {
        "sampler": {kind: ours for ours, kind in SAMPLERS.items() if ours != "ode"}[name],
        "scheduler": name,
        "spacing": spacing,
        "offset": c["steps_offset"],
        "final": "clean" if clean else "first",
    }
    if name == "PNDMScheduler":
        recipe["sampler"] = "plms" if c["skip_prk_steps"] else "pndm"
        recipe["extrapolate"] = "v" if c["prediction_type"] == "v_prediction" else "eps"
    if "clip_sample" in c:
        # DDIM's noise is then that of the clipped image (theirs: use_clipped_model_output=True).
        recipe["clip"] = bool(c["clip_sample"])
    if name == "DDPMScheduler":
        said = pick(f"variance_type of {where}:", c["variance_type"], VARIANCES)
        recipe["variance"] = VARIANCES[said]
    if name == "DPMSolverMultistepScheduler":
        kinds = ("dpmsolver++", "sde-dpmsolver++")
        said = pick(f"algorithm_type of {where}:", c["algorithm_type"], kinds)
        recipe["stochastic"] = said == kinds[1]
    spaced = [ours for key, ours in SPACED.items() if c.get(key)]
    if len(spaced) > 1:
        raise ValueError(f"{where}: {' and '.join(SPACED)} exclude each other")
    return recipe | ({"spacing": spaced[0], "between": spacing} if spaced else {})


def write_scheduler(folder: str | Path, sampling: Sampling) -> None:
    """Writes scheduler_config.json for the scheduler's `from_pretrained`: what the model's own file
    said, unless something else is drawn now.

    Raises:
      ValueError: diffusers has no such schedule, prediction or recipe.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / FILE
    if sampling.said and sampling_of(sampling.said, sampling.forced) == sampling:
        write_json(file, dict(sampling.said))
        return
    config = _config(sampling)
    write_json(file, config)
    schedule, recipe = sampling.schedule, sampling.recipe
    again = read_scheduler(folder).recipe
    lost = {k: v for k, v in recipe.items() if again.get(k) != v}
    if lost.get("spacing") in ("leading_open", "linspace_open"):
        del lost["spacing"]  # DPM-Solver's own, which theirs are by another name
    if schedule.get("steps", 1000) != 1000 and schedule.get("rescaled", True):
        lost["rescaled"] = True
    if lost:
        file.unlink()
        raise ValueError(f"diffusers' {config['_class_name']} has no place for {lost}")


def _config(sampling: Sampling) -> dict[str, Any]:
    """A scheduler_config.json that says the same."""
    schedule, recipe = sampling.schedule, sampling.recipe
    betas = {ours: theirs for theirs, ours in BETAS.items()}
    predictions = {ours: theirs for theirs, ours in PREDICTIONS.items()}
    variances = {"small": "fixed_small", "large": "fixed_large", "learned": "learned_range"}
    classes = {ours: kind for ours, kind in SAMPLERS.items() if ours != "ode"}
    sampler, spacing = recipe["sampler"], recipe["spacing"]
    name = classes[pick("sampler for diffusers:", sampler, classes)]
    beta = pick("schedule for diffusers:", schedule["type"], betas)
    prediction = pick("prediction for diffusers:", sampling.prediction["type"], predictions)
    spaced = spacing in SPACED.values()
    config: dict[str, Any] = {
        "num_train_timesteps": schedule.get("steps", 1000),
        "beta_schedule": betas[beta],
        "prediction_type": predictions[prediction],
        "timestep_spacing": recipe.get("between", "linspace") if spaced
        else spacing.removesuffix("_open"),
        "steps_offset": recipe["offset"],
        "rescale_betas_zero_snr": schedule.get("zero_terminal_snr", False),
        "skip_prk_steps": sampler == "plms",
        "set_alpha_to_one": recipe["final"] == "clean",
        "final_sigmas_type": "zero" if recipe["final"] == "clean" else "sigma_min",
        "clip_sample": recipe.get("clip", False),
        "algorithm_type": f"{'sde-' if recipe.get('stochastic') else ''}dpmsolver++",
        **{key: spacing == ours for key, ours in SPACED.items()},
    }  # fmt: skip
    if name == "DDPMScheduler":
        config["variance_type"] = variances[recipe.get("variance", "small")]
    config |= {key: schedule[key] for key in ("beta_start", "beta_end") if key in schedule}
    own = {key: value for key, value in config.items() if key in CLASSES[name]}
    return {"_class_name": name, **own}
