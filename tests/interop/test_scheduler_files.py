"""What scheduler_config.json makes of each of our samplers, and what is refused in it."""

import json
import math
from functools import partial
from typing import Any

import numpy as np
import pytest

from diffjax.choices import build
from diffjax.diffusion.recipes import make_recipe, recipe_over
from diffjax.diffusion.sampling import start_std
from diffjax.diffusion.schedules import SCHEDULES
from diffjax.generate.pipeline import Pipeline
from diffjax.interop import pipelines, stable_diffusion
from diffjax.interop.scheduler import (
    SAMPLERS,
    own_recipe,
    read_scheduler,
    sampling_of,
    write_scheduler,
)
from diffjax.interop.stable_diffusion_original import _sampling as original_sampling

# Version 1.5's, as released.
SD1 = {
    "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "num_train_timesteps": 1000,
    "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None,
    "clip_sample": False,
}  # fmt: skip
SCHEDULE = build(SCHEDULES, "schedule", sampling_of(SD1).schedule)


def pipeline(config=SD1):
    sampling = sampling_of(config)
    recipe = {**sampling.recipe, "guidance": 7.5}
    return pipeline_of(sampling, recipe)


def pipeline_of(sampling, recipe):
    """A pipeline whose networks nobody asks for."""
    nothing: Any = None
    own = partial(own_recipe, sampling, recipe)
    return Pipeline(nothing, nothing, recipe, {}, recipe_of=own)


def grid_of(recipe):
    return recipe.make_grid(SCHEDULE)


@pytest.mark.parametrize("sampler", [s for s in SAMPLERS if SAMPLERS[s] != "PNDMScheduler"])
def test_a_chosen_sampler_reaches_the_clean_end(sampler):
    """Version 1's set_alpha_to_one = False is PNDM's and DDIM's; no other class reads it."""
    grid = grid_of(pipeline().make_recipe(sampler=sampler, steps=20))
    assert (grid.s.sigma[-1] == 0) == (sampler != "ddim")
    sampling = sampling_of(SD1)
    released = pipeline_of(sampling, {**sampling.recipe, "steps": 20})
    recipe = make_recipe(**released.full({"sampler": sampler}))
    np.testing.assert_array_equal(grid_of(recipe).s.sigma, grid.s.sigma)


def test_the_model_s_own_sampler_and_what_goes_beside():
    own = pipeline().make_recipe()
    assert own.sampler == "plms" and own.guidance.scale == 7.5
    chosen = pipeline().make_recipe(sampler="euler", steps=7)
    assert chosen.guidance.scale == 7.5 and chosen.grid["steps"] == 7
    assert grid_of(pipeline().make_recipe(sampler="plms", steps=7)).t.t[0] == 6 * 142 + 1
    with pytest.raises(ValueError, match="unknown sampler 'eular'; did you mean 'euler'"):
        pipeline().make_recipe(sampler="eular")


def test_fractional_times():
    """Seven of Euler's from 999 to 0, and sigma / alpha linear between the table's."""
    grid = grid_of(pipeline().make_recipe(sampler="euler", steps=7))
    np.testing.assert_allclose(grid.t.t, np.linspace(999, 0, 7), rtol=1e-12)
    ratio = SCHEDULE.level(np.array([832.0, 833.0])).ratio
    assert grid.t.ratio[1] == pytest.approx(ratio.mean(), rel=1e-12)  # 832.5
    assert start_std(grid) == pytest.approx(grid.t.sigma[0]) and start_std(grid) < 1
    ours = grid_of(pipeline().make_recipe(sampler="euler", steps=7, scheduler="own"))
    assert ours.t.t.tolist() == [999, 832, 666, 500, 333, 166, 0] and start_std(ours) == 1


def test_strides_whatever_the_next_time():
    """DDIM's steps from trailing times of 7 cover 142 levels each, 6 of them fall short."""
    sampling = sampling_of({**SD1, "_class_name": "DDIMScheduler", "timestep_spacing": "trailing"})
    recipe = make_recipe(**sampling.recipe, steps=7)
    t, s = grid_of(recipe)[:2]
    assert t.t.tolist() == [999, 856, 713, 570, 428, 285, 142]
    assert s.t.tolist() == [857, 714, 571, 428, 286, 143, 0]
    own = grid_of(make_recipe(**recipe_over(sampling.recipe, {"scheduler": "own"}, ()), steps=7))
    assert own.s.t.tolist() == [*own.t.t[1:], 0]


def test_an_offset_stays_with_its_spacing():
    """Version 1's offset of 1 is leading's: any other spacing does not inherit it."""
    for spacing in ("trailing", "linspace", "karras", "quadratic", "log_snr", "linspace_open"):
        for sampler in (None, "ddim", "euler", "dpmpp_2m"):
            grid = grid_of(pipeline().make_recipe(sampler=sampler, spacing=spacing, steps=10))
            assert grid.t.t[0] <= 999 and np.isfinite(grid.t.alpha).all()
    assert pipeline().make_recipe(spacing="leading").grid["offset"] == 1
    with pytest.raises(ValueError, match=r"steps=1000, offset=1 .* offset=0") as caught:
        grid_of(pipeline().make_recipe(steps=1000))
    assert "\n" not in str(caught.value)
    assert grid_of(pipeline().make_recipe(steps=1000, offset=0)).t.t[0] == 999
    # A run's own recipe, our rule.
    run = {"sampler": "ddim", "spacing": "leading", "offset": 1}
    assert "offset" not in recipe_over(run, {"spacing": "trailing"}, ())
    assert recipe_over(run, {"steps": 5}, ())["offset"] == 1


def test_a_sampler_is_refused_an_option_that_its_class_reads():
    """solver_order is DPM-Solver's: a file that PNDM wrote may hold it, and only it reads it."""
    third = pipeline({**SD1, "solver_order": 3, "thresholding": True})
    assert third.make_recipe(sampler="euler").sampler == "euler"
    for sampler, key in (
        ("dpmpp_2m", "solver_order=3|thresholding"),
        ("ddim", "thresholding=True"),
    ):
        with pytest.raises(
            ValueError, match=f"scheduler_config.json.*{sampler}.*({key})"
        ) as caught:
            third.make_recipe(sampler=sampler)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_train_timesteps": 10**12}, "num_train_timesteps=1000000000000"),
        ({"num_train_timesteps": 0}, "num_train_timesteps=0"),
        ({"num_train_timesteps": "1000"}, "num_train_timesteps='1000'"),
        ({"beta_start": math.nan}, "beta_start=nan"),
        ({"beta_end": 1.5}, "beta_end=1.5"),
        ({"beta_end": True}, "beta_end=True"),
        ({"steps_offset": -1}, "steps_offset=-1"),
        ({"steps_offset": [1]}, "steps_offset=.1."),
        ({"set_alpha_to_one": "no"}, "set_alpha_to_one='no'"),
        ({"timestep_spacing": None}, "timestep_spacing=None"),
        ({"prediction_type": {"a": {}}}, "prediction_type="),
        ({"trained_betas": [0.1]}, "trained_betas"),
        ({"invented": 1}, "invented=1"),
        ({"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True,
          "use_exponential_sigmas": True}, "exclude each other"),
        ({"_class_name": "HeunDiscreteScheduler", "use_karras_sigmas": True,
          "sigma_max": 14.0}, "sigma_max=14.0"),
        ({"_class_name": "EulerDiscreteScheduler", "final_sigmas_type": "one"}, "'one'"),
        ({"_class_name": "EulerDiscreteScheduler", "interpolation_type": "log_linear"},
         "interpolation_type='log_linear'"),
        ({"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous",
          "prediction_type": "v_prediction"}, "timestep_type='continuous'"),
        ({"_class_name": "DDPMScheduler", "variance_type": "fixed_large_log"}, "fixed_large_log"),
        ({"_class_name": "DDIMScheduler", "clip_sample": True, "clip_sample_range": 2.0},
         "clip_sample_range=2.0"),
        ({"_class_name": "DDIMScheduler", "rescale_betas_zero_snr": True,
          "timestep_spacing": "trailing"}, "rescale_betas_zero_snr"),
    ],
)  # fmt: skip
def test_what_a_file_may_not_say_is_one_line(change, said, tmp_path):
    file = tmp_path / "scheduler_config.json"
    file.write_text(json.dumps({**SD1, **change}))
    with pytest.raises(ValueError, match=said) as caught:
        read_scheduler(tmp_path)
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)


def test_what_changes_nothing_is_read(tmp_path):
    """Options beside the ones that would read them, and keys of classes that a file once was of."""
    idle = {"clip_sample_range": 2.0, "sample_max_value": 3.0, "predict_x0": True,
            "flow_shift": 3.0, "timestep_type": "continuous", "algorithm_type": "deis",
            "solver_type": "logrho", "use_karras_sigmas": None, "sigma_max": 14.0}  # fmt: skip
    sampling = sampling_of({**SD1, **idle})
    for sampler in SAMPLERS:
        assert own_recipe(sampling, sampling.recipe, sampler)["sampler"] == sampler


def test_a_file_is_written_back_as_it_was(tmp_path):
    """Missing keys stay missing, so that other classes go on to take them for their own."""
    write_scheduler(tmp_path, sampling_of(SD1))
    assert json.loads((tmp_path / "scheduler_config.json").read_text()) == SD1


@pytest.mark.parametrize("sampler", [s for s in SAMPLERS if s != "ode"])
@pytest.mark.parametrize("change", [
    {}, {"timestep_spacing": "trailing"}, {"use_karras_sigmas": True, "set_alpha_to_one": True},
    {"final_sigmas_type": "sigma_min", "algorithm_type": "sde-dpmsolver++"},
])  # fmt: skip
def test_a_recipe_is_written_without_its_file(sampler, change, tmp_path):
    sampling = sampling_of({**SD1, **change})
    sampling = sampling._replace(recipe=own_recipe(sampling, sampling.recipe, sampler))
    for known in (sampling, sampling._replace(said={})):
        write_scheduler(tmp_path, known)
        assert read_scheduler(tmp_path) == sampling
    if sampler == "dpmpp_2m" and not change:
        own = {k: v for k, v in sampling.recipe.items() if k not in ("scheduler", "between")}
        own |= {"spacing": "linspace_open"}
        write_scheduler(tmp_path, sampling._replace(recipe=own))
    with pytest.raises(ValueError, match=r"no place for \{'eta': 1.0\}"):
        write_scheduler(tmp_path, sampling._replace(recipe={**sampling.recipe, "eta": 1.0}))


def test_an_original_file_is_drawn_as_the_released_folder():
    sampling = original_sampling("eps")
    assert sampling == sampling_of(SD1)
    for sampler in SAMPLERS:
        made = [own_recipe(s, s.recipe, sampler) for s in (sampling, sampling_of(SD1))]
        assert made[0] == made[1]
    assert original_sampling("v").recipe["extrapolate"] == "v"


@pytest.mark.parametrize("missing", [("steps_offset",), ("clip_sample",), ()])
@pytest.mark.parametrize("kind", ["PNDMScheduler", "DDIMScheduler", "DDPMScheduler"])
@pytest.mark.parametrize("pipeline", stable_diffusion.PIPELINES)
def test_what_the_pipeline_sets(missing, kind, pipeline, tmp_path, monkeypatch):
    """steps_offset is 1 and clip_sample False whatever the file says or lacks."""
    for name in ("load_unet", "load_autoencoder", "load_text"):
        monkeypatch.setattr(stable_diffusion, name, lambda folder: None)
    for part in stable_diffusion.PARTS:
        (tmp_path / part).mkdir()
    index = {k: [lib, classes[0]] for k, (lib, classes) in stable_diffusion.PARTS.items()}
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": pipeline, **index}))
    said = {**SD1, "_class_name": kind, "steps_offset": 0, "clip_sample": True,
            "timestep_spacing": "leading", "skip_prk_steps": False}  # fmt: skip
    said = {k: v for k, v in said.items() if k not in missing}
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(said))
    sampling = stable_diffusion.load_stable_diffusion(tmp_path).sampling
    for sampler in SAMPLERS:
        recipe = own_recipe(sampling, sampling.recipe, sampler)
        assert not recipe.get("clip") and recipe["offset"] == 1
    if kind == "PNDMScheduler":
        inpaint = pipeline == "StableDiffusionInpaintPipeline"
        assert sampling.recipe["sampler"] == ("plms" if inpaint else "pndm")
    write_scheduler(tmp_path / "again", sampling)
    assert json.loads((tmp_path / "again" / "scheduler_config.json").read_text()) == said


def test_a_ddim_pipeline_draws_by_ddim(tmp_path, monkeypatch):
    """Whichever class its file is of: diffusers converts it."""
    monkeypatch.setattr(pipelines, "load_unet_2d", lambda folder: None)
    index = {"_class_name": "DDIMPipeline", "unet": ["diffusers", "UNet2DModel"],
             "scheduler": ["diffusers", "DDPMScheduler"]}  # fmt: skip
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text("{}")
    scheduler = {"_class_name": "DDPMScheduler", "beta_end": 0.02, "variance_type": "fixed_large"}
    (tmp_path / "scheduler_config.json").write_text(json.dumps(scheduler))
    found = pipelines.load_pipeline(tmp_path)
    assert found.sampling.recipe["sampler"] == "ddim" and found.steps == 50
    assert found.sampling.recipe["final"] == "clean" and found.sampling.recipe["clip"]
