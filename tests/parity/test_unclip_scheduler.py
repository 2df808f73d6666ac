"""Karlo's scheduler: whole trajectories equal diffusers', and its files go both ways."""

import json
from itertools import pairwise

import numpy as np
import pytest

from diffjax.choices import build
from diffjax.diffusion.predictions import PREDICTIONS
from diffjax.diffusion.recipes import make_recipe
from diffjax.diffusion.schedules import SCHEDULES
from diffjax.interop.unclip_scheduler import read_unclip_scheduler, write_unclip_scheduler

torch = pytest.importorskip("torch", reason="parity needs torch: pip install -e '.[parity]'")
diffusers = pytest.importorskip("diffusers", reason="parity needs diffusers: '.[parity]'")

from tests.parity.trajectories import TOLERANCE, Model, agree, draws, ours, torch_network  # noqa: E402

pytestmark = pytest.mark.parity

# Karlo's three, and what theirs makes of other settings.
FILES = {
    "prior": dict(prediction_type="sample", clip_sample_range=5.0),
    "decoder": dict(variance_type="learned_range"),
    "super_res": dict(variance_type="fixed_small_log"),
    "unclipped": dict(clip_sample=False, num_train_timesteps=100),
}


def theirs(scheduler, start, learned):
    """As their pipeline steps: `prev_timestep` is the next time, and none at the last."""
    states, z = [], torch.from_numpy(start)
    times = [*scheduler.timesteps, None]
    for t, after in pairwise(times):
        out = torch_network(z, t)
        if learned:
            out = torch.cat([out, torch.tanh(torch_network(z, t + 100.0))], 1)
        z = scheduler.step(out, t, z, prev_timestep=after).prev_sample
        states.append(z.numpy())
    return np.stack(states).astype(np.float64)


@pytest.mark.parametrize("steps", [7, 25])
@pytest.mark.parametrize("name", FILES)
def test_trajectories(name, steps, start, tmp_path, monkeypatch, record_property):
    import diffusers.schedulers.scheduling_unclip as module

    scheduler = diffusers.UnCLIPScheduler(**FILES[name])
    scheduler.save_pretrained(tmp_path)
    said = read_unclip_scheduler(tmp_path)
    schedule = build(SCHEDULES, "schedule", said.schedule)
    prediction = build(PREDICTIONS, "prediction", said.prediction)
    recipe = make_recipe(**said.recipe, steps=steps)
    learned = recipe.options["variance"] == "learned"
    rows = recipe.rows(schedule)
    a = ours(Model(prediction, learned=learned, guidance=recipe.guidance), rows, start)

    noise = list(draws(steps))
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: torch.from_numpy(noise.pop(0)))
    # Theirs is a product of 1,000 float32 factors: see `test_samplers_diffusers.test_tables`.
    table = scheduler.alphas_cumprod.numpy()
    assert np.max(np.abs(schedule.alphas_cumprod / table - 1)) < TOLERANCE
    scheduler.alphas_cumprod = torch.from_numpy(schedule.alphas_cumprod)
    scheduler.set_timesteps(steps)
    np.testing.assert_array_equal(rows.at.t, scheduler.timesteps.numpy())
    agree(a, theirs(scheduler, start, learned), record_property)


@pytest.mark.parametrize("name", FILES)
def test_a_file_goes_both_ways(name, tmp_path):
    scheduler = diffusers.UnCLIPScheduler(**FILES[name])
    scheduler.save_pretrained(tmp_path / "a")
    said = read_unclip_scheduler(tmp_path / "a")
    write_unclip_scheduler(tmp_path / "b", said._replace(said={}))
    again = diffusers.UnCLIPScheduler.from_pretrained(tmp_path / "b")
    plain = lambda s: {k: v for k, v in s.config.items() if k[0] != "_"}  # noqa: E731
    assert plain(again) == plain(scheduler)
    assert read_unclip_scheduler(tmp_path / "b") == said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(variance_type="fixed_large"), "variance_type='fixed_large' must be one of"),
        (dict(prediction_type="v_prediction"), "prediction_type='v_prediction' must be one of"),
        (dict(beta_schedule="linear"), "beta_schedule='linear' must be one of"),
        (dict(thresholding=True), "thresholding=True is not supported"),
        (dict(_class_name="DDPMScheduler"), "is of a 'DDPMScheduler'"),
    ],
)
def test_another_scheduler_is_one_line(tmp_path, change, said):
    config = {"_class_name": "UnCLIPScheduler", **change}
    (tmp_path / "scheduler_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError) as error:
        read_unclip_scheduler(tmp_path)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_what_theirs_has_no_place_for_is_refused(tmp_path):
    diffusers.UnCLIPScheduler().save_pretrained(tmp_path / "a")
    said = read_unclip_scheduler(tmp_path / "a")
    for wrong in (
        said._replace(recipe={**said.recipe, "sampler": "ddim"}),
        said._replace(recipe={**said.recipe, "variance": "large"}),
        said._replace(schedule={**said.schedule, "type": "linear"}),
        said._replace(prediction={"type": "v"}),
    ):
        with pytest.raises(ValueError, match="has no place for"):
            write_unclip_scheduler(tmp_path / "b", wrong)
    assert not (tmp_path / "b").exists()
