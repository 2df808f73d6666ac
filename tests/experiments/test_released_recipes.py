"""What a released model is drawn by, and trained by, where its files do not say it."""

import dataclasses

import pytest

from diffjax.diffusion.recipes import recipe_over
from diffjax.interop.scheduler import Sampling
from diffjax.pretrained import released
from diffjax.pretrained.released import from_pipeline, open_released
from tests.experiments.pipelines import pipeline


def test_a_file_of_dits_authors_is_guided_on_three_channels(tmp_path, monkeypatch):
    """Their `forward_with_cfg`, whatever sampler draws."""
    for name in ("load_dit_original", "load_autoencoder"):
        monkeypatch.setattr(released, name, lambda file: file)
    monkeypatch.setattr(released, "from_pipeline", lambda found: found)
    (tmp_path / "DiT.pt").touch()
    found = open_released(tmp_path / "DiT.pt", "dit", tmp_path / "vae")
    own = {**found.sampling.recipe, "steps": found.steps}
    assert (own["guidance_channels"], own["spacing"], own["steps"]) == (3, "linspace", 250)
    given = {"sampler": "heun", "guidance": 4.0}
    assert recipe_over(own, given, released._KEPT)["guidance_channels"] == 3
    all_four = recipe_over(own, {**given, "guidance_channels": None}, released._KEPT)
    assert all_four["guidance_channels"] is None


@pytest.mark.parametrize(("kind", "weighting"), [("v", {"type": "v_mse"}), ("eps", None)])
def test_a_network_that_says_v_is_weighed_by_it(kind, weighting):
    """Whose last level may hold no signal: nothing of it is refused."""
    made = pipeline()
    schedule = {**made.sampling.schedule, "zero_terminal_snr": kind == "v"}
    sampling = Sampling(schedule, {"type": kind}, made.sampling.recipe)
    model = from_pipeline(dataclasses.replace(made, sampling=sampling))
    assert model.sections["task"].get("weighting") == weighting
    assert model.sections["task"]["schedule"] == schedule
