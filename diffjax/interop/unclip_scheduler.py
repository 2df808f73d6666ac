"""diffusers' `UnCLIPScheduler`, Karlo's own of each of its stages, as our sections and back.

It is ancestral sampling on whole times from the table's last to its first, evenly spaced: what
`DDPMScheduler` does under `timestep_spacing="linspace"`, by other names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffjax.interop.fields import COUNT, FLAG, check_fields, one_of, real
from diffjax.interop.files import write_json
from diffjax.interop.parts import check_plain, read_config
from diffjax.interop.scheduler import FILE, PREDICTIONS, Sampling

CLASS = "UnCLIPScheduler"
_VARIANCES = {"fixed_small_log": "small", "learned_range": "learned"}
_PREDICTIONS = ("epsilon", "sample")
_BETAS = "squaredcos_cap_v2"
READ = {
    "num_train_timesteps": COUNT,
    "variance_type": one_of(*_VARIANCES),
    "clip_sample": FLAG,
    "clip_sample_range": real(1e-6, 1e6),
    "prediction_type": one_of(*_PREDICTIONS),
    "beta_schedule": one_of(_BETAS),
}
_GRID = {"scheduler": "DDPMScheduler", "spacing": "linspace", "offset": 0, "final": "clean"}


def read_unclip_scheduler(folder: str | Path) -> Sampling:
    """The schedule, prediction and recipe of scheduler_config.json in `folder`.

    Raises:
      ValueError: no such file, another class's, or an option that we do not have.
    """
    file = Path(folder) / FILE
    return _sampling(read_config(file, (CLASS,)), file)


def write_unclip_scheduler(folder: str | Path, sampling: Sampling) -> None:
    """Writes scheduler_config.json for `UnCLIPScheduler.from_pretrained`.

    Raises:
      ValueError: it has no such schedule, prediction or recipe.
    """
    file = Path(folder) / FILE
    config = _config(sampling)
    for ours, theirs in zip(sampling[:3], _sampling(config, file)[:3], strict=True):
        lost = {k: v for k, v in ours.items() if theirs.get(k) != v}
        if lost:
            raise ValueError(f"diffusers' {CLASS} has no place for {lost}")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, config)


def _sampling(said: Mapping[str, Any], file: Path) -> Sampling:
    check_plain(said, file, READ, {})
    check_fields(said, file, READ)
    steps = said.get("num_train_timesteps", 1000)
    schedule: dict[str, Any] = {"type": "cosine", "steps": steps}
    if steps != 1000:
        schedule["rescaled"] = False  # diffusers' networks are told t itself
    recipe: dict[str, Any] = {
        "sampler": "ddpm",
        **_GRID,
        "variance": _VARIANCES[said.get("variance_type", "fixed_small_log")],
        "clip": said.get("clip_sample", True),
    }
    if recipe["clip"] and said.get("clip_sample_range", 1.0) != 1.0:
        recipe["clip_range"] = said["clip_sample_range"]
    prediction = PREDICTIONS[said.get("prediction_type", "epsilon")]
    return Sampling(schedule, {"type": prediction}, recipe, said)


def _config(sampling: Sampling) -> dict[str, Any]:
    schedule, recipe = sampling.schedule, sampling.recipe
    variances = {ours: theirs for theirs, ours in _VARIANCES.items()}
    predictions = {PREDICTIONS[theirs]: theirs for theirs in _PREDICTIONS}
    return {
        "_class_name": CLASS,
        "num_train_timesteps": schedule.get("steps", 1000),
        "variance_type": variances.get(recipe.get("variance", "small"), "fixed_small_log"),
        "clip_sample": recipe.get("clip", False),
        "clip_sample_range": recipe.get("clip_range", 1.0),
        "prediction_type": predictions.get(sampling.prediction["type"], "epsilon"),
        "beta_schedule": _BETAS,
    }
