"""scheduler_config.json drawn from on both sides: by diffusers' `from_config`, and by our recipes.

Two things are made the same beforehand, which are no matter of the rules. Their tables of
alphas_cumprod are float32 products, by which the least sigma of a table is off by 1e-4: they are
given ours (`test_tables` compares the tables). And ours is run in float64 by hand here, since a
jitted sampler per case costs more than the case; `test_samplers_diffusers` runs it by `sample`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import schedulers

from diffjax.choices import build
from diffjax.diffusion.grids import last_steps
from diffjax.diffusion.levels import take
from diffjax.diffusion.predictions import PREDICTIONS
from diffjax.diffusion.recipes import make_recipe, recipe_over
from diffjax.diffusion.samplers import SAMPLERS as RULES
from diffjax.diffusion.sampling import start_std
from diffjax.diffusion.schedules import SCHEDULES
from diffjax.interop.scheduler import SAMPLERS, Sampling, own_recipe, read_scheduler
from tests.parity.trajectories import SHAPE, network, torch_network

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
LINEAR = {"beta_start": 0.0001, "beta_end": 0.02}
_DPM, _EULER = "DPMSolverMultistepScheduler", "EulerDiscreteScheduler"
_NOISY = ("ddpm", "ddim", "dpmsolver_multistep")
# As released, and for every choice that a file has; keys are missing as they are in such files.
SOURCES = {
    "sd1": ("PNDMScheduler", dict(**SD, num_train_timesteps=1000, set_alpha_to_one=False,
            skip_prk_steps=True, steps_offset=1, trained_betas=None, clip_sample=False)),
    "sd1_saved": ("PNDMScheduler", dict(**SD, set_alpha_to_one=False, skip_prk_steps=True,
                  steps_offset=1, timestep_spacing="leading", prediction_type="epsilon")),
    "sd2": ("DDIMScheduler", dict(**SD, clip_sample=False, prediction_type="v_prediction",
            set_alpha_to_one=False, skip_prk_steps=True, steps_offset=1, trained_betas=None)),
    "sd_turbo": (_EULER, dict(**SD, timestep_spacing="trailing", interpolation_type="linear",
                 use_karras_sigmas=False, steps_offset=1, set_alpha_to_one=False,
                 skip_prk_steps=True, clip_sample=False, sigma_min=None, sample_max_value=1.0)),
    "zero_snr": ("DDIMScheduler", dict(**SD, clip_sample=False, prediction_type="v_prediction",
                 set_alpha_to_one=False, rescale_betas_zero_snr=True, steps_offset=1,
                 timestep_spacing="trailing")),
    "zero_snr_karras": (_EULER, dict(**SD, prediction_type="v_prediction", use_karras_sigmas=True,
                        rescale_betas_zero_snr=True)),
    "zero_snr_leading": ("DDIMScheduler", dict(**SD, rescale_betas_zero_snr=True)),
    "cifar10": ("DDPMScheduler", dict(**LINEAR, beta_schedule="linear", clip_sample=True,
                variance_type="fixed_large", tensor_format="pt")),
    "dit": ("DDIMScheduler", dict(**LINEAR, clip_sample=False, set_alpha_to_one=True)),
    "bare": ("DDPMScheduler", {}),
    "cosine": ("DDPMScheduler", dict(beta_schedule="squaredcos_cap_v2", clip_sample=False,
               prediction_type="sample", variance_type="fixed_small_log")),
    "cosine_trailing": ("DDIMScheduler", dict(beta_schedule="squaredcos_cap_v2", clip_sample=False,
                        timestep_spacing="trailing", prediction_type="v_prediction")),
    "cosine_karras": (_DPM, dict(beta_schedule="squaredcos_cap_v2", use_karras_sigmas=True)),
    "ddim_linspace": ("DDIMScheduler", dict(**LINEAR, clip_sample=True,
                      timestep_spacing="linspace")),
    "pndm_linspace": ("PNDMScheduler", dict(**SD, timestep_spacing="linspace",
                      prediction_type="v_prediction")),
    "pndm_trailing": ("PNDMScheduler", dict(**SD, timestep_spacing="trailing",
                      set_alpha_to_one=True, skip_prk_steps=True)),
    "euler_karras": (_EULER, dict(**SD, use_karras_sigmas=True)),
    "heun_karras_leading": ("HeunDiscreteScheduler", dict(**SD, use_karras_sigmas=True,
                            timestep_spacing="leading", steps_offset=1, clip_sample=True)),
    "dpm_exponential": (_DPM, dict(**SD, use_exponential_sigmas=True)),
    "euler_exponential_trailing": (_EULER, dict(**LINEAR, use_exponential_sigmas=True,
                                   timestep_spacing="trailing")),
    "sigma_min": (_DPM, dict(**SD, final_sigmas_type="sigma_min", timestep_spacing="trailing")),
    "sde": (_DPM, dict(**SD, algorithm_type="sde-dpmsolver++", timestep_spacing="leading",
            steps_offset=1)),
    "thousandth": ("DDIMScheduler", dict(num_train_timesteps=100, beta_start=0.001, beta_end=0.2,
                   clip_sample=False, timestep_spacing="linspace")),
    "once_unipc": (_DPM, dict(**SD, solver_type="bh2", predict_x0=True, disable_corrector=[],
                   steps_offset=1, timestep_spacing="linspace")),
}  # fmt: skip
START = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
IMAGE = np.random.default_rng(1).uniform(-1, 1, SHAPE).astype(np.float32)


def noise_of(count, last=1.0):
    """What a trajectory of `count` evaluations draws, the last draw times `last`."""
    noise = np.random.default_rng(5).standard_normal((count, *SHAPE)).astype(np.float32)
    noise[-1:] *= last
    return noise


@dataclass(frozen=True)
class Pair:
    """A file, its scheduler there and what it says here, one of our samplers chosen over it."""

    source: Any
    sampling: Sampling
    sampler: str

    @classmethod
    def of(cls, kind, settings, sampler, folder):
        (folder / "scheduler_config.json").write_text(json.dumps({"_class_name": kind, **settings}))
        source = getattr(schedulers, kind).from_pretrained(folder)
        return cls(source, read_scheduler(folder), sampler)

    @property
    def schedule(self) -> Any:
        return build(SCHEDULES, "schedule", self.sampling.schedule)

    def recipe(self, steps, **given):
        given |= {"sampler": self.sampler}
        own = own_recipe(self.sampling, self.sampling.recipe, self.sampler)
        return make_recipe(**recipe_over(own, given, ()), steps=steps)

    def scheduler(self, **given):
        """Theirs, which draws by our float64 table."""
        kind = getattr(schedulers, SAMPLERS[self.sampler])
        if self.sampler in ("plms", "pndm"):
            given |= {"skip_prk_steps": self.sampler == "plms"}
        made = kind.from_config(self.source.config, **given)
        table, last = self.schedule.alphas_cumprod.copy(), made.alphas_cumprod[-1].item()
        if self.schedule.zero_terminal_snr and last < 1e-6:
            table[-1] = last  # 0, or what they put in its place
        made.own_table = made.alphas_cumprod.numpy()
        made.alphas_cumprod = torch.from_numpy(table)
        if hasattr(made, "final_alpha_cumprod") and made.final_alpha_cumprod != 1.0:
            made.final_alpha_cumprod = made.alphas_cumprod[0]
        return made

    def theirs(self, steps, monkeypatch, strength=None, last_noise=1.0, **given):
        """States `[N, *SHAPE]`, from their first state on."""
        scheduler = self.scheduler(**given)
        scheduler.set_timesteps(steps)
        begin = steps - int(steps * strength) if strength is not None else 0
        times = scheduler.timesteps[begin * scheduler.order :]
        if hasattr(scheduler, "set_begin_index"):  # as their pipelines do for images
            scheduler.set_begin_index(begin * scheduler.order)
        queue = list(noise_of(len(times), last_noise))
        for name in _NOISY:
            module = getattr(schedulers, f"scheduling_{name}")
            draw = lambda shape, **_: torch.from_numpy(queue.pop(0))  # noqa: E731
            monkeypatch.setattr(module, "randn_tensor", draw)
        start, states = torch.from_numpy(START), []
        if strength is None:
            z = start * scheduler.init_noise_sigma
        else:
            z = scheduler.add_noise(torch.from_numpy(IMAGE), start, times[:1])
        # The noise of the clipped image, as here.
        step = {"use_clipped_model_output": True} if self.sampler == "ddim" else {}
        for t in times:
            out = torch_network(scheduler.scale_model_input(z, t), t)
            z = scheduler.step(out, t, z.float(), **step).prev_sample
            states.append(z.double().numpy())
        return np.stack(states)

    def ours(self, steps, strength=None, last_noise=1.0, **given):
        """The same, in their coordinates."""
        recipe, schedule = self.recipe(steps, **given), self.schedule
        grid = recipe.make_grid(schedule)
        z = start_std(grid) * START.astype(np.float64)
        if strength is not None:
            grid = last_steps(grid, strength)
            z = grid.t.alpha[0] * IMAGE + grid.t.sigma[0] * START
        rows = RULES[recipe.sampler](grid, **recipe.options)
        prediction = PREDICTIONS[self.sampling.prediction["type"]]()
        states = by_hand(rows, z, prediction, recipe.guidance.clip, last_noise)
        if SAMPLERS[self.sampler] not in (_EULER, "HeunDiscreteScheduler"):
            return states
        alpha = np.append(rows.at.alpha[1:], grid.s.alpha[-1])
        return states / alpha.reshape(-1, 1, 1, 1, 1)


def by_hand(rows, z, prediction, clip, last_noise):
    """What `sample` does with a table, in numpy and float64."""
    memory, states = np.zeros((rows.past_coef.shape[1], *z.shape)), []
    noise = noise_of(rows.nfe, last_noise).astype(np.float64)
    for i in range(rows.nfe):
        level = take(rows.at, i)
        z = rows.scale[i] * z + rows.churn[i] * noise[i]
        a, b = prediction.mix(level)
        out = network(z, level.t, np)
        x = (b * z - level.sigma * out) / (level.alpha * b - level.sigma * a)
        x = np.clip(x, -1, 1) if clip else x
        after = rows.z_coef[i] * z + rows.x_coef[i] * x + rows.noise_coef[i] * noise[i]
        if len(memory):
            after = after + np.tensordot(rows.past_coef[i], memory, 1)
            kept = rows.keep_z[i] * z + rows.keep_x[i] * x
            memory = np.concatenate([kept[None], memory[:-1]])
        z = after
        states.append(z)
    return np.stack(states)


def error(a, b):
    """The largest over the trajectory, relative to the largest value of each state."""
    assert a.shape == b.shape
    axes = tuple(range(1, a.ndim))
    return np.max(np.max(np.abs(a - b), axes) / np.max(np.abs(b), axes))
